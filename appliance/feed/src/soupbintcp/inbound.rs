//! From what a connection delivers, in whatever pieces, to packets.

use super::{Packet, PacketError};
use crate::limits::SOUPBINTCP_BUFFER_LEN;

/// Collects bytes of one connection, and lends the packets that are whole. It allocates once.
pub struct Inbound {
    buffer: Box<[u8]>,
    /// What has come and was not lent: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Which byte of the connection `buffer` begins with.
    buffer_offset: u64,
}

impl Inbound {
    /// Begins for a connection that has not delivered anything.
    pub fn new() -> Self {
        let buffer = vec![0; SOUPBINTCP_BUFFER_LEN].into_boxed_slice();
        Self { buffer, start: 0, end: 0, buffer_offset: 0 }
    }

    /// Where the next bytes belong; [`Inbound::filled`] says how many came. Never empty after [`Inbound::next_packet`]
    /// had none to give.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.buffer_offset += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// The first `len` bytes of [`Inbound::space`] hold what came.
    pub fn filled(&mut self, len: usize) {
        self.end = (self.end + len).min(self.buffer.len());
    }

    /// The next packet that is whole. It is consumed: the next call gives the one after it.
    ///
    /// # Errors
    /// What comes next is no packet, and where in the connection's bytes. It stays so: the connection is of no use.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, PacketError> {
        let offset = self.offset();
        let parsed = Packet::parse(&self.buffer[self.start..self.end])
            .map_err(|error| PacketError { offset: offset + error.offset, ..error })?;
        Ok(parsed.map(|(packet, len)| {
            self.start += len;
            packet
        }))
    }

    /// Which byte of the connection the next packet begins with.
    pub fn offset(&self) -> u64 {
        self.buffer_offset + self.start as u64
    }

    /// Is the beginning of a packet there?
    pub fn is_within_packet(&self) -> bool {
        self.start < self.end
    }

    /// Forgets everything: for another connection.
    pub fn reset(&mut self) {
        (self.start, self.end, self.buffer_offset) = (0, 0, 0);
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound").field("offset", &self.offset()).field("len", &(self.end - self.start)).finish()
    }
}

const _: () = assert!(SOUPBINTCP_BUFFER_LEN > 2 + u16::MAX as usize, "any packet fits the buffer");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out of `bytes` when they arrive in pieces of these lengths, again and again: packets in words, and
    /// the fault if there is one.
    fn packets(bytes: &[u8], pieces: &[usize]) -> (Vec<String>, Option<PacketError>) {
        let (mut inbound, mut words, mut rest) = (Inbound::new(), Vec::new(), bytes);
        for piece in pieces.iter().cycle() {
            let space = inbound.space();
            let len = rest.len().min(*piece).min(space.len());
            space[..len].copy_from_slice(&rest[..len]);
            inbound.filled(len);
            rest = &rest[len..];
            loop {
                match inbound.next_packet() {
                    Ok(Some(packet)) => words.push(format!("{packet:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(inbound.next_packet(), Err(error), "a fault stays");
                        return (words, Some(error));
                    }
                }
            }
            if rest.is_empty() {
                assert_eq!(inbound.is_within_packet(), inbound.offset() < bytes.len() as u64);
                break;
            }
        }
        (words, None)
    }

    #[test]
    fn a_fault_is_told_with_its_place_in_the_connection() {
        let bytes = [&b"\0\x01H\0\x04Sabc"[..], b"\0\x01?\0\x01H"].concat();
        let error = PacketError { offset: 11, fault: super::super::PacketFault::UnknownType { kind: b'?' } };
        assert_eq!(
            packets(&bytes, &[1]),
            (vec!["ServerHeartbeat".to_owned(), "Sequenced([97, 98, 99])".to_owned()], Some(error))
        );
        let mut inbound = Inbound::new();
        inbound.space()[..2].copy_from_slice(b"\0\0");
        inbound.filled(2);
        assert!(inbound.next_packet().is_err());
        inbound.reset();
        assert_eq!(inbound.next_packet(), Ok(None));
        assert_eq!(inbound.offset(), 0);
    }

    #[test]
    fn more_than_the_buffer_holds() {
        let mut bytes = Vec::new();
        for len in [65_534, 0, 65_534, 65_000, 3, 65_534] {
            Packet::Sequenced(&vec![b'x'; len]).write(&mut bytes).unwrap();
        }
        for piece in [1_usize, 1_448, 65_537, 1 << 20] {
            assert_eq!(packets(&bytes, &[piece]).0.len(), 6, "{piece}");
        }
    }

    proptest! {
        /// Packets do not depend on how their bytes were cut.
        #[test]
        fn any_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            tail in prop::collection::vec(any::<u8>(), 0..8),
            pieces in prop::collection::vec(1_usize..400, 1..10),
        ) {
            let mut bytes = Vec::new();
            for payload in &payloads {
                Packet::Sequenced(payload).write(&mut bytes).unwrap();
            }
            bytes.extend_from_slice(&tail);
            let whole = packets(&bytes, &[usize::MAX]);
            prop_assert!(whole.0.len() >= payloads.len());
            prop_assert_eq!(packets(&bytes, &pieces), whole);
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2_000), pieces in prop::collection::vec(1_usize..400, 1..10)) {
            prop_assert_eq!(packets(&bytes, &pieces), packets(&bytes, &[usize::MAX]));
        }
    }
}
