//! Downstream packets: reading without copying, and building.

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::{COUNT_END_OF_SESSION, HEADER_LEN, Header};
use crate::Session;

/// A downstream packet, lent from the bytes in which it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    header: &'a Header,
    body: &'a [u8],
}

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing has happened; `sequence` comes next.
    Heartbeat,
    /// The session is over; `sequence` would have come next.
    EndOfSession,
    /// So many messages, the first of which is `sequence`.
    Messages(u16),
}

/// Why, and where, a packet contradicts itself. All messages before that place are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}, at byte {offset} of the packet")]
pub struct PacketError {
    /// Byte offset in the packet.
    pub offset: usize,
    /// What is wrong there.
    pub fault: PacketFault,
}

/// What can be wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketFault {
    /// It ends within its header.
    #[error("MoldUDP64 packet of {len} bytes, shorter than its header of 20")]
    HeaderTruncated {
        /// Bytes in the packet.
        len: usize,
    },
    /// Sessions have names of printable characters.
    #[error("MoldUDP64 session name that is not printable")]
    SessionUnprintable,
    /// Sequence numbers begin with 1.
    #[error("MoldUDP64 sequence number 0")]
    SequenceZero,
    /// The number of its last message does not fit 64 bits.
    #[error("MoldUDP64 sequence number {sequence} leaves no room for {count} messages")]
    SequenceOverflow {
        /// Number of the first message.
        sequence: u64,
        /// Messages announced.
        count: u16,
    },
    /// Its number is implausibly far from the one that comes next.
    #[error("MoldUDP64 sequence number {sequence} where {expected} is expected")]
    SequenceJump {
        /// Number of the first message.
        sequence: u64,
        /// Number that comes next.
        expected: u64,
    },
    /// It ends where the length of another message should be.
    #[error("MoldUDP64 packet ends {missing} messages short of what its header announces")]
    MessageMissing {
        /// How many of the announced messages are not there.
        missing: u16,
    },
    /// A message is longer than what is left.
    #[error("MoldUDP64 message of {length} bytes, but {available} are left in the packet")]
    LengthBeyondPacket {
        /// The length that was announced.
        length: u16,
        /// Bytes left.
        available: usize,
    },
    /// It goes on after its last message.
    #[error("{len} bytes after the last message of a MoldUDP64 packet")]
    TrailingBytes {
        /// How many.
        len: usize,
    },
}

impl<'a> Packet<'a> {
    /// Reads the header. The messages are checked as [`Packet::messages`] comes to them.
    ///
    /// # Errors
    /// A header that is cut short, or numbers that cannot be.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PacketError> {
        let Ok((header, body)) = Header::ref_from_prefix(bytes) else {
            return Err(PacketError { offset: 0, fault: PacketFault::HeaderTruncated { len: bytes.len() } });
        };
        let packet = Packet { header, body };
        let sequence = packet.sequence();
        let fault = if sequence == 0 {
            PacketFault::SequenceZero
        } else if sequence.checked_add(packet.count().into()).is_none() {
            PacketFault::SequenceOverflow { sequence, count: packet.count() }
        } else {
            return Ok(packet);
        };
        Err(PacketError { offset: SEQUENCE_OFFSET, fault })
    }

    /// The session in which `sequence` counts.
    pub fn session(&self) -> Session {
        self.header.session
    }

    /// The number of the first message; in packets without messages, of the next to come. At least 1.
    pub fn sequence(&self) -> u64 {
        self.header.sequence.get()
    }

    /// What the packet is for.
    pub fn kind(&self) -> Kind {
        match self.header.count.get() {
            0 => Kind::Heartbeat,
            COUNT_END_OF_SESSION => Kind::EndOfSession,
            count => Kind::Messages(count),
        }
    }

    /// The messages, in order.
    pub fn messages(&self) -> Messages<'a> {
        Messages { body: self.body, offset: HEADER_LEN, sequence: self.sequence(), left: self.count(), done: false }
    }

    /// How many messages the header announces.
    fn count(&self) -> u16 {
        match self.kind() {
            Kind::Messages(count) => count,
            Kind::Heartbeat | Kind::EndOfSession => 0,
        }
    }
}

