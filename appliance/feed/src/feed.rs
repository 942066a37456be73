//! What every feed does.

use std::time::Duration;

use crate::UnixNs;
use crate::condition::{Condition, Line};
use crate::counters::FeedCounters;
use crate::error::FeedError;
use crate::event::Event;

/// A source of exchange messages.
pub trait Feed: Send {
    /// What kind of feed this is, for logs and metric labels: `file`, `sim`.
    fn name(&self) -> &'static str;

    /// Does a bounded amount of work: passes what is due by now to `sink`, in order, and says when to come again.
    /// Never blocks and never spins.
    ///
    /// `now_ns` may step backwards; that delays what is paced by it, nothing else.
    ///
    /// # Errors
    /// Only for what ends the feed, such as a disk that cannot be read. Malformed input is an event.
    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError>;

    /// What this feed has taken, passed on and refused so far.
    fn counters(&self) -> FeedCounters;

    /// Sleeps until there may be something to poll for, for `timeout` at most; the caller has nothing else to do.
    /// Unparking the thread need not end it early.
    fn wait(&mut self, timeout: Duration) {
        std::thread::park_timeout(timeout);
    }

    /// Whether what it passes on is the present. Asked after each poll, and once before the first.
    fn condition(&self) -> Condition {
        Condition::Live
    }

    /// The ways by which its packets come, for status and metrics; none where there is only one.
    fn lines(&self) -> Vec<Line> {
        Vec::new()
    }
}

/// When a feed wants to be polled next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// Poll again at once: there may be more.
    Busy,
    /// Do not poll before this time.
    IdleUntil(UnixNs),
    /// Never: the feed has ended. Further polls say the same.
    Finished,
}
