//! Tracepoint: what the device did not take. A frame that is sent on to a device has no result; the kernel hands the
//! frames over in bulks of at most 16, and says of each bulk how many its driver took (`bq_xmit_all` in
//! kernel/bpf/devmap.c).

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use fanblade_abi::lane::{Lost, Sender};

use crate::maps::{LOST, SENDER};

/// Arguments: the devices from and to, how many frames were sent and how many dropped, the error.
#[btf_tracepoint(function = "xdp_devmap_xmit")]
pub fn lane_drops(ctx: BtfTracePointContext) -> i32 {
    let (sent, dropped, error) = (ctx.arg::<u32>(2), ctx.arg::<u32>(3), ctx.arg::<i32>(4));
    let Some(sender) = SENDER.get_ptr_mut(0) else { return 0 };
    // SAFETY: the entry stays where it is. If the bulk is the sender's, the sending program waits for its end on this
    // CPU; otherwise nothing is written.
    let sender = unsafe { &mut *sender };
    if is_of(sender, sent.wrapping_add(dropped)) {
        log(sender, sent, dropped, error);
    }
    0
}

/// Is a bulk the sender's? The kernel makes a batch of the sender's frames and hands all its bulks over without letting
/// anybody else run on the CPU. So a bulk is the sender's if it is on the sender's CPU while frames are on their way.
#[inline(always)]
fn is_of(sender: &Sender, frames: u32) -> bool {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    sender.cpu == cpu && frames <= sender.redirected.wrapping_sub(sender.passed)
}

/// The last frames of a bulk are those that the driver did not take.
#[inline(always)]
fn log(sender: &mut Sender, sent: u32, dropped: u32, error: i32) {
    if dropped > 0
        && let Some(entry) = LOST.get_ptr_mut(sender.losses)
    {
        let first = sender.passed.wrapping_add(sent);
        // SAFETY: an entry of an array, which userspace reads after the run.
        unsafe { *entry = Lost { first, count: dropped, error, reserved: 0 } };
        sender.losses = sender.losses.wrapping_add(1);
        sender.lost = sender.lost.wrapping_add(dropped);
    }
    sender.passed = sender.passed.wrapping_add(sent).wrapping_add(dropped);
}