/// The messages of a packet: number, offset in the packet, bytes. An error is the last item.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    body: &'a [u8],
    offset: usize,
    sequence: u64,
    left: u16,
    done: bool,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<(u64, usize, &'a [u8]), PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            return match self.body.len() {
                0 => None,
                len => Some(Err(PacketError { offset: self.offset, fault: PacketFault::TrailingBytes { len } })),
            };
        }
        let Some((length, rest)) = self.body.split_first_chunk() else {
            self.done = true;
            return Some(Err(PacketError {
                offset: self.offset,
                fault: PacketFault::MessageMissing { missing: self.left },
            }));
        };
        let length = u16::from_be_bytes(*length);
        let Some((message, rest)) = rest.split_at_checked(length.into()) else {
            self.done = true;
            let fault = PacketFault::LengthBeyondPacket { length, available: rest.len() };
            return Some(Err(PacketError { offset: self.offset, fault }));
        };
        let item = (self.sequence, self.offset + 2, message);
        self.body = rest;
        self.offset += 2 + message.len();
        self.sequence += 1;
        self.left -= 1;
        Some(Ok(item))
    }
}

/// Builds packets, one after the other, in one buffer.
#[derive(Debug)]
pub struct PacketBuilder {
    bytes: Vec<u8>,
    len_max: usize,
    header: Header,
}

impl PacketBuilder {
    /// A builder of packets of at most `len_max` bytes. The first message will be `sequence`.
    pub fn new(session: Session, sequence: u64, len_max: usize) -> Self {
        let header = Header { session, sequence: U64::new(sequence), count: U16::new(0) };
        let mut builder = Self { bytes: Vec::with_capacity(len_max.max(HEADER_LEN)), len_max, header };
        builder.reset();
        builder
    }

    /// Adds a message, if it still fits.
    pub fn push(&mut self, message: &[u8]) -> bool {
        let Ok(length) = u16::try_from(message.len()) else { return false };
        // None after an end of session, whose count is the highest of all.
        let count = self.header.count.get().saturating_add(1);
        if self.room() < 2 + message.len() || count == COUNT_END_OF_SESSION {
            return false;
        }
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(message);
        self.header.count.set(count);
        true
    }

    /// Bytes that are left for messages and their lengths.
    pub fn room(&self) -> usize {
        self.len_max.saturating_sub(self.bytes.len())
    }

    /// Messages in the packet so far.
    pub fn count(&self) -> u16 {
        self.header.count.get()
    }

    /// The number that the next message to be pushed will have.
    pub fn next_sequence(&self) -> u64 {
        self.header.sequence.get() + u64::from(self.count())
    }

    /// The packet as it goes on the wire: a heartbeat if nothing was pushed.
    pub fn finish(&mut self) -> &[u8] {
        if let Some(place) = self.bytes.first_chunk_mut::<HEADER_LEN>() {
            place.copy_from_slice(self.header.as_bytes());
        }
        &self.bytes
    }

    /// The packet that was finished last, until the next is begun.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins the next packet, whose first message follows on this one's last.
    pub fn reset(&mut self) {
        self.header.sequence.set(self.next_sequence());
        self.header.count.set(0);
        self.bytes.clear();
        self.bytes.resize(HEADER_LEN, 0);
    }

    /// The packet that ends the session, instead of what was pushed since the last reset.
    pub fn end_of_session(&mut self) -> &[u8] {
        self.bytes.truncate(HEADER_LEN);
        self.header.count.set(COUNT_END_OF_SESSION);
        self.finish()
    }
}

