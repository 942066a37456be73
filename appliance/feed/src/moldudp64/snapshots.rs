//! Books for who comes late, or has lost something for good: fetching a snapshot, and passing it on when it is whole.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::Receiver;
use super::clock::Running;
use crate::glimpse::{Progress, Snapshot, SnapshotConfig};
use crate::limits::{RELEASE_MESSAGES_MAX, SNAPSHOT_AHEAD_MESSAGES_MAX, SNAPSHOT_BYTES_MAX};
use crate::soupbintcp::Retry;
use crate::{Event, Session, Trouble, UnixNs};

/// Fetches snapshots when the receiver wants one. A snapshot is kept until it is complete, for two reasons: only its
/// last message says where it stands, and books that are incomplete are better than half of new ones.
#[derive(Debug)]
pub(super) struct Snapshots {
    config: SnapshotConfig,
    attempts_max: u32,
    state: State,
    /// Attempts in a row that brought nothing.
    failures: u32,
}

#[derive(Debug)]
enum State {
    Waiting {
        until: Instant,
    },
    Fetching {
        snapshot: Box<Snapshot>,
        content: Content,
        /// The session whose books it has.
        session: Option<Session>,
    },
    Passing {
        content: Content,
        /// Where the next message begins.
        at: usize,
        next_seq: u64,
        session: Option<Session>,
    },
}

/// Messages, each behind its length in two bytes.
#[derive(Debug, Default)]
struct Content(Vec<u8>);

impl Snapshots {
    pub(super) fn new(config: SnapshotConfig, attempts_max: u32, now: Instant) -> Self {
        Self { config, attempts_max, state: State::Waiting { until: now }, failures: 0 }
    }

    /// Does what is to be done now, a bounded amount of it: true if there is more at once.
    pub(super) fn work(
        &mut self,
        receiver: &mut Receiver,
        now: Instant,
        (unix_ns, running): (UnixNs, Running),
        sink: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        if !receiver.wants_snapshot() {
            // It wanted a snapshot of a session that is over.
            if !matches!(self.state, State::Waiting { .. }) {
                self.state = State::Waiting { until: now };
            }
            self.failures = 0;
            return false;
        }
        let failure = match &mut self.state {
            State::Waiting { until } if now < *until => return false,
            // The pause is over: log in.
            State::Waiting { .. } => match Snapshot::start(&self.config, self.failures as usize, now) {
                Ok(snapshot) => {
                    let (snapshot, content, session) = (Box::new(snapshot), Content::default(), receiver.session());
                    self.state = State::Fetching { snapshot, content, session };
                    return true;
                }
                Err(error) => error.to_string(),
            },
            State::Fetching { session, .. } | State::Passing { session, .. } if *session != receiver.session() => {
                // The books of the new session begin now; the next attempt is for them.
                receiver.resume_without();
                self.state = State::Waiting { until: now };
                return true;
            }
            // Keep what comes until it is whole, then begin to pass it on.
            State::Fetching { snapshot, content, session } => {
                let mut is_too_long = false;
                let progress = snapshot.poll(now, &mut |message, _| is_too_long |= !content.push(message));
                // Once it is asked for, nothing may be passed on that it does not know of.
                if snapshot.is_asked() {
                    receiver.hold();
                }
                match progress {
                    _ if is_too_long => format!("it is longer than {SNAPSHOT_BYTES_MAX} bytes"),
                    Ok(Progress::Busy) => return true,
                    Ok(Progress::Pending) => return false,
                    Ok(Progress::Complete { next_seq, .. }) => match unfit(receiver, next_seq) {
                        Some(why) => why,
                        None => {
                            let (content, session) = (std::mem::take(content), *session);
                            self.state = State::Passing { content, at: 0, next_seq, session };
                            sink(Event::SnapshotStart);
                            return true;
                        }
                    },
                    Err(error) => error.to_string(),
                }
            }
            // Pass on some of its messages; behind the last the feed goes on.
            State::Passing { content, at, next_seq, .. } => {
                for _ in 0..RELEASE_MESSAGES_MAX {
                    let Some((bytes, offset, next)) = content.message(*at) else {
                        sink(Event::SnapshotEnd { seq: *next_seq });
                        receiver.resume(*next_seq, running, sink);
                        self.state = State::Waiting { until: now };
                        self.failures = 0;
                        return true;
                    };
                    let (seq, offset) = (next_seq.saturating_sub(1), offset as u64);
                    sink(Event::Message { seq, bytes, offset, received_ns: unix_ns });
                    *at = next;
                }
                return true;
            }
        };
        self.fail(&failure, receiver, now, sink);
        true
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Fetching { snapshot, .. } => Some((snapshot.fd(), snapshot.interest())),
            State::Waiting { .. } | State::Passing { .. } => None,
        }
    }

    /// When there is something to do even if nothing comes; the receiver wants a snapshot.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Fetching { snapshot, .. } => Some(snapshot.due()),
            State::Passing { .. } => None,
        }
    }

    fn fail(&mut self, why: &str, receiver: &mut Receiver, now: Instant, sink: &mut dyn FnMut(Event<'_>)) {
        self.failures = self.failures.saturating_add(1);
        let pause = RETRY.pause(self.failures, 1);
        let (server, attempt) = (self.config.server.name.as_str(), self.failures);
        let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        sink(Event::Trouble(Trouble::SnapshotFailed { server, error: why, attempt, retry_ms }));
        self.state = State::Waiting { until: now + pause };
        if self.failures == self.attempts_max && receiver.is_joining() {
            sink(Event::Trouble(Trouble::NoSnapshot { server, attempts: attempt }));
        }
        // Books that were there already are better than none while the next attempt is waited for.
        if self.failures >= self.attempts_max || !receiver.is_joining() {
            receiver.resume_without();
        }
    }
}

/// Why a snapshot that is complete is of no use.
fn unfit(receiver: &Receiver, next_seq: u64) -> Option<String> {
    let (expected, seen) = (receiver.expected().unwrap_or(1), receiver.seen());
    if next_seq == 0 {
        Some("it ends before message 0, but the first is 1".to_owned())
    } else if next_seq < expected && !receiver.is_joining() {
        Some(format!("it ends before message {next_seq}, but those before {expected} have been passed on"))
    } else if next_seq > seen.saturating_add(SNAPSHOT_AHEAD_MESSAGES_MAX) {
        Some(format!("it ends before message {next_seq}, but the lines are at {seen}: is it of this session?"))
    } else {
        None
    }
}

impl Content {
    /// Adds a message; false if there is no room for it.
    fn push(&mut self, message: &[u8]) -> bool {
        let Ok(len) = u16::try_from(message.len()) else { return false };
        if self.0.len() + 2 + message.len() > SNAPSHOT_BYTES_MAX {
            return false;
        }
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(message);
        true
    }

    /// The message at a place: its bytes, where they are, and the next place.
    fn message(&self, at: usize) -> Option<(&[u8], usize, usize)> {
        let (len, rest) = self.0.get(at..)?.split_first_chunk()?;
        let bytes = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
        Some((bytes, at + 2, at + 2 + bytes.len()))
    }
}

/// A server that is down is asked again soon, and less and less often.
const RETRY: Retry =
    Retry { min: Duration::from_millis(500), max: Duration::from_secs(30), refused: Duration::from_secs(30) };
