//! Tells userspace, through the ring buffer.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use fanblade_abi::lane::Record;
use fanblade_abi::lane::record::FRAME_LEN_MAX;

use crate::maps::{RECORDS, SCRATCH};
use crate::verifier::forgotten;

/// The record did not get through: the ring buffer is full, or the packet too long for it.
pub struct Untold;

/// Writes a record with the `len` bytes of the packet from `at` on.
#[inline(always)]
pub fn tell(ctx: *mut xdp_md, record: Record, at: u32, len: u32) -> Result<(), Untold> {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return Err(Untold) };
    // 6.1's verifier takes this for the lower bound, too.
    let before_last = forgotten(u64::from(len.wrapping_sub(1)));
    if before_last > u64::from(FRAME_LEN_MAX - 1) {
        return Err(Untold);
    }
    let len = before_last as u32 + 1;
    // SAFETY: the scratch of this CPU, which has room for so many bytes; the helpers check the rest.
    unsafe {
        (*scratch).record = Record { len, ..record };
        if bpf_xdp_load_bytes(ctx, at, (&raw mut (*scratch).bytes).cast(), len) != 0 {
            return Err(Untold);
        }
        output((&raw const (*scratch).record).cast(), size_of::<Record>() + len as usize)
    }
}

/// Writes a record without bytes.
#[inline(always)]
pub fn tell_alone(record: Record) -> Result<(), Untold> {
    // SAFETY: a local of that length.
    unsafe { output((&raw const record).cast(), size_of::<Record>()) }
}

/// # Safety
///
/// `bytes` points to `len` bytes of the stack or of a map's entry.
#[inline(always)]
unsafe fn output(bytes: *const u8, len: usize) -> Result<(), Untold> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, len) };
    RECORDS.output_untyped::<[u8]>(bytes, 0).map_err(|_full| Untold)
}
