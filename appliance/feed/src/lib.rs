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

mod condition;
mod counters;
mod error;
mod event;
mod feed;
mod gzip;
mod pulse;
mod session;
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

pub use fanblade_wire::UnixNs;

pub use binaryfile::FileFeed;
pub use condition::{Condition, Line, Stale};
pub use counters::FeedCounters;
pub use error::FeedError;
pub use event::{Answer, Data, Event, Malformed, Unpublished};
pub use feed::{Feed, Poll};
pub use moldudp64::Moldudp64Feed;
pub use pcap::CaptureFeed;
pub use pulse::Pulse;
pub use queue::QueueFeed;
pub use session::Session;
pub use simulator::SimulatedFeed;
pub use soupbintcp::SoupbintcpFeed;
pub use trouble::Trouble;
