//! What a feed says.

use crate::{binaryfile, moldudp64};

/// The name of a session: one unbroken numbering of messages, ASCII padded with spaces.
pub type Session = [u8; 10];

/// One thing that a feed has to say. Events come in order: sequence numbers never fall within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Numbering begins anew: the first thing that a feed says, and again when upstream changes its session.
    SessionStart {
        /// The new session.
        session: Session,
    },
    /// One message of the exchange.
    Message {
        /// Upstream's own number for it; the first of a session is 1.
        seq: u64,
        /// The message without its framing. May be empty: MoldUDP64 permits that.
        bytes: &'a [u8],
        /// Where the message begins: in the file (inflated), or in its packet.
        offset: u64,
    },
    /// The messages `from..to` were not received.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// Upstream has said that the session is over.
    EndOfSession {
        /// The number that would have come next.
        seq: u64,
    },
    /// Something could not be read. Where the framing allows, the feed goes on behind it.
    Malformed {
        /// Where in the file (inflated), or in its packet.
        offset: u64,
        /// What was wrong.
        reason: Malformed,
    },
}

/// Why input could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A MoldUDP64 packet contradicts itself.
    #[error(transparent)]
    Packet(#[from] moldudp64::PacketFault),
    /// A BinaryFILE ends badly.
    #[error(transparent)]
    File(#[from] binaryfile::FileFault),
}