/// Where in a packet its sequence number is.
pub(super) const SEQUENCE_OFFSET: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::vectors::*;
    use super::*;

    #[test]
    fn reads_the_published_packet() {
        let packet = Packet::parse(TWO_MESSAGES).unwrap();
        assert_eq!((packet.session(), packet.sequence(), packet.kind()), (SESSION, 1, Kind::Messages(2)));
        let messages: Vec<_> = packet.messages().map(Result::unwrap).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].0, messages[0].1, messages[0].2), (1, 22, &TWO_MESSAGES[22..58]));
        assert_eq!((messages[1].0, messages[1].1, messages[1].2), (2, 60, &TWO_MESSAGES[60..91]));
    }

    #[test]
    fn reads_packets_without_messages() {
        for (bytes, kind) in [(HEARTBEAT, Kind::Heartbeat), (END, Kind::EndOfSession)] {
            let packet = Packet::parse(bytes).unwrap();
            assert_eq!((packet.session(), packet.sequence(), packet.kind()), (SESSION, 3, kind));
            assert_eq!(packet.messages().count(), 0);
        }
    }

    #[test]
    fn builds_what_is_published() {
        let mut builder = PacketBuilder::new(SESSION, 1, 91);
        assert!(builder.push(&TWO_MESSAGES[22..58]));
        assert_eq!(builder.room(), 33);
        assert!(builder.push(&TWO_MESSAGES[60..91]));
        assert!(!builder.push(&[]), "full to the last byte");
        assert_eq!(builder.finish(), TWO_MESSAGES);
        builder.reset();
        assert_eq!(builder.finish(), HEARTBEAT);
        assert!(builder.push(&[1, 2, 3]));
        assert_eq!(builder.end_of_session(), END);
        assert!(!builder.push(&[]), "nothing follows an end");
        assert_eq!(builder.finish(), END);
    }

    /// Cut anywhere, a packet yields the messages before the cut, then says where it broke.
    #[test]
    fn every_truncation() {
        for len in 0..TWO_MESSAGES.len() {
            let cut = &TWO_MESSAGES[..len];
            let packet = match Packet::parse(cut) {
                Ok(packet) => packet,
                Err(error) => {
                    assert!(len < HEADER_LEN);
                    assert_eq!(error, PacketError { offset: 0, fault: PacketFault::HeaderTruncated { len } });
                    continue;
                }
            };
            let (good, bad): (Vec<_>, Vec<_>) = packet.messages().partition(Result::is_ok);
            let whole = usize::from(len >= 58);
            assert_eq!(good.len(), whole, "{len}");
            let (offset, length) = [(20, 36), (58, 31)][whole];
            let fault = if len < offset + 2 {
                PacketFault::MessageMissing { missing: [2, 1][whole] }
            } else {
                PacketFault::LengthBeyondPacket { length, available: len - offset - 2 }
            };
            assert_eq!(bad, [Err(PacketError { offset, fault })], "{len}");
        }
    }

    #[test]
    fn impossible_numbers() {
        let with_sequence = |sequence: u64| {
            let mut bytes = TWO_MESSAGES.to_vec();
            bytes[10..18].copy_from_slice(&sequence.to_be_bytes());
            Packet::parse(&bytes).map(|packet| packet.messages().map_while(Result::ok).last().unwrap().0)
        };
        assert_eq!(with_sequence(0), Err(PacketError { offset: 10, fault: PacketFault::SequenceZero }));
        assert_eq!(with_sequence(u64::MAX - 2), Ok(u64::MAX - 1));
        let fault = PacketFault::SequenceOverflow { sequence: u64::MAX - 1, count: 2 };
        assert_eq!(with_sequence(u64::MAX - 1), Err(PacketError { offset: 10, fault }));
    }

    #[test]
    fn bytes_after_the_last_message() {
        let mut bytes = TWO_MESSAGES.to_vec();
        bytes.extend_from_slice(&[0; 5]);
        let items: Vec<_> = Packet::parse(&bytes).unwrap().messages().collect();
        assert_eq!(items.len(), 3);
        assert_eq!(items[2], Err(PacketError { offset: 91, fault: PacketFault::TrailingBytes { len: 5 } }));
    }

    #[test]
    fn empty_messages_are_messages() {
        let mut builder = PacketBuilder::new(SESSION, 7, 100);
        assert!(builder.push(&[]) && builder.push(&[]));
        let bytes = builder.finish().to_vec();
        let messages: Vec<_> = Packet::parse(&bytes).unwrap().messages().map(Result::unwrap).collect();
        assert_eq!(messages, [(7, 22, &[][..]), (8, 24, &[][..])]);
    }

    #[test]
    fn errors_say_where() {
        let error = Packet::parse(&TWO_MESSAGES[..59]).unwrap().messages().last().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "MoldUDP64 packet ends 1 messages short of what its header announces, at byte 58 of the packet"
        );
    }
}
