//! What a lane sends: whether it may, and the headers of the packet.

use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

use super::checksum::fold;
use super::{Lane, Path, Sending, Seq};
use crate::packet::{
    ACK, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_VLAN, ETHERNET_LEN, IPV4_LEN, IPV6_LEN, PSH, TCP_LEN, VLAN_LEN,
};

/// Entry of `WORK`: one packet of one lane. The entries are a ring, and stay as a record of what was sent until the
/// ring comes round: by `previous`, userspace finds all that a lane has in flight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Index of the lane.
    pub lane: u32,
    /// Where the payload begins in `SLOTS`, in units of [`SLOT_UNIT`] bytes.
    pub slot: u32,
    /// The number of the first byte. After an item of the lane that was refused, the next ones are, too.
    pub seq: Seq,
    /// The place in `WORK` of the lane's item before this one. The program does not look at it.
    pub previous: u32,
    /// Bytes of payload; 0: an acknowledgement only, whatever its `seq`.
    pub len: u16,
    /// Folded sum of the payload.
    pub sum: u16,
    /// [`super::Sending::generation`] of the lane that it is for.
    pub generation: u16,
    /// What became of it: [`Item::WAITING`], [`Item::SENT`] or a [`Refusal`].
    pub outcome: u16,
}

impl Item {
    /// `outcome` before the program has come to the item.
    pub const WAITING: u16 = 0;
    /// `outcome` of a packet that was made.
    pub const SENT: u16 = 1;
    /// `previous` of a lane's first item.
    pub const NONE: u32 = u32::MAX;
}

/// Unit of [`Item::slot`], in bytes.
pub const SLOT_UNIT: u32 = 8;

/// Whether a lane may send now.
pub type Admission = Result<(), Refusal>;

/// Why a lane does not send an item.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No lane has this index, or another connection has it now.
    Gone = 2,
    /// It is between lane and socket, or to be raised.
    Held,
    /// The client's window is full.
    Window,
    /// As much is in flight as the lane may have.
    InFlight,
    /// Longer than a segment.
    TooLong,
    /// Not the next bytes of the lane: an item before it was refused.
    OutOfTurn,
    /// The program could not make the packet.
    Failed,
}

impl Lane {
    /// May it send `len` bytes of payload from `seq` on now?
    ///
    /// # Errors
    /// The reason why not.
    #[inline(always)]
    pub fn admit(&self, generation: u16, seq: Seq, len: u32) -> Admission {
        let (sending, receiving) = (&self.sending, &self.receiving);
        if !sending.has(Sending::USED) || sending.generation != generation {
            return Err(Refusal::Gone);
        }
        if sending.has(Sending::HELD) || receiving.raised != 0 {
            return Err(Refusal::Held);
        }
        if len > u32::from(sending.mss) {
            return Err(Refusal::TooLong);
        }
        if len == 0 {
            return Ok(());
        }
        if sending.snd_nxt != seq {
            return Err(Refusal::OutOfTurn);
        }
        let in_flight = seq.since(receiving.snd_una) + len;
        // The window last: the receiver writes it first (`Receiving::acknowledge`), so that this one begins where we
        // think or further on.
        compiler_fence(SeqCst);
        if in_flight > receiving.window {
            return Err(Refusal::Window);
        }
        if in_flight > sending.in_flight_max {
            return Err(Refusal::InFlight);
        }
        Ok(())
    }

    /// Counts a packet with `len` bytes of payload as sent. `told`: the acknowledgement that it has, as [`headers`]
    /// returned it; the receiver may have gone on since. `packet_len`: its IP packet.
    #[inline(always)]
    pub fn sent(&mut self, told: Seq, len: u32, packet_len: u32) {
        let sending = &mut self.sending;
        sending.snd_nxt = sending.snd_nxt.plus(len);
        sending.acked = told;
        sending.packets = sending.packets.wrapping_add(1);
        sending.bytes += u64::from(packet_len);
    }
}

