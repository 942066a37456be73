//! Requests for messages that were missed. They go by UDP to a re-request server, which answers with ordinary packets,
//! to the address that asked, as many messages as fit one; or not at all.

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{HEADER_LEN, Header};
use crate::Session;
use crate::limits::REQUEST_MESSAGES_MAX;

/// Asks for `count` messages from `sequence` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The session in which `sequence` counts.
    pub session: Session,
    /// The first message wanted.
    pub sequence: u64,
    /// How many.
    pub count: u16,
}

impl Request {
    /// The request for the messages `from..to`, or the first [`REQUEST_MESSAGES_MAX`] of them.
    pub fn for_gap(session: Session, from: u64, to: u64) -> Self {
        let count = to.saturating_sub(from).min(REQUEST_MESSAGES_MAX);
        // The minimum above keeps it within 16 bits.
        Self { session, sequence: from, count: u16::try_from(count).unwrap_or(u16::MAX - 1) }
    }

    /// The packet.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let header = Header { session: self.session, sequence: U64::new(self.sequence), count: U16::new(self.count) };
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(header.as_bytes());
        bytes
    }

    /// The request that a packet is, if it has exactly the length of one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = Header::ref_from_bytes(bytes).ok()?;
        Some(Self { session: header.session, sequence: header.sequence.get(), count: header.count.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::*;
    use super::*;

    #[test]
    fn published_vector() {
        let request = Request { session: SESSION, sequence: 1, count: 2 };
        assert_eq!(request.encode(), REQUEST);
        assert_eq!(Request::parse(REQUEST), Some(request));
        for len in 0..REQUEST.len() {
            assert_eq!(Request::parse(&REQUEST[..len]), None);
        }
        assert_eq!(Request::parse(TWO_MESSAGES), None);
    }

    #[test]
    fn long_gaps_take_several_requests() {
        let counts = |from, to| Request::for_gap(SESSION, from, to).count;
        assert_eq!(counts(10, 11), 1);
        assert_eq!(counts(10, 10 + 0xFFFE), 0xFFFE);
        assert_eq!(counts(10, u64::MAX), 0xFFFE);
        assert_eq!(counts(10, 9), 0);
    }
}
