//! From the bytes of an Ethernet frame to a TCP segment's addresses, ports and length.
//!
//! The same functions run in `ingress` and `egress`, over the packet itself, and on the host, over a slice. They read
//! only through [`Bytes`], which checks the bounds; every loop is bounded by [`limits`](crate::limits).

use crate::limits::{EXTENSION_HEADERS_MAX, VLAN_TAGS_MAX};

/// Bounds-checked reading from a packet.
pub trait Bytes {
    /// `N` bytes from `offset`, or `None` if the packet ends before.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
    /// Length of the whole frame, including bytes that cannot be read directly.
    fn frame_len(&self) -> u32;
}

impl Bytes for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn frame_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// A TCP segment that is whole and not a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender, IPv4 as v4-mapped IPv6.
    pub src: [u8; 16],
    /// Receiver, IPv4 as v4-mapped IPv6.
    pub dst: [u8; 16],
    /// Sender's port, in host order.
    pub src_port: u16,
    /// Receiver's port, in host order.
    pub dst_port: u16,
    /// The TCP flags ([`FIN`], [`SYN`] …).
    pub flags: u8,
    /// Length of the IP packet, header included, without the link layer and its padding.
    pub packet_len: u32,
    /// Where the TCP header begins, from the start of the frame.
    pub tcp_at: u32,
    /// Where the payload begins, from the start of the frame.
    pub payload_at: u32,
    /// Length of the IP and TCP headers together: each packet repeats them when the card cuts up a large one.
    pub headers_len: u32,
}

impl Segment {
    /// Bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        self.packet_len - self.headers_len
    }

    /// Length of the TCP header and the payload together, in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn tcp_len(&self) -> u32 {
        self.payload_at - self.tcp_at + self.payload_len()
    }
}

/// Why a frame holds no whole TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but not TCP.
    NotTcp,
    /// A fragment of a larger packet.
    Fragment,
    /// Shorter than its own headers say.
    Runt,
    /// Headers that contradict themselves.
    Malformed,
    /// More VLAN tags or extension headers than we look through.
    TooDeep,
}

/// The sender has finished.
pub const FIN: u8 = 0x01;
/// Opens a connection.
pub const SYN: u8 = 0x02;
/// Aborts a connection.
pub const RST: u8 = 0x04;
/// Hand over to the application at once.
pub const PSH: u8 = 0x08;
/// The acknowledgement number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// A router has marked a packet (RFC 3168).
pub const ECE: u8 = 0x40;
/// The sender has slowed down (RFC 3168).
pub const CWR: u8 = 0x80;

/// Parses an Ethernet frame.
#[inline(always)]
pub fn parse<B: Bytes + ?Sized>(frame: &B) -> Result<Segment, Other> {
    let mut ether_type = u16::from_be_bytes(frame.read(ETHER_TYPE_OFFSET).ok_or(Other::Runt)?);
    let mut offset = ETHERNET_LEN;
    let mut tags = 0;
    while ether_type == ETHER_TYPE_VLAN || ether_type == ETHER_TYPE_QINQ {
        if tags == VLAN_TAGS_MAX {
            return Err(Other::TooDeep);
        }
        ether_type = u16::from_be_bytes(frame.read(offset + 2).ok_or(Other::Runt)?);
        offset += VLAN_LEN;
        tags += 1;
    }
    match ether_type {
        ETHER_TYPE_IPV4 => parse_ipv4(frame, offset),
        ETHER_TYPE_IPV6 => parse_ipv6(frame, offset),
        _ => Err(Other::NotIp),
    }
}

#[inline(always)]
fn parse_ipv4<B: Bytes + ?Sized>(frame: &B, start: usize) -> Result<Segment, Other> {
    let header: [u8; IPV4_LEN] = frame.read(start).ok_or(Other::Runt)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < IPV4_LEN {
        return Err(Other::Malformed);
    }
    // RFC 791: "more fragments" is the third bit, the offset the thirteen after it; either makes it a fragment.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Other::Fragment);
    }
    if header[9] != PROTOCOL_TCP {
        return Err(Other::NotTcp);
    }
    let total_len = u32::from(u16::from_be_bytes([header[2], header[3]]));
    let mut src = V4_MAPPED;
    let mut dst = V4_MAPPED;
    src[12..].copy_from_slice(&header[12..16]);
    dst[12..].copy_from_slice(&header[16..20]);
    parse_tcp(frame, start, header_len, total_len, src, dst)
}