/// Bytes of a packet that can be written.
pub trait Put {
    /// Writes `bytes` at `offset`, below [`HEADERS_LEN_MAX`].
    fn put<const N: usize>(&mut self, offset: usize, bytes: [u8; N]);
}

/// The longest headers: Ethernet with a tag, IPv6, TCP with timestamps.
pub const HEADERS_LEN_MAX: usize = ETHERNET_LEN + VLAN_LEN + IPV6_LEN + TCP_LEN + TIMESTAMPS_LEN;

/// How long the headers of a lane's packets are, from the link layer to the payload, in bytes.
#[inline(always)]
#[must_use]
pub const fn headers_len(path: &Path, sending: &Sending) -> usize {
    link_len(path) + ip_len(path) + tcp_len(sending)
}

/// How long the lane's packet with `len` bytes of payload is, IP header included, without the link layer.
#[expect(clippy::cast_possible_truncation, reason = "headers are short")]
#[inline(always)]
#[must_use]
pub const fn packet_len(path: &Path, sending: &Sending, len: u32) -> u32 {
    (ip_len(path) + tcp_len(sending)) as u32 + len
}

/// Writes all headers of the lane's next packet: `len` bytes of payload, whose folded sum is `payload_sum`. Returns the
/// acknowledgement that the packet has, for [`Lane::sent`].
#[inline(always)]
#[must_use]
pub fn headers<P: Put>(packet: &mut P, lane: &Lane, path: &Path, len: u32, payload_sum: u16, now_ms: u32) -> Seq {
    let at = link(packet, path);
    let at = if path.has(Path::IPV6) { ipv6(packet, at, lane, path, len) } else { ipv4(packet, at, lane, path, len) };
    tcp(packet, at, lane, path, len, payload_sum, now_ms)
}

#[inline(always)]
fn link<P: Put>(packet: &mut P, path: &Path) -> usize {
    let ether_type = if path.has(Path::IPV6) { ETHER_TYPE_IPV6 } else { ETHER_TYPE_IPV4 };
    packet.put(0, path.next_hop);
    packet.put(6, path.interface_mac);
    if !path.has(Path::TAGGED) {
        packet.put(12, ether_type.to_be_bytes());
        return ETHERNET_LEN;
    }
    packet.put(12, ETHER_TYPE_VLAN.to_be_bytes());
    packet.put(14, path.vlan.to_be_bytes());
    packet.put(16, ether_type.to_be_bytes());
    ETHERNET_LEN + VLAN_LEN
}

#[expect(clippy::cast_possible_truncation, reason = "a packet is at most as long as the path's mtu, 16 bits")]
#[inline(always)]
fn ipv4<P: Put>(packet: &mut P, at: usize, lane: &Lane, path: &Path, len: u32) -> usize {
    let total = packet_len(path, &lane.sending, len) as u16;
    let first = u32::from_be_bytes([0x45, path.class, (total >> 8) as u8, total as u8]).to_be();
    // No identification and "do not fragment" (RFC 6864, 4.1).
    let second = 0x4000_u32.to_be();
    let third = u32::from_be_bytes([path.hops, PROTOCOL_TCP, 0, 0]).to_be();
    let (from, to) = (last_word(&path.blade), last_word(&lane.sending.client));
    let sum = u64::from(first) + u64::from(second) + u64::from(third) + u64::from(from) + u64::from(to);
    let checksum = (!fold(sum)).to_ne_bytes();
    packet.put(at, first.to_ne_bytes());
    packet.put(at + 4, second.to_ne_bytes());
    packet.put(at + 8, [path.hops, PROTOCOL_TCP, checksum[0], checksum[1]]);
    packet.put(at + 12, from.to_ne_bytes());
    packet.put(at + 16, to.to_ne_bytes());
    at + IPV4_LEN
}

