//! Packets of both directions: reading without copying, and writing.

use super::fault::HEADER_LEN;
use super::{LoginAccepted, LoginRequest, PacketError, PacketFault, Rejection};

/// One packet, lent from the bytes in which it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `+`, either side: text for people.
    Debug(&'a [u8]),
    /// `L`, client.
    LoginRequest(LoginRequest),
    /// `A`, server.
    LoginAccepted(LoginAccepted),
    /// `J`, server, which then closes the connection.
    LoginRejected(Rejection),
    /// `S`, server: the next message. May be empty.
    Sequenced(&'a [u8]),
    /// `U`, either side: a message that is not numbered.
    Unsequenced(&'a [u8]),
    /// `H`, server.
    ServerHeartbeat,
    /// `R`, client.
    ClientHeartbeat,
    /// `Z`, server: the session is over.
    EndOfSession,
    /// `O`, client: it wants to be disconnected.
    LogoutRequest,
}

/// A payload that no packet can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of payload in a SoupBinTCP packet, which holds at most {PAYLOAD_LEN_MAX}")]
pub struct PayloadTooLong {
    /// Its bytes.
    pub len: usize,
}

/// The most bytes behind a packet's type.
pub(super) const PAYLOAD_LEN_MAX: usize = u16::MAX as usize - 1;

impl<'a> Packet<'a> {
    /// The packet that `bytes` begin with, and its length on the wire; none while its end is not there. A fault is told
    /// as soon as it shows, whether or not the rest is there.
    ///
    /// # Errors
    /// No packet begins so.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, PacketError> {
        let at = |offset, fault| Err(PacketError { offset, fault });
        let Some((&length, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = u16::from_be_bytes(length);
        if length == 0 {
            return at(0, PacketFault::LengthZero);
        }
        let Some((&kind, rest)) = rest.split_first() else { return Ok(None) };
        let is_known = match kind {
            b'+' | b'S' | b'U' => true,
            b'L' => [47, 52].contains(&length),
            b'A' => length == 31,
            b'J' => length == 2,
            b'H' | b'R' | b'Z' | b'O' => length == 1,
            _ => return at(2, PacketFault::UnknownType { kind }),
        };
        if !is_known {
            return at(0, PacketFault::WrongLength { kind, length });
        }
        let Some(payload) = rest.get(..usize::from(length) - 1) else { return Ok(None) };
        let packet = match kind {
            b'+' => Packet::Debug(payload),
            b'S' => Packet::Sequenced(payload),
            b'U' => Packet::Unsequenced(payload),
            b'L' => Packet::LoginRequest(LoginRequest::parse(payload)?),
            b'A' => Packet::LoginAccepted(LoginAccepted::parse(payload)?),
            b'J' => Packet::LoginRejected(payload.first().map_or(Rejection::Other(0), |&code| code.into())),
            b'H' => Packet::ServerHeartbeat,
            b'R' => Packet::ClientHeartbeat,
            b'Z' => Packet::EndOfSession,
            _ => Packet::LogoutRequest,
        };
        Ok(Some((packet, HEADER_LEN + payload.len())))
    }

    /// Appends the packet to `out`, which stays as it was if that fails.
    ///
    /// # Errors
    /// The payload is longer than a packet can be.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), PayloadTooLong> {
        let start = out.len();
        out.extend_from_slice(&[0, 0, self.kind()]);
        match self {
            Packet::Debug(bytes) | Packet::Sequenced(bytes) | Packet::Unsequenced(bytes) => {
                out.extend_from_slice(bytes);
            }
            Packet::LoginRequest(request) => request.write(out),
            Packet::LoginAccepted(accepted) => accepted.write(out),
            Packet::LoginRejected(rejection) => out.push((*rejection).into()),
            Packet::ServerHeartbeat | Packet::ClientHeartbeat | Packet::EndOfSession | Packet::LogoutRequest => {}
        }
        let length = out.len() - start - 2;
        let Ok(length) = u16::try_from(length) else {
            out.truncate(start);
            return Err(PayloadTooLong { len: length - 1 });
        };
        if let Some(place) = out[start..].first_chunk_mut() {
            *place = length.to_be_bytes();
        }
        Ok(())
    }

    /// The byte that tells what it is.
    pub fn kind(&self) -> u8 {
        match self {
            Packet::Debug(_) => b'+',
            Packet::LoginRequest(_) => b'L',
            Packet::LoginAccepted(_) => b'A',
            Packet::LoginRejected(_) => b'J',
            Packet::Sequenced(_) => b'S',
            Packet::Unsequenced(_) => b'U',
            Packet::ServerHeartbeat => b'H',
            Packet::ClientHeartbeat => b'R',
            Packet::EndOfSession => b'Z',
            Packet::LogoutRequest => b'O',
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::login::vectors::{ACCEPTED, ACCEPTED_BYTES, LOGIN_3, LOGIN_3_BYTES, LOGIN_4, LOGIN_4_BYTES};
    use super::*;

    /// One of each, with its bytes.
    fn samples() -> Vec<(Packet<'static>, Vec<u8>)> {
        vec![
            (Packet::Debug(b"hello"), b"\0\x06+hello".to_vec()),
            (Packet::LoginRequest(LOGIN_3), LOGIN_3_BYTES.to_vec()),
            (Packet::LoginRequest(LOGIN_4), LOGIN_4_BYTES.to_vec()),
            (Packet::LoginAccepted(ACCEPTED), ACCEPTED_BYTES.to_vec()),
            (Packet::LoginRejected(Rejection::NotAuthorized), b"\0\x02JA".to_vec()),
            (Packet::LoginRejected(Rejection::SessionUnavailable), b"\0\x02JS".to_vec()),
            (Packet::Sequenced(b"message"), b"\0\x08Smessage".to_vec()),
            (Packet::Sequenced(b""), b"\0\x01S".to_vec()),
            (Packet::Unsequenced(b"order"), b"\0\x06Uorder".to_vec()),
            (Packet::ServerHeartbeat, b"\0\x01H".to_vec()),
            (Packet::ClientHeartbeat, b"\0\x01R".to_vec()),
            (Packet::EndOfSession, b"\0\x01Z".to_vec()),
            (Packet::LogoutRequest, b"\0\x01O".to_vec()),
        ]
    }

    /// Every packet reads and writes as published, and nothing is made of a part of it.
    #[test]
    fn published_packets_both_ways() {
        for (packet, bytes) in samples() {
            let mut written = b"before".to_vec();
            packet.write(&mut written).unwrap();
            assert_eq!(&written[6..], bytes, "{packet:?}");
            assert_eq!(Packet::parse(&bytes), Ok(Some((packet, bytes.len()))));
            let followed = [&bytes[..], b"\0\x01H"].concat();
            assert_eq!(Packet::parse(&followed), Ok(Some((packet, bytes.len()))));
            for len in 0..bytes.len() {
                assert_eq!(Packet::parse(&bytes[..len]), Ok(None), "{packet:?} cut at {len}");
            }
        }
    }

    #[test]
    fn what_is_no_packet_says_where_and_why() {
        let cases: [(&[u8], u64, &str); 10] = [
            (b"\0\0", 0, "SoupBinTCP packet without a type"),
            (b"\0\x01x", 2, "SoupBinTCP packet of unknown type 'x'"),
            (b"GET / HTTP/1.1\r\n", 2, "SoupBinTCP packet of unknown type 'T'"),
            (b"\0\x02H", 0, "SoupBinTCP packet 'H' of length 2, not 1"),
            (b"\0\x01J", 0, "SoupBinTCP packet 'J' of length 1, not 2"),
            (b"\0\x30L", 0, "SoupBinTCP packet 'L' of length 48, not 47 or 52"),
            (b"\0\x1eA", 0, "SoupBinTCP packet 'A' of length 30, not 31"),
            (b"\0\x1fA SESSION01                    ", 13, "SoupBinTCP sequence number \"\" is not a number"),
            (b"\0\x1fA SESSION01                  -1", 13, "SoupBinTCP sequence number \"-1\" is not a number"),
            (b"\0\x1fA SESSION\x0001                   1", 3, "SoupBinTCP session is not printable ASCII"),
        ];
        for (bytes, offset, fault) in cases {
            let error = Packet::parse(bytes).unwrap_err();
            assert_eq!((error.offset, error.fault.to_string()), (offset, fault.to_owned()));
        }
    }

    #[test]
    fn the_longest_packet_and_one_byte_more() {
        let (mut out, longest) = (Vec::new(), vec![7; PAYLOAD_LEN_MAX + 1]);
        let error = Packet::Sequenced(&longest).write(&mut out).unwrap_err();
        assert_eq!((error, out.len()), (PayloadTooLong { len: 65_535 }, 0));
        let packet = Packet::Sequenced(&longest[1..]);
        packet.write(&mut out).unwrap();
        assert_eq!(Packet::parse(&out), Ok(Some((packet, 2 + 65_535))));
    }

    proptest! {
        /// Whatever comes, the answer is a packet with its length, a wish for more, or a fault within the bytes.
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100), kind in prop::sample::select(&b"+ASLJUHRZOx"[..])) {
            let mut bytes = bytes;
            if let [0, _, place, ..] = &mut bytes[..] {
                *place = kind;
            }
            match Packet::parse(&bytes) {
                Ok(Some((packet, len))) => {
                    prop_assert!((HEADER_LEN..=bytes.len()).contains(&len));
                    let mut again = Vec::new();
                    packet.write(&mut again).unwrap();
                    // Padding may differ; what it means does not.
                    prop_assert_eq!(Packet::parse(&again), Ok(Some((packet, len))));
                }
                Ok(None) => prop_assert!(bytes.len() < 2 + u16::MAX as usize),
                Err(error) => {
                    prop_assert!(error.offset < bytes.len() as u64);
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }
}
