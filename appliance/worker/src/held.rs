//! The memory that hangs off sessions, and which sessions end when there is too much of it.
//!
//! A session that reads holds next to nothing. One that does not read has limits of its own, but a hundred thousand of
//! them still hold much. So all sessions together have a limit, and beyond it those end that have taken nothing for the
//! longest. A session that reads is among them only if no other holds anything.

use fanblade_wire::close;

use crate::clock::WorkerMs;
use crate::ids::SessionId;
use crate::limits::HELD_PART_AFTER;
use crate::session::{Session, State};
use crate::worker::Worker;

/// A session that holds more than each may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    /// It has been told that it is closed.
    is_told: bool,
    /// Milliseconds for which it has taken nothing, or said nothing.
    stalled_ms: u64,
    bytes: usize,
    index: SessionId,
}

impl Worker {
    /// Ends the worst of the sessions that hold something, if all of them hold more than `held_bytes_max`.
    pub(crate) fn shed(&mut self) {
        let held_max = self.config.limits.held_bytes_max;
        let mut left = self.sessions.held();
        self.stats.held_bytes.set(left as u64);
        if left <= held_max {
            return;
        }
        for holder in self.worst_holders() {
            // To free much at once pays for looking at all sessions.
            if left <= held_max / HELD_PART_AFTER.1 * HELD_PART_AFTER.0 {
                break;
            }
            left = left.saturating_sub(holder.bytes);
            self.shed_one(&holder);
        }
        self.stats.held_bytes.set(self.sessions.held() as u64);
    }

    fn shed_one(&mut self, holder: &Holder) {
        if holder.is_told {
            // It has not taken its Close frame, and memory is short.
            return self.drop_session(holder.index);
        }
        self.stats.held_evicted.add(1);
        if self.sessions.find(holder.index).is_some_and(|session| session.state != State::Open) {
            return self.drop_session(holder.index);
        }
        if let Some(extra) = self.sessions.extra(holder.index) {
            extra.forget_whole_frames();
        }
        self.begin_close(holder.index, close::TOO_SLOW, TOO_MUCH_HELD);
    }

    /// The sessions that hold something, the worst first.
    fn worst_holders(&mut self) -> Vec<Holder> {
        let now_ms = self.now_ms;
        let mut holders = Vec::new();
        for index in self.sessions.indices() {
            let bytes = self.sessions.held_by(index);
            if let Some(session) = self.sessions.find(index).filter(|_| bytes > 0) {
                let is_told = matches!(session.state, State::Closing | State::Lingering);
                holders.push(Holder { is_told, stalled_ms: session.stalled_ms(now_ms), bytes, index });
            }
        }
        holders.sort_unstable_by(|one, other| other.cmp(one));
        holders
    }
}

impl Session {
    /// How long it has taken nothing of what it is owed; if it is owed nothing, how long it has said nothing.
    fn stalled_ms(&self, now_ms: WorkerMs) -> u64 {
        let behind = self.extra.as_ref().and_then(|extra| extra.behind.as_ref());
        let since_ms = match behind {
            Some(behind) if self.blocked => behind.progress_ms,
            Some(_) => now_ms,
            None => self.received_ms,
        };
        now_ms.since(since_ms)
    }
}

const TOO_MUCH_HELD: &str = "memory is short, and this session has taken nothing for long";
