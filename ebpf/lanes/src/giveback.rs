//! XDP, but not for packets that come: userspace runs it over a packet that was held back (`BPF_PROG_RUN` with live
//! frames), and the kernel takes the packet as if it had just come by the interface that the context names.

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use fanblade_abi::lane::LaneVerdict;

use crate::maps::count;

#[xdp(frags)]
pub fn lane_giveback(_ctx: XdpContext) -> u32 {
    count(LaneVerdict::GivebackPassed);
    XDP_PASS
}
