//! Fetching a snapshot.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::parse_end_of_snapshot;
use crate::Session;
use crate::limits::POLL_MESSAGES_MAX;
use crate::soupbintcp::{Connection, ConnectionError, Host, LoginRequest, Received, Timing};

/// Where to get a snapshot, and as whom.
#[derive(Debug, Clone)]
pub struct SnapshotConfig {
    /// The GLIMPSE server.
    pub server: Host,
    /// What to log in with. Its sequence number should be 1: a snapshot is of use only from its beginning.
    pub login: LoginRequest,
    /// How long connecting and silence may take.
    pub timing: Timing,
    /// How long all of it may take.
    pub duration_max: Duration,
}

/// A snapshot that is on its way. It is polled and never blocks; dropping it ends the connection.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    session: Session,
    duration_max: Duration,
    until: Instant,
    messages: u64,
    complete: Option<Progress>,
}

/// How far a snapshot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More has come than one poll takes: poll again at once.
    Busy,
    /// Wait for the socket, or until [`Snapshot::due`].
    Pending,
    /// The snapshot is whole.
    Complete {
        /// The session that the GLIMPSE server says it is in, padded on the right.
        session: Session,
        /// The first message that is not in the snapshot.
        next_seq: u64,
    },
}

/// Why there is no snapshot. What was passed on until then is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The connection was not made, or ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It took too long.
    #[error("the snapshot is not complete after {ms} ms: {messages} messages have come")]
    Deadline {
        /// The time it had.
        ms: u128,
        /// What has come.
        messages: u64,
    },
    /// The server ended its session before it ended the snapshot.
    #[error("the server ended its session after {messages} messages, before the end of the snapshot")]
    EndOfSession {
        /// What has come.
        messages: u64,
    },
    /// The message that ends the snapshot cannot be read.
    #[error("the message that ends the snapshot has no sequence number (message at byte {offset} of the connection)")]
    NoNumber {
        /// Where in the connection's bytes it begins.
        offset: u64,
    },
}

impl Snapshot {
    /// Begins to connect. The attempt with number `turn` begins with another of the server's addresses than the one
    /// before it.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn start(config: &SnapshotConfig, turn: usize, now: Instant) -> Result<Self, SnapshotError> {
        Ok(Self {
            connection: Connection::open(&config.server.addresses, turn, &config.login, config.timing, now)?,
            session: config.login.session,
            duration_max: config.duration_max,
            until: now + config.duration_max,
            messages: 0,
            complete: None,
        })
    }

    /// Passes what has come to `sink`, message by message, each with the byte of the connection at which it begins;
    /// the message that ends the snapshot is not among them. Does a bounded amount of work.
    ///
    /// # Errors
    /// There will be no snapshot.
    pub fn poll(&mut self, now: Instant, sink: &mut dyn FnMut(&[u8], u64)) -> Result<Progress, SnapshotError> {
        if let Some(complete) = self.complete {
            return Ok(complete);
        }
        if now >= self.until {
            return Err(SnapshotError::Deadline { ms: self.duration_max.as_millis(), messages: self.messages });
        }
        for _ in 0..POLL_MESSAGES_MAX {
            match self.connection.receive()? {
                Some(Received::Message { offset, bytes: bytes @ [b'G', ..] }) => {
                    let next_seq = parse_end_of_snapshot(bytes).ok_or(SnapshotError::NoNumber { offset })?;
                    return Ok(*self.complete.insert(Progress::Complete { session: self.session, next_seq }));
                }
                Some(Received::Message { offset, bytes }) => {
                    self.messages += 1;
                    sink(bytes, offset);
                }
                Some(Received::Accepted { accepted, .. }) => self.session = accepted.session,
                Some(Received::EndOfSession) => {
                    return Err(SnapshotError::EndOfSession { messages: self.messages });
                }
                Some(Received::Heartbeat | Received::Aside) => {}
                None => {
                    if self.connection.work(now)? == 0 {
                        return Ok(Progress::Pending);
                    }
                }
            }
        }
        Ok(Progress::Busy)
    }

    /// Messages passed on so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The server has been reached, and asked.
    pub fn is_asked(&self) -> bool {
        self.connection.is_connected()
    }

    /// Its socket, to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// What of its socket to wait for.
    pub fn interest(&self) -> PollFlags {
        self.connection.interest()
    }

    /// When it is to be polled even if nothing comes.
    pub fn due(&self) -> Instant {
        self.connection.due().min(self.until)
    }
}
