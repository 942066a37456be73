//! tcx egress: the kernel knows no socket of a lane, and would reset its connection if one of the client's packets came
//! through to it. Every other packet goes on to the next program untouched.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use fanblade_abi::lane::LaneVerdict;
use fanblade_abi::packet::{RST, parse};

use crate::lookup::{find, flow_out};
use crate::maps::count;
use crate::packet::Packet;

#[classifier]
pub fn lane_guard(ctx: TcContext) -> i32 {
    // A reset of the kernel is short, and lies in one piece.
    let packet = Packet { data: ctx.data(), data_end: ctx.data_end(), frame_len: ctx.len() };
    let is_reset_of_lane =
        parse(&packet).is_ok_and(|segment| segment.flags & RST != 0 && find(&flow_out(&segment)).is_some());
    if is_reset_of_lane {
        count(LaneVerdict::GuardDropped);
        return TC_ACT_SHOT;
    }
    count(LaneVerdict::GuardPassed);
    // "Next": the next attached program decides.
    TC_ACT_UNSPEC
}
