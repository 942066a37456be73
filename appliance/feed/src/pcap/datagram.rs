//! From packets to UDP.

use std::net::{IpAddr, SocketAddr};

use etherparse::err::packet::SliceError;
use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};
use pcap_file::DataLink;

use super::capture::Frame;

/// A UDP datagram, lent from its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Where it went.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a packet has no datagram for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// The capture kept only its beginning.
    Cut,
    /// Something else than UDP, a part of a datagram, or a link layer that is not known.
    NotUdp,
}

impl<'a> Datagram<'a> {
    /// The datagram in a packet of a capture.
    ///
    /// # Errors
    /// There is none, or not the whole of it.
    pub fn parse(frame: &Frame, bytes: &'a [u8]) -> Result<Self, Skipped> {
        let packet = match frame.link {
            DataLink::ETHERNET => SlicedPacket::from_ethernet(bytes),
            DataLink::LINUX_SLL => SlicedPacket::from_linux_sll(bytes),
            DataLink::LINUX_SLL2 => match (bytes.first_chunk(), bytes.get(SLL2_HEADER_LEN..)) {
                (Some(&kind), Some(rest)) => SlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(kind)), rest),
                _ => return Err(Skipped::NotUdp),
            },
            DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => SlicedPacket::from_ip(bytes),
            _ => return Err(Skipped::NotUdp),
        };
        let packet = match packet {
            Ok(packet) => packet,
            Err(SliceError::Len(_)) if frame.is_cut => return Err(Skipped::Cut),
            Err(_) => return Err(Skipped::NotUdp),
        };
        let Some(TransportSlice::Udp(udp)) = packet.transport else { return Err(Skipped::NotUdp) };
        let ip: IpAddr = match packet.net {
            Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
            Some(NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
            _ => return Err(Skipped::NotUdp),
        };
        Ok(Self { destination: SocketAddr::new(ip, udp.destination_port()), payload: udp.payload() })
    }
}

/// Of Linux cooked captures, version 2: the protocol comes first.
const SLL2_HEADER_LEN: usize = 20;
