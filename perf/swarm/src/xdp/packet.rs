//! TCP segments that we make, and the socket that sends them.

use std::net::SocketAddrV4;

use anyhow::{Context as _, ensure};
use fanblade_swarm_abi::Settings;

use super::cable::CLIENT_MAC;
use super::mac::Mac;
use super::sys::RawSocket;

/// The sender and the receiver of a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    client: SocketAddrV4,
    server: SocketAddrV4,
}

/// A kind of segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(u8);

pub(super) const SYN: Kind = Kind(0x02);
/// A segment with data.
pub(super) const DATA: Kind = Kind(0x18);
pub(super) const RESET: Kind = Kind(0x04);
pub(super) const ACKNOWLEDGEMENT: Kind = Kind(0x10);

/// The client end of the cable.
pub(super) struct Wire {
    socket: RawSocket,
    server_mac: Mac,
    frame: Vec<u8>,
}

impl Ends {
    pub(super) fn new(settings: &Settings, client: u32, server: SocketAddrV4) -> Ends {
        let (addr, port) = settings.place(client);
        Ends { client: SocketAddrV4::new(addr.into(), port), server }
    }
}

impl Wire {
    pub(super) fn open(interface: &str, server_mac: Mac) -> anyhow::Result<Wire> {
        let socket = RawSocket::open(interface).with_context(|| format!("cannot open a raw socket on {interface}"))?;
        Ok(Wire { socket, server_mac, frame: Vec::new() })
    }

    pub(super) fn send(
        &mut self,
        ends: &Ends,
        sequence: u32,
        next: u32,
        kind: Kind,
        data: &[u8],
    ) -> anyhow::Result<()> {
        let Wire { socket, server_mac, frame } = self;
        ensure!(data.len() <= DATA_LEN_MAX, "a segment with {} bytes of data", data.len());
        write(frame, *server_mac, ends, sequence, next, kind, data);
        socket.send(frame).context("cannot send a raw packet")
    }
}

fn write(out: &mut Vec<u8>, to: Mac, ends: &Ends, sequence: u32, next: u32, kind: Kind, data: &[u8]) {
    // With the length of the header, in words of 32 bits.
    let (options, words): (&[u8], u8) = if kind == SYN { (&MAXIMUM_SEGMENT, 6) } else { (&[], 5) };
    let tcp_len = 20 + options.len() + data.len();
    let (source, destination) = (ends.client.ip().octets(), ends.server.ip().octets());
    out.clear();
    out.extend_from_slice(&to.0);
    out.extend_from_slice(&CLIENT_MAC.0);
    out.extend_from_slice(&[0x08, 0x00]);

    let ip_at = out.len();
    out.extend_from_slice(&[0x45, 0]);
    #[expect(clippy::cast_possible_truncation, reason = "the data has at most DATA_LEN_MAX bytes")]
    let ip_len = (20 + tcp_len) as u16;
    out.extend_from_slice(&ip_len.to_be_bytes());
    // "Don't fragment", and 64 hops.
    out.extend_from_slice(&[0, 0, 0x40, 0, 64, TCP, 0, 0]);
    out.extend_from_slice(&source);
    out.extend_from_slice(&destination);
    let sum = checksum(add(0, &out[ip_at..]));
    out[ip_at + 10..ip_at + 12].copy_from_slice(&sum.to_be_bytes());

    let tcp_at = out.len();
    out.extend_from_slice(&ends.client.port().to_be_bytes());
    out.extend_from_slice(&ends.server.port().to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&next.to_be_bytes());
    out.extend_from_slice(&[words << 4, kind.0, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(options);
    out.extend_from_slice(data);
    let pseudo = add(add(u64::from(TCP) + tcp_len as u64, &source), &destination);
    let sum = checksum(add(pseudo, &out[tcp_at..]));
    out[tcp_at + 16..tcp_at + 18].copy_from_slice(&sum.to_be_bytes());
}

/// Adds 16-bit words; the last one is filled up with a zero (RFC 1071).
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    sum + bytes.chunks(2).map(word).sum::<u64>()
}

#[expect(clippy::cast_possible_truncation, reason = "the loop leaves 16 bits")]
fn checksum(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

const TCP: u8 = 6;
/// The data of one segment.
pub(super) const DATA_LEN_MAX: usize = 1_460;
/// 1,460 bytes: an Ethernet frame without options. No window scaling, timestamps or selective acknowledgements.
const MAXIMUM_SEGMENT: [u8; 4] = [2, 4, 0x05, 0xb4];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_data_add_up_to_their_checksums() {
        let ends = Ends { client: "10.64.0.1:1024".parse().unwrap(), server: "10.63.0.1:80".parse().unwrap() };
        for (kind, data) in [(SYN, &b""[..]), (DATA, b"odd"), (RESET, b"")] {
            let mut frame = Vec::new();
            write(&mut frame, Mac([1; 6]), &ends, 0xdead_beef, 7, kind, data);
            assert_eq!(checksum(add(0, &frame[14..34])), 0);
            let tcp = &frame[34..];
            assert_eq!(checksum(add(add(6 + tcp.len() as u64, &frame[26..34]), tcp)), 0, "{kind:?}");
            assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), frame.len() - 14);
        }
    }
}
