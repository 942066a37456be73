//! A TCP segment in IPv4 without options, as a server on this machine sends it.

use aya_ebpf::programs::XdpContext;

pub struct Segment {
    pub server_mac: [u8; 6],
    pub client_mac: [u8; 6],
    /// Addresses and ports in host order.
    pub src: u32,
    pub dst: u32,
    pub src_port: u16,
    pub dst_port: u16,
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    /// Offset from the beginning of the frame.
    pub payload_at: u32,
    pub payload_len: u32,
    pub frame_len: u32,
}

impl Segment {
    #[inline(always)]
    pub fn read(ctx: &XdpContext) -> Option<Segment> {
        let (data, data_end) = (ctx.data(), ctx.data_end());
        if data + HEADERS_LEN > data_end {
            return None;
        }
        // SAFETY: this many bytes are there, as has just been checked, and a byte array has no alignment.
        let bytes = unsafe { &*(data as *const [u8; HEADERS_LEN]) };
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if short(12) != ETHER_TYPE_IPV4 || bytes[14] != 0x45 || bytes[23] != PROTOCOL_TCP || short(20) & 0x3fff != 0 {
            return None;
        }
        let headers_len = 20 + u32::from(bytes[46] >> 4) * 4;
        let packet_len = u32::from(short(16));
        if packet_len < headers_len || headers_len < 40 {
            return None;
        }
        let mut segment = Segment {
            server_mac: [0; 6],
            client_mac: [0; 6],
            src: long(26),
            dst: long(30),
            src_port: short(34),
            dst_port: short(36),
            sequence: long(38),
            acknowledged: long(42),
            flags: bytes[47],
            payload_at: ETHERNET_LEN + headers_len,
            payload_len: packet_len - headers_len,
            frame_len: (data_end - data) as u32,
        };
        segment.client_mac.copy_from_slice(&bytes[..6]);
        segment.server_mac.copy_from_slice(&bytes[6..12]);
        Some(segment)
    }
}

/// Ethernet, IPv4 and TCP, all without options.
pub const HEADERS_LEN: usize = 54;
const ETHERNET_LEN: u32 = 14;
const ETHER_TYPE_IPV4: u16 = 0x0800;
const PROTOCOL_TCP: u8 = 6;
