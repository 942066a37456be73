//! What writes an exchange's messages: its clock, the numbers that are given out, and the packet under way.

use zerocopy::byteorder::big_endian::U64;
use zerocopy::{Immutable, IntoBytes};

use super::chance::Chance;
use crate::Session;
use crate::itch::Header;
use crate::limits::PACKET_LEN_MAX;
use crate::moldudp64::PacketBuilder;

/// What all events of a simulated exchange share.
#[derive(Debug)]
pub(super) struct MessageWriter {
    pub(super) chance: Chance,
    pub(super) packet: PacketBuilder,
    /// The time of the event under way, nanoseconds since midnight.
    pub(super) time_ns: u64,
    last_reference: u64,
    last_match: u64,
}

impl MessageWriter {
    pub(super) fn new(chance: Chance, session: Session, time_ns: u64) -> Self {
        Self {
            chance,
            packet: PacketBuilder::new(session, 1, PACKET_LEN_MAX),
            time_ns,
            last_reference: 0,
            last_match: 0,
        }
    }

    /// Writes a message into the packet.
    pub(super) fn send<M: IntoBytes + Immutable>(&mut self, message: &M) {
        let fits = self.packet.push(message.as_bytes());
        debug_assert!(fits, "a packet is sent before it lacks the room for another event");
    }

    /// The header of a message of now.
    pub(super) fn header(&self, kind: u8, locate: u16) -> Header {
        Header::new(kind, locate, 0, self.time_ns)
    }

    /// A number for a new order.
    pub(super) fn reference(&mut self) -> u64 {
        self.last_reference += 1;
        self.last_reference
    }

    /// A number for a new trade.
    pub(super) fn match_number(&mut self) -> U64 {
        self.last_match += 1;
        U64::new(self.last_match)
    }
}
