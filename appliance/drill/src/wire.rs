//! Between packetdrill's IP packets and the frames of lanes, with a look at everything that goes out.

use std::net::IpAddr;

use etherparse::{SlicedPacket, TcpOptionElement, TransportSlice};
use fanblade_abi::lane::{Path, Seq};

/// The link that a script's packets seem to come by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// The tag (802.1Q) of all frames.
    pub vlan: Option<u16>,
}

/// The blade's hardware address.
pub const BLADE_MAC: [u8; 6] = [2, 0xfa, 0, 0, 0, 1];
/// The client's hardware address.
pub const CLIENT_MAC: [u8; 6] = [2, 0xfa, 0, 0, 0, 2];

/// The byte at an offset of the blade's stream. Any two places that are less than 64 KiB apart differ soon.
#[must_use]
pub fn stream_byte(offset: u32) -> u8 {
    let [low, high, ..] = (offset.wrapping_mul(31)).to_le_bytes();
    low ^ high.rotate_left(3)
}

/// A part of the blade's stream.
#[must_use]
pub fn stream(from: u32, len: u32) -> Vec<u8> {
    (0..len).map(|at| stream_byte(from.wrapping_add(at))).collect()
}

impl Wire {
    /// The frame in which an IP packet of the client comes.
    #[must_use]
    pub fn enter(self, packet: &[u8]) -> Vec<u8> {
        let is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let mut frame = [BLADE_MAC, CLIENT_MAC].concat();
        frame.extend(self.ether_types(is_ipv6));
        frame.extend_from_slice(packet);
        frame
    }

    /// The flags of a path over this link.
    #[must_use]
    pub fn path_flags(self, is_ipv6: bool) -> u16 {
        (if self.vlan.is_some() { Path::TAGGED } else { 0 }) | if is_ipv6 { Path::IPV6 } else { 0 }
    }

    /// The IP packet of a frame of the lane, with zeros as payload, as packetdrill wants it. `first`: the number of the
    /// stream's first byte.
    ///
    /// # Panics
    /// If the link header, a checksum or the payload is wrong: the script has failed.
    #[must_use]
    pub fn leave(self, frame: &[u8], first: Seq) -> Vec<u8> {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a frame of the lane is none");
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("a frame of the lane has no TCP") };
        let link = [CLIENT_MAC, BLADE_MAC].concat();
        let types = self.ether_types(addresses(&sliced).0.is_ipv6());
        let at = link.len() + types.len();
        assert_eq!((&frame[..link.len()], &frame[link.len()..at]), (&link[..], &types[..]), "the link header");
        assert_eq!(tcp.checksum(), checksum(&sliced), "the TCP checksum");
        let offset = tcp.sequence_number().wrapping_sub(first.0);
        let len = tcp.payload().len();
        assert!(tcp.payload() == stream(offset, u32::try_from(len).unwrap_or(0)), "the payload of byte {offset}");
        let mut packet = frame[at..].to_vec();
        let headers_len = packet.len() - len;
        packet[headers_len..].fill(0);
        packet
    }

    fn ether_types(self, is_ipv6: bool) -> Vec<u8> {
        let ip: [u8; 2] = if is_ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        self.vlan.map_or(ip.to_vec(), |vlan| [[0x81, 0x00], vlan.to_be_bytes(), ip].concat())
    }
}

/// TSecr of a frame, if it has timestamps.
#[must_use]
pub fn echo(frame: &[u8]) -> Option<u32> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
    tcp.options_iterator().flatten().find_map(|option| match option {
        TcpOptionElement::Timestamp(_, echo) => Some(echo),
        _ => None,
    })
}

/// Sender and receiver.
fn addresses(packet: &SlicedPacket) -> (IpAddr, IpAddr) {
    match packet.net.as_ref().expect("a frame of the lane has no IP") {
        etherparse::NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        etherparse::NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("a frame of the lane is {other:?}"),
    }
}

/// The checksum that a TCP segment must have, by another implementation than the lane's.
fn checksum(packet: &SlicedPacket) -> u16 {
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return 0 };
    let sum = match addresses(packet) {
        (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
        _ => return 0,
    };
    sum.expect("a segment is at most as long as a packet")
}