#[inline(always)]
fn parse_ipv6<B: Bytes + ?Sized>(frame: &B, start: usize) -> Result<Segment, Other> {
    let header: [u8; IPV6_LEN] = frame.read(start).ok_or(Other::Runt)?;
    if header[0] >> 4 != 6 {
        return Err(Other::Malformed);
    }
    let mut protocol = header[6];
    let mut headers_len = IPV6_LEN;
    let mut extensions = 0;
    while protocol != PROTOCOL_TCP {
        let kind = EXTENSIONS[usize::from(protocol)];
        if !kind.is_extension {
            return Err(Other::NotTcp);
        }
        if extensions == EXTENSION_HEADERS_MAX {
            return Err(Other::TooDeep);
        }
        let extension: [u8; 4] = frame.read(start + headers_len).ok_or(Other::Runt)?;
        if u16::from_be_bytes([extension[2], extension[3]]) & kind.fragment_mask != 0 {
            return Err(Other::Fragment);
        }
        headers_len += 8 + usize::from(extension[1]) * usize::from(kind.unit_len);
        protocol = extension[0];
        extensions += 1;
    }
    // 0 marks a jumbogram (RFC 2675), and a packet of more than 64 KiB that Linux passes between devices of one
    // machine.
    let payload_len = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let packet_len = if payload_len == 0 { 0 } else { payload_len + IPV6_LEN_U32 };
    let mut src = [0; 16];
    let mut dst = [0; 16];
    src.copy_from_slice(&header[8..24]);
    dst.copy_from_slice(&header[24..40]);
    parse_tcp(frame, start, headers_len, packet_len, src, dst)
}

/// `packet_len` 0: the IP header does not say the length, so that the packet ends where the frame ends.
#[expect(clippy::cast_possible_truncation, reason = "headers lie within HEADERS_LEN_MAX")]
#[inline(always)]
fn parse_tcp<B: Bytes + ?Sized>(
    frame: &B,
    start: usize,
    ip_len: usize,
    packet_len: u32,
    src: [u8; 16],
    dst: [u8; 16],
) -> Result<Segment, Other> {
    let header: [u8; TCP_LEN] = frame.read(start + ip_len).ok_or(Other::Runt)?;
    let tcp_len = usize::from(header[12] >> 4) * 4;
    let available = frame.frame_len().saturating_sub(start as u32);
    let packet_len = if packet_len == 0 { available } else { packet_len };
    let headers_len = (ip_len + tcp_len) as u32;
    if tcp_len < TCP_LEN || headers_len > packet_len {
        return Err(Other::Malformed);
    }
    if packet_len > available {
        return Err(Other::Runt);
    }
    Ok(Segment {
        src,
        dst,
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
        flags: header[13],
        packet_len,
        tcp_at: (start + ip_len) as u32,
        payload_at: (start + ip_len + tcp_len) as u32,
        headers_len,
    })
}

/// A header between IPv6 and TCP that is only skipped: 8 bytes, and `unit_len` for each unit in its second byte.
/// Encrypted payload (ESP) and "no next header" cannot be skipped.
///
/// A table instead of a `match`, because the kernel's verifier follows every branch in every round of the loop.
#[derive(Clone, Copy)]
struct Extension {
    is_extension: bool,
    unit_len: u8,
    /// Bits of the third and fourth byte that mark the packet as a fragment.
    fragment_mask: u16,
}

static EXTENSIONS: [Extension; 256] = {
    let mut table = [Extension { is_extension: false, unit_len: 0, fragment_mask: 0 }; 256];
    // RFC 8200 4.3 to 4.6: hop-by-hop options, routing, destination options; RFC 6275 mobility, RFC 7401 host identity,
    // RFC 5533 shim6: in units of 8 bytes, not counting the first.
    let plain = Extension { is_extension: true, unit_len: 8, fragment_mask: 0 };
    table[0] = plain;
    table[43] = plain;
    table[60] = plain;
    table[135] = plain;
    table[139] = plain;
    table[140] = plain;
    // RFC 8200 4.5: always 8 bytes, the second is reserved. Offset 0 without more fragments is whole (RFC 6946).
    table[44] = Extension { is_extension: true, unit_len: 0, fragment_mask: 0xfff9 };
    // RFC 4302 2.2, authentication: in units of 4 bytes, minus 2.
    table[51] = Extension { is_extension: true, unit_len: 4, fragment_mask: 0 };
    table
};

const ETHER_TYPE_OFFSET: usize = 12;
pub(crate) const ETHERNET_LEN: usize = 14;
pub(crate) const VLAN_LEN: usize = 4;
pub(crate) const IPV4_LEN: usize = 20;
pub(crate) const IPV6_LEN: usize = 40;
#[expect(clippy::cast_possible_truncation, reason = "40")]
const IPV6_LEN_U32: u32 = IPV6_LEN as u32;
pub(crate) const TCP_LEN: usize = 20;
pub(crate) const ETHER_TYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHER_TYPE_IPV6: u16 = 0x86dd;
pub(crate) const ETHER_TYPE_VLAN: u16 = 0x8100;
const ETHER_TYPE_QINQ: u16 = 0x88a8;
const PROTOCOL_TCP: u8 = 6;
const V4_MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
