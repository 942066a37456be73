//! XDP: counts what the interface receives. Every packet passes untouched.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use fanblade_abi::Verdict;

use crate::flow::{Direct, Direction, Verdicts, account};
use crate::maps::is_worth_a_line;

/// `frags`: works on interfaces whose packets span several buffers (jumbo frames), too. The first has the headers.
#[xdp(frags)]
pub fn ingress(ctx: XdpContext) -> u32 {
    // SAFETY: the context is the one that the kernel passed in.
    let frame_len = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) } as u32;
    let frame = Direct { data: ctx.data(), data_end: ctx.data_end(), frame_len };
    if let Some(lost) = account(&frame, Direction::In, 1, &VERDICTS)
        && is_worth_a_line(lost)
    {
        warn!(&ctx, "ingress: the flow table took no entry, {} times on this CPU", lost);
    }
    XDP_PASS
}

const VERDICTS: Verdicts = Verdicts {
    counted: Verdict::IngressCounted,
    flow_lost: Verdict::IngressFlowLost,
    not_ours: Verdict::IngressNotOurs,
    not_tcp: Verdict::IngressNotTcp,
    not_ip: Verdict::IngressNotIp,
    fragment: Verdict::IngressFragment,
    runt: Verdict::IngressRunt,
    malformed: Verdict::IngressMalformed,
    too_deep: Verdict::IngressTooDeep,
};
