//! tcx egress: counts what the interface sends. Every packet goes on to the next program untouched.

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use fanblade_abi::Verdict;

use crate::flow::{Direct, Direction, Verdicts, account};
use crate::maps::is_worth_a_line;

#[classifier]
pub fn egress(ctx: TcContext) -> i32 {
    // The packets of our own TCP have their headers in the linear part. A forwarded packet may have fewer bytes
    // there: pull its headers in.
    let linear_len = (ctx.data_end() - ctx.data()) as u32;
    if linear_len < LINEAR_LEN_WANTED && linear_len < ctx.len() {
        let wanted = if ctx.len() < LINEAR_LEN_WANTED { ctx.len() } else { LINEAR_LEN_WANTED };
        // A packet that cannot be pulled in is counted as a runt.
        let _: Result<(), _> = ctx.pull_data(wanted);
    }
    let frame = Direct { data: ctx.data(), data_end: ctx.data_end(), frame_len: ctx.len() };
    // The kernel hands over up to 64 KiB at once, and the card cuts them up: count the packets on the wire.
    // SAFETY: the context is the one that the kernel passed in.
    let cut_into = unsafe { (*ctx.skb.skb).gso_segs };
    let segments = if cut_into == 0 { 1 } else { cut_into };
    if let Some(lost) = account(&frame, Direction::Out, segments, &VERDICTS)
        && is_worth_a_line(lost)
    {
        warn!(&ctx, "egress: the flow table took no entry, {} times on this CPU", lost);
    }
    // "Next": the next attached program decides.
    TC_ACT_UNSPEC
}

/// Ethernet with two tags, IPv6, TCP with options: enough for the headers of all but contrived packets.
const LINEAR_LEN_WANTED: u32 = 14 + 8 + 40 + 60;

const VERDICTS: Verdicts = Verdicts {
    counted: Verdict::EgressCounted,
    flow_lost: Verdict::EgressFlowLost,
    not_ours: Verdict::EgressNotOurs,
    not_tcp: Verdict::EgressNotTcp,
    not_ip: Verdict::EgressNotIp,
    fragment: Verdict::EgressFragment,
    runt: Verdict::EgressRunt,
    malformed: Verdict::EgressMalformed,
    too_deep: Verdict::EgressTooDeep,
};
