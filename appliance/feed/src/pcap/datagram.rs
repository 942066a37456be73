//! From packets to UDP.

use std::net::{IpAddr, SocketAddr};

use etherparse::err::packet::SliceError;
use etherparse::{EtherType, IpNumber, NetSlice, SlicedPacket, TransportSlice};

use super::input::Frame;
use super::link::LinkType;

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
    /// It is a part of a datagram, and parts are not put together.
    Fragment,
    /// It is TCP.
    Tcp,
    /// It is IP, but neither UDP nor TCP.
    OtherIp,
    /// It is not IP.
    NotIp,
    /// Its lengths contradict each other.
    Broken,
    /// Nobody here knows what such a packet begins with.
    Link(LinkType),
}

impl<'a> Datagram<'a> {
    /// The datagram in a packet of a capture. What follows it (padding, a frame check sequence) is none of it.
    ///
    /// # Errors
    /// There is no datagram, or not the whole of it.
    pub fn parse(frame: &Frame, bytes: &'a [u8]) -> Result<Self, Skipped> {
        let too_short = if frame.is_cut { Skipped::Cut } else { Skipped::Broken };
        let of_type = |at: usize, header_len: usize| {
            let kind = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(too_short)?;
            let rest = bytes.get(header_len..).ok_or(too_short)?;
            Ok(SlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(kind)), rest))
        };
        let packet = match frame.link {
            LinkType::ETHERNET => SlicedPacket::from_ethernet(bytes),
            LinkType::LINUX_SLL => of_type(14, 16)?,
            LinkType::LINUX_SLL2 => of_type(0, 20)?,
            LinkType::NULL | LinkType::LOOP => {
                let (family, rest) = bytes.split_first_chunk().ok_or(too_short)?;
                // The byte order is that of the machine that wrote it. No other family looks like these in either.
                if !IP_FAMILIES.iter().any(|ip| [ip.to_be_bytes(), ip.to_le_bytes()].contains(family)) {
                    return Err(Skipped::NotIp);
                }
                SlicedPacket::from_ip(rest)
            }
            LinkType::RAW | LinkType::RAW_BSD | LinkType::RAW_OPENBSD | LinkType::IPV4 | LinkType::IPV6 => {
                SlicedPacket::from_ip(bytes)
            }
            other => return Err(Skipped::Link(other)),
        };
        let packet = match packet {
            Ok(packet) => packet,
            Err(SliceError::Len(_)) => return Err(too_short),
            Err(_) => return Err(Skipped::Broken),
        };
        let destination: IpAddr = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
            Some(NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
            _ => return Err(Skipped::NotIp),
        };
        match (packet.ip_payload(), &packet.transport) {
            (Some(payload), _) if payload.fragmented => Err(Skipped::Fragment),
            (_, Some(TransportSlice::Udp(udp))) => {
                Ok(Self { destination: SocketAddr::new(destination, udp.destination_port()), payload: udp.payload() })
            }
            (Some(payload), _) if payload.ip_number == IpNumber::TCP => Err(Skipped::Tcp),
            _ => Err(Skipped::OtherIp),
        }
    }
}

/// IPv4 everywhere; IPv6 of Linux, Windows, NetBSD, FreeBSD and Darwin.
const IP_FAMILIES: [u32; 6] = [2, 10, 23, 24, 28, 30];