#[expect(clippy::cast_possible_truncation, reason = "a packet is at most as long as the path's mtu, 16 bits")]
#[inline(always)]
fn ipv6<P: Put>(packet: &mut P, at: usize, lane: &Lane, path: &Path, len: u32) -> usize {
    let payload_len = (tcp_len(&lane.sending) as u32 + len) as u16;
    packet.put(at, (0x6000_0000 | u32::from(path.class) << 20).to_be_bytes());
    packet.put(at + 4, payload_len.to_be_bytes());
    packet.put(at + 6, [PROTOCOL_TCP, path.hops]);
    packet.put(at + 8, path.blade);
    packet.put(at + 24, lane.sending.client);
    at + IPV6_LEN
}

#[expect(clippy::cast_possible_truncation, reason = "a packet is at most as long as the path's mtu, 16 bits")]
#[inline(always)]
fn tcp<P: Put>(packet: &mut P, at: usize, lane: &Lane, path: &Path, len: u32, payload_sum: u16, now_ms: u32) -> Seq {
    let (sending, receiving) = (&lane.sending, &lane.receiving);
    let header_len = tcp_len(sending);
    let (blade_port, client_port) = (path.blade_port.to_be_bytes(), sending.client_port.to_be_bytes());
    let (seq, ack) = (sending.snd_nxt.0.to_be(), receiving.rcv_nxt.0.to_be());
    let flags = if len > 0 { PSH | ACK } else { ACK };
    let window = receiving.advertised.to_be_bytes();
    let fourth = [(header_len as u8) << 2, flags, window[0], window[1]];
    // The connection's sum has the ports; the segment's length belongs to the pseudo-header.
    let segment_len = (header_len as u32 + len) as u16;
    let mut sum = u64::from(sending.sum)
        + u64::from(payload_sum)
        + u64::from(segment_len.to_be())
        + u64::from(seq)
        + u64::from(ack)
        + u64::from(u32::from_ne_bytes(fourth));
    packet.put(at, [blade_port[0], blade_port[1], client_port[0], client_port[1]]);
    packet.put(at + 4, seq.to_ne_bytes());
    packet.put(at + 8, ack.to_ne_bytes());
    packet.put(at + 12, fourth);
    if sending.has(Sending::TIMESTAMPS) {
        let value = now_ms.wrapping_add(sending.ts_offset).to_be();
        let echo = receiving.ts_recent.to_be();
        let kind = u32::from_ne_bytes(TIMESTAMPS);
        sum += u64::from(kind) + u64::from(value) + u64::from(echo);
        packet.put(at + TCP_LEN, TIMESTAMPS);
        packet.put(at + TCP_LEN + 4, value.to_ne_bytes());
        packet.put(at + TCP_LEN + 8, echo.to_ne_bytes());
    }
    let checksum = (!fold(sum)).to_ne_bytes();
    // No urgent pointer.
    packet.put(at + 16, [checksum[0], checksum[1], 0, 0]);
    Seq(u32::from_be(ack))
}

#[inline(always)]
const fn link_len(path: &Path) -> usize {
    if path.has(Path::TAGGED) { ETHERNET_LEN + VLAN_LEN } else { ETHERNET_LEN }
}

#[inline(always)]
const fn ip_len(path: &Path) -> usize {
    if path.has(Path::IPV6) { IPV6_LEN } else { IPV4_LEN }
}

#[inline(always)]
const fn tcp_len(sending: &Sending) -> usize {
    if sending.has(Sending::TIMESTAMPS) { TCP_LEN + TIMESTAMPS_LEN } else { TCP_LEN }
}

/// The four bytes of an IPv4 address, as they lie in memory.
#[inline(always)]
const fn last_word(address: &[u8; 16]) -> u32 {
    u32::from_ne_bytes([address[12], address[13], address[14], address[15]])
}

/// NOP, NOP, kind 8, length 10 (RFC 7323, appendix A).
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];
const TIMESTAMPS_LEN: usize = 12;
const PROTOCOL_TCP: u8 = 6;

const _: () = assert!(size_of::<Item>() == 24);
