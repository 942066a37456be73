//! XDP: takes the packets of the lanes' clients. The packets of others pass untouched.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use fanblade_abi::lane::receive::DATA_LEN_MAX;
use fanblade_abi::lane::record::FRAME_LEN_MAX;
use fanblade_abi::lane::{Drop, Header, Lane, LaneVerdict, Outcome, Reason, Record, Sending};
use fanblade_abi::packet::{Other, Segment, parse};

use crate::clock::{milliseconds, now_ns};
use crate::lookup::{Found, find, flow_in};
use crate::maps::{LANE_CONFIG, Parsed, SCRATCH, count};
use crate::packet::Packet;
use crate::records::{Untold, tell, tell_alone};
use crate::sum;

/// `frags`: works on interfaces whose packets span several buffers (jumbo frames), too. The first has the headers.
#[xdp(frags)]
pub fn lane_receive(ctx: XdpContext) -> u32 {
    let ctx = ctx.as_ptr().cast::<xdp_md>();
    // SAFETY: the context is the one that the kernel passed in.
    let packet = unsafe {
        Packet {
            data: (*ctx).data as usize,
            data_end: (*ctx).data_end as usize,
            frame_len: bpf_xdp_get_buff_len(ctx) as u32,
        }
    };
    if let Err(verdict) = read(&packet) {
        count(verdict);
        return XDP_PASS;
    }
    match find_and_take(ctx, &packet) {
        Some(verdict) => {
            count(verdict);
            XDP_DROP
        }
        None => {
            count(LaneVerdict::ReceiveNoLane);
            XDP_PASS
        }
    }
}

/// Reads the headers into the scratch; or says why the packet is not for us.
#[inline(always)]
fn read(packet: &Packet) -> Result<(), LaneVerdict> {
    let segment = parse(packet).map_err(|other| match other {
        Other::NotIp => LaneVerdict::ReceiveNotIp,
        Other::NotTcp => LaneVerdict::ReceiveNotTcp,
        Other::Fragment => LaneVerdict::ReceiveFragment,
        Other::Runt => LaneVerdict::ReceiveRunt,
        Other::Malformed => LaneVerdict::ReceiveMalformed,
        Other::TooDeep => LaneVerdict::ReceiveTooDeep,
    })?;
    if !LANE_CONFIG.get(0).is_some_and(|config| config.has_port(segment.dst_port)) {
        return Err(LaneVerdict::ReceiveNotOurs);
    }
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(LaneVerdict::ReceiveNoLane)?;
    let flow = flow_in(&segment);
    let Segment { packet_len, tcp_at, payload_at, headers_len, flags, .. } = segment;
    let parsed = Parsed { flow, packet_len, tcp_at, payload_at, headers_len, flags: u32::from(flags), reserved: 0 };
    // SAFETY: the scratch of this CPU.
    unsafe { (*scratch).parsed = parsed };
    Ok(())
}

/// `None`: the segment is of no lane.
#[inline(always)]
fn find_and_take(ctx: *mut xdp_md, packet: &Packet) -> Option<LaneVerdict> {
    let scratch = SCRATCH.get_ptr(0)?;
    // SAFETY: the scratch of this CPU, in which `read` has put this, and nobody writes it until the end.
    let parsed = unsafe { &(*scratch).parsed };
    let found = find(&parsed.flow)?;
    Some(take(ctx, packet, &parsed.segment(), &found))
}

/// Takes a packet of a lane's client.
#[inline(always)]
fn take(ctx: *mut xdp_md, packet: &Packet, segment: &Segment, found: &Found) -> LaneVerdict {
    // SAFETY: the entry stays where it is. The packets of a connection come one after the other, so that nobody else
    // writes the receiver's line; userspace writes there only while the lane is held, and then only the counters are
    // written here. The sender's line is only read.
    let lane = unsafe { &mut *found.lane };
    lane.receiving.packets = lane.receiving.packets.wrapping_add(1);
    lane.receiving.bytes += u64::from(segment.packet_len);

    let record = Record {
        lane: found.index,
        generation: lane.sending.generation,
        // SAFETY: the context is the one that the kernel passed in.
        interface: unsafe { (*ctx).ingress_ifindex },
        ..Record::default()
    };
    if lane.sending.has(Sending::HELD) || lane.receiving.raised != 0 {
        let told = tell(ctx, Record { kind: Record::HELD, ..record }, 0, packet.frame_len);
        return verdict(told, LaneVerdict::ReceiveHeld, LaneVerdict::ReceiveHeldLost);
    }
    let Some(header) = Header::read(packet, segment) else {
        // Its options begin in one buffer and end in the next: they are not read here.
        lane.receiving.raised = Reason::Options as u8;
        return raise(ctx, packet, record, Reason::Options);
    };
    // What is longer raises the lane or is dropped, whatever it says; if it goes on, Linux verifies it.
    if header.payload_len <= DATA_LEN_MAX && !sum::is_right(ctx, packet, segment, found.path) {
        return LaneVerdict::ReceiveBadSum;
    }
    let now_ns = now_ns();
    let outcome = lane.receive(&header, milliseconds(now_ns), now_ns);
    let told = if outcome.is_answered() { tell_alone(Record { kind: Record::ANSWER, ..record }) } else { Ok(()) };
    match outcome {
        Outcome::Taken => LaneVerdict::ReceiveTaken,
        Outcome::Data { len } => data(ctx, segment, lane, record, len),
        Outcome::Answer => verdict(told, LaneVerdict::ReceiveAnswer, LaneVerdict::ReceiveAnswerLost),
        Outcome::Drop(Drop::ResetOutside) => LaneVerdict::ReceiveResetOutside,
        Outcome::Drop(Drop::TooOld) => verdict(told, LaneVerdict::ReceiveTooOld, LaneVerdict::ReceiveAnswerLost),
        Outcome::Drop(Drop::NoAck) => LaneVerdict::ReceiveNoAck,
        Outcome::Raise(reason) => raise(ctx, packet, record, reason),
    }
}

/// Gives the payload to userspace, and only then goes on behind it: what finds no room, the client sends again.
#[inline(always)]
fn data(ctx: *mut xdp_md, segment: &Segment, lane: &mut Lane, record: Record, len: u32) -> LaneVerdict {
    if tell(ctx, Record { kind: Record::DATA, ..record }, segment.payload_at, len).is_err() {
        return LaneVerdict::ReceiveDataLost;
    }
    lane.receiving.received(len);
    LaneVerdict::ReceiveData
}

/// Gives the packet that raises its lane to userspace; if it is too long for a record, only the reason.
#[inline(always)]
fn raise(ctx: *mut xdp_md, packet: &Packet, record: Record, reason: Reason) -> LaneVerdict {
    let record = Record { kind: Record::RAISE, reason: reason as u8, ..record };
    let is_long = packet.frame_len > FRAME_LEN_MAX;
    let told = if is_long { tell_alone(record) } else { tell(ctx, record, 0, packet.frame_len) };
    verdict(told, LaneVerdict::ReceiveRaised, LaneVerdict::ReceiveRaisedLost)
}

#[inline(always)]
fn verdict(told: Result<(), Untold>, when_told: LaneVerdict, when_not: LaneVerdict) -> LaneVerdict {
    if told.is_ok() { when_told } else { when_not }
}
