//! Programs that publish to the blade: a thread of its own listens, checks and numbers the records, and hands them to
//! the sequencer through a bounded queue.
//!
//! ```text
//! publisher ─▶ connection ─▶ intake ──queue──▶ sequencer ─▶ ring
//!     ◀── replies ◀─ records that are published ─┘
//! ```
//! A publisher that is faster than the sequencer fills its share of the queue. Its connection is then not read, until
//! TCP stops the publisher. docs/PUBLISHING.md is the manual for publishers.

mod connection;
mod error;
mod feed;
mod greeting;
mod intake;
pub mod json;
mod limits;
mod lines;
mod listener;
mod numbering;
mod open_ended;
mod replies;
mod server;
mod settings;
mod shared;
mod state;

use std::sync::Arc;

use fanblade_feed::queue::{QueueConfig, queue};
use fanblade_feed::{Condition, Feed, Pulse, Stale};

pub use error::OpenError;
pub use settings::Settings;
pub use state::StateError;

use feed::PublisherFeed;
use listener::Listener;
use shared::Shared;
use state::StateFile;

/// A publisher feed that listens already.
pub struct Opened {
    /// The feed that the sequencer polls.
    pub feed: Box<dyn Feed>,
    /// The name of the feed's numbering.
    pub epoch: String,
    /// Where publishers connect, in words.
    pub addresses: String,
    /// The pulse of the publishers' thread.
    pub pulse: Pulse,
}

/// Listens, reserves numbers, and starts the thread.
///
/// # Errors
/// The reason, in words for the operator who configured the feed.
pub fn open(settings: Settings) -> Result<Opened, OpenError> {
    let data_len_possible = limits::data_len_possible(fanblade_ring::limits::frame_len_max(settings.lane_len));
    let data_len_max = settings.data_len_max;
    if data_len_max > data_len_possible {
        return Err(OpenError::DataLen { data_len_max, data_len_possible });
    }
    let mut listeners = settings.listen.iter().map(|address| Listener::tcp(*address)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &settings.unix {
        listeners.push(Listener::unix(path)?);
    }
    if listeners.is_empty() {
        return Err(OpenError::NoListener);
    }
    let (state, next_seq) = StateFile::open(settings.state.as_deref())?;
    let seq_end = numbering::reserve(&state, next_seq).map_err(OpenError::Reserve)?;
    let epoch = state.epoch().to_owned();
    // At the start no publisher is connected.
    let condition = match settings.stale_without_publisher {
        true => Condition::Stale(Stale::Disconnected),
        false => Condition::Live,
    };
    let queue_config = QueueConfig { first_seq: next_seq, condition, ..QueueConfig::new("publisher", state.session()) };
    let (sender, queue) = queue(&queue_config);
    sender.set_seq_end(seq_end);
    let addresses = listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let shared = Arc::new(Shared::new(settings, epoch.clone(), sender));
    let pulse = Pulse::default();
    let feed =
        PublisherFeed::start(queue, listeners, shared, state, seq_end, pulse.clone()).map_err(OpenError::Thread)?;
    Ok(Opened { feed: Box::new(feed), epoch, addresses, pulse })
}
