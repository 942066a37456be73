//! Upstream feeds: packets and files in, exchange messages in order out, gaps explicit.
//!
//! A [`Feed`] is polled by the sequencer thread and lends it [`Event`]s. What a feed yields is ordered and numbered by
//! upstream's own sequence numbers; whatever is missing is a [`Event::Gap`], never silence. Bytes are lent, not copied:
//! an event is gone when the sink returns.
//!
//! - [`moldudp64`]: packets by multicast, arbitration of lines, sequencing, re-requests, and the feed of them
//! - [`soupbintcp`]: numbered messages over TCP, and [`glimpse`], snapshots by it
//! - [`binaryfile`]: files of framed messages, plain or gzipped, and the feed over them
//! - [`pcap`]: packet captures, and the feed over their MoldUDP64 packets
//! - [`simulator`]: a market that does not exist, and the feed over it
//! - [`itch`]: the layouts of the messages themselves
//! - [`recording`]: opening recorded days, and naming what is none
//! - [`pace`]: when a recorded message is due
//! - [`publisher`]: the frames by which programs publish to a blade
//! - [`queue`]: what tasks with sockets of their own pass on, and the feed of it

mod clock;
mod condition;
mod counters;
mod event;
mod gzip;
mod pulse;
mod trouble;

pub mod binaryfile;
pub mod glimpse;
#[doc(hidden)]
pub mod injected;
pub mod itch;
pub mod limits;
pub mod moldudp64;
pub mod pace;
pub mod pcap;
pub mod publisher;
pub mod queue;
pub mod recording;
pub mod simulator;
pub mod soupbintcp;

pub use binaryfile::FileFeed;
pub use clock::unix_ns;
pub use condition::{Condition, Line, Stale};
pub use counters::FeedCounters;
pub use event::{Answer, Data, Event, Malformed, Session, Unpublished};
pub use moldudp64::Moldudp64Feed;
pub use pcap::CaptureFeed;
pub use pulse::Pulse;
pub use queue::QueueFeed;
pub use simulator::SimulatedFeed;
pub use soupbintcp::SoupbintcpFeed;
pub use trouble::Trouble;

use std::time::Duration;

/// A source of exchange messages.
pub trait Feed: Send {
    /// What kind of feed this is, for logs and metric labels: `file`, `sim`.
    fn name(&self) -> &'static str;

    /// Does a bounded amount of work: passes what is due by now to `sink`, in order, and says when to come again.
    /// Never blocks and never spins.
    ///
    /// `now_ns` is Unix time in nanoseconds. It may step backwards; that delays what is paced by it, nothing else.
    ///
    /// # Errors
    /// Only for what ends the feed, such as a disk that cannot be read. Malformed input is an event.
    fn poll(&mut self, now_ns: u64, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError>;

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
    /// At once: there may be more.
    Busy,
    /// Not before this time, Unix nanoseconds.
    IdleUntil(u64),
    /// Never: the feed has ended. Further polls say the same.
    Finished,
}

/// What ends a feed, or prevents it.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file cannot be opened, read, or is no feed.
    #[error(transparent)]
    File(#[from] binaryfile::FileError),
    /// The capture cannot be read, or holds nothing to play.
    #[error(transparent)]
    Capture(#[from] pcap::CaptureError),
    /// A simulator with these settings cannot be made.
    #[error(transparent)]
    Simulator(#[from] simulator::ConfigError),
}
