//! What a feed says.

use std::cell::Cell;

use crate::{Session, Trouble, UnixNs, binaryfile, moldudp64, pcap, soupbintcp};

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
        /// Where the message begins: in the file (inflated), in its packet, or in what its TCP connection brought.
        offset: u64,
        /// When the kernel took it from the network; what has no such stamp bears the time of its poll.
        received_ns: UnixNs,
    },
    /// A subject's new value, from a feed that names its subjects itself.
    Update {
        /// The feed's number for it.
        seq: u64,
        /// The whole subject: `/venue/instrument/channel`.
        subject: &'a str,
        /// When it happened.
        ts_ns: UnixNs,
        /// The value.
        data: Data<'a>,
        /// When it was received, as in [`Event::Message`].
        received_ns: UnixNs,
        /// Where to say that it could not be published.
        answer: Answer<'a>,
    },
    /// Some of a subject's values were not received; numbers are those of the subject's own sequence upstream.
    SubjectGap {
        /// The whole subject.
        subject: &'a str,
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// Something is wrong upstream, or is well again. It is counted and told; the feed goes on.
    Trouble(Trouble<'a>),
    /// The messages `from..to` were not received.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// What comes until [`Event::SnapshotEnd`] describes a state instead of adding to one: forget all messages before.
    SnapshotStart,
    /// The state is complete: it is that after message `seq - 1`, and `seq` comes next.
    SnapshotEnd {
        /// The number that comes next.
        seq: u64,
    },
    /// Upstream has said that the session is over.
    EndOfSession {
        /// The number that would have come next.
        seq: u64,
    },
    /// Something could not be read. Where the framing allows, the feed goes on behind it.
    Malformed {
        /// Where in the file (inflated), in its packet, or in what its TCP connection brought.
        offset: u64,
        /// What was wrong.
        reason: Malformed,
    },
}

/// Where the sink says that it could not publish an update, so that whoever sent it can be told. If it says nothing, it
/// could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a>(pub(crate) &'a Cell<Option<Unpublished>>);

impl Answer<'_> {
    /// It was not published.
    pub fn refuse(&self, because: Unpublished) {
        self.0.set(Some(because));
    }
}

/// Why an update was not published. The subject keeps the value that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unpublished {
    /// The newest values of all subjects would fill too much of the ring.
    #[error(
        "not published: the newest values of all subjects would take too much of the ring; raise `json` and `binary` in \
         [ring], or publish shorter values of fewer subjects"
    )]
    RingFull,
    /// There is no place for its subject.
    #[error("not published: the ring has no place for a further subject; raise `subjects_max` in [ring]")]
    TooManySubjects,
    /// Its frame is longer than the ring takes.
    #[error("not published: its frame would be longer than the ring takes; raise `json` and `binary` in [ring]")]
    TooLong,
    /// Something else; the blade's log says what.
    #[error("not published: the ring has refused it; the blade's log says why")]
    Refused,
}

impl Unpublished {
    /// Its name for programs and counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Unpublished::RingFull => "ring_full",
            Unpublished::TooManySubjects => "too_many_subjects",
            Unpublished::TooLong => "too_long",
            Unpublished::Refused => "ring_refused",
        }
    }
}

/// A value that no book is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// A JSON value, checked, without line breaks.
    Json(&'a str),
    /// Bytes that mean something to publisher and subscribers alone.
    Opaque(&'a [u8]),
}

impl Data<'_> {
    /// Bytes of it.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Data::Json(text) => text.len(),
            Data::Opaque(bytes) => bytes.len(),
        }
    }

    /// Opaque data may be empty; JSON is not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why input could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A MoldUDP64 packet contradicts itself.
    #[error(transparent)]
    Packet(#[from] moldudp64::PacketFault),
    /// What a SoupBinTCP connection delivers is none of its packets.
    #[error(transparent)]
    Soupbintcp(#[from] soupbintcp::PacketFault),
    /// A BinaryFILE ends badly.
    #[error(transparent)]
    File(#[from] binaryfile::FileFault),
    /// A packet capture ends badly.
    #[error(transparent)]
    Capture(#[from] pcap::CaptureFault),
}
