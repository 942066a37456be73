//! Verifies the checksum of a segment.

use core::ffi::c_void;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_loop;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use fanblade_abi::lane::Path;
use fanblade_abi::lane::receive::DATA_LEN_MAX;
use fanblade_abi::lane::segment::is_sum_right;
use fanblade_abi::packet::{Bytes as _, Segment};

use crate::maps::SCRATCH;
use crate::packet::Packet;
use crate::verifier::forgotten;

/// Is the checksum of a segment with at most `DATA_LEN_MAX` bytes of payload right?
#[inline(always)]
pub fn is_right(ctx: *mut xdp_md, packet: &Packet, segment: &Segment, path: &Path) -> bool {
    let at = segment.tcp_at as usize;
    let Some(fixed) = packet.read::<20>(at) else { return false };
    let sum = match segment.tcp_len() {
        // Most acknowledgements: with timestamps, and with no options.
        32 => packet.read::<32>(at).map(|bytes| words(&bytes)),
        20 => Some(words(&fixed)),
        len => long(ctx, segment.tcp_at, len),
    };
    let field = u16::from_ne_bytes([fixed[16], fixed[17]]);
    sum.is_some_and(|sum| is_sum_right(segment, sum, field, path.has(Path::UNSUMMED)))
}

/// The sum of words of four bytes, which is that of words of two bytes once it is folded.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at + 4 <= N {
        sum += u64::from(u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
        at += 4;
    }
    sum
}

/// The sum of `len` bytes from `at` on, by way of the scratch: they may lie in several buffers.
#[inline(always)]
fn long(ctx: *mut xdp_md, at: u32, len: u32) -> Option<u64> {
    let scratch = SCRATCH.get_ptr_mut(0)?;
    // 6.1's verifier takes this for the lower bound, too.
    let before_last = forgotten(u64::from(len.wrapping_sub(1)));
    if before_last > LEN_MAX - 1 {
        return None;
    }
    let last_word = before_last as usize / 8;
    // SAFETY: (both) the scratch of this CPU, and a length within it. The last word is filled up with zeros.
    unsafe {
        (*scratch).bytes[last_word] = 0;
        let bytes = (&raw mut (*scratch).bytes).cast();
        if bpf_xdp_load_bytes(ctx, at, bytes, before_last as u32 + 1) != 0 {
            return None;
        }
    }
    let mut sum = 0_u64;
    // SAFETY: the callback has the signature that `bpf_loop` calls, and the state is the sum, which lives until after
    // the call.
    unsafe { bpf_loop(last_word as u32 + 1, add_word as *const () as *mut c_void, (&raw mut sum).cast(), 0) };
    Some(sum)
}

/// Not `no_mangle`: the verifier takes only static functions as callbacks.
unsafe extern "C" fn add_word(index: u32, sum: *mut c_void) -> i64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return STOP };
    let index = forgotten(u64::from(index)) as usize;
    if index >= WORDS_MAX {
        return STOP;
    }
    // SAFETY: the scratch of this CPU, which nobody refers to, and the state that `long` has passed.
    unsafe {
        let word = (*scratch).bytes[index];
        *sum.cast::<u64>() += (word & 0xffff_ffff) + (word >> 32);
    }
    CONTINUE
}

/// The longest TCP header, and the longest payload that is taken.
const LEN_MAX: u64 = 60 + DATA_LEN_MAX as u64;
const WORDS_MAX: usize = (LEN_MAX as usize).div_ceil(8);
const CONTINUE: i64 = 0;
const STOP: i64 = 1;
