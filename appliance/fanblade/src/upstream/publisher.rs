//! Programs that publish to the blade: a thread of its own listens, checks and numbers what comes, and hands it to the
//! sequencer through a bounded queue.
//!
//! ```text
//! publisher ─▶ connection ─▶ intake ──queue──▶ sequencer ─▶ ring
//!     ◀── replies ◀─ records that are published ─┘
//! ```
//! A publisher that is faster than the sequencer fills its share of the queue, then is not read from; TCP does the
//! rest. docs/PUBLISHING.md is what publishers are told.

mod connection;
mod feed;
mod greeting;
mod intake;
pub(crate) mod json;
mod limits;
mod lines;
mod listener;
mod numbering;
mod open_ended;
mod replies;
mod server;
mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fanblade_feed::queue::{QueueConfig, queue};
use fanblade_feed::{Condition, Feed, Pulse, Stale};

use crate::config::{PublisherConfig, RingConfig};
use feed::PublisherFeed;
use listener::Listener;
use server::{Settings, Shared};
use state::StateFile;

/// A publisher feed that listens already.
pub(crate) struct Opened {
    pub(crate) feed: Box<dyn Feed>,
    /// The name of its numbering.
    pub(crate) epoch: String,
    /// Where publishers connect, in words.
    pub(crate) addresses: String,
    /// Of the publishers' thread.
    pub(crate) pulse: Pulse,
}

/// Listens, reserves numbers, and starts the thread.
pub(crate) fn open(config: &PublisherConfig, ring: &RingConfig) -> anyhow::Result<Opened> {
    let data_len_max = usize::try_from(config.data_len_max.get_ref().0).unwrap_or(usize::MAX);
    let lane_len = usize::try_from(ring.json.get_ref().0.min(ring.binary.get_ref().0)).unwrap_or(usize::MAX);
    let data_len_possible = limits::data_len_possible(fanblade_ring::limits::frame_len_max(lane_len));
    if data_len_max > data_len_possible {
        bail!(
            "`data_len_max` in [feed.publisher] is {data_len_max} bytes, but a frame of this ring holds {data_len_possible} of \
             them in base64; lower it, or raise `json` and `binary` in [ring]"
        );
    }
    let token = config.token().context("[feed.publisher]")?;
    let mut listeners = Vec::new();
    for address in config.listen.get_ref() {
        listeners.push(Listener::tcp(*address)?);
    }
    if let Some(path) = &config.unix {
        listeners.push(Listener::unix(path.get_ref())?);
    }
    if listeners.is_empty() {
        bail!("nobody can publish: `listen` in [feed.publisher] is empty, and there is no `unix`");
    }
    let path = config.state.get_ref();
    let (state, next_seq) = StateFile::open((!path.is_empty()).then(|| Path::new(path.as_str())))?;
    let seq_end = numbering::reserve(&state, next_seq).context("`state` in [feed.publisher]")?;
    let epoch = state.epoch().to_owned();
    // Until the first has come there is none.
    let condition = match config.stale_without_publisher {
        true => Condition::Stale(Stale::Disconnected),
        false => Condition::Live,
    };
    let queue_config = QueueConfig { first_seq: next_seq, condition, ..QueueConfig::new("publisher", state.session()) };
    let (sender, queue) = queue(&queue_config);
    sender.set_seq_end(seq_end);
    let addresses = listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let milliseconds = |value: &crate::config::Millis| Duration::from_millis(value.0);
    let settings = Settings {
        token,
        origins: config.allowed_origins.get_ref().clone(),
        epoch: epoch.clone(),
        stale_without_publisher: config.stale_without_publisher,
        publishers_max: usize::try_from(*config.publishers_max.get_ref()).unwrap_or(usize::MAX),
        subjects_max: usize::try_from(*ring.subjects_max.get_ref()).unwrap_or(usize::MAX),
        data_len_max,
        in_flight_max: usize::try_from(config.in_flight_max.get_ref().0).unwrap_or(usize::MAX),
        greeting_max: milliseconds(config.handshake_ms_max.get_ref()),
    };
    let shared = Arc::new(Shared::new(settings, sender));
    let pulse = Pulse::default();
    let feed = PublisherFeed::start(queue, listeners, shared, state, seq_end, pulse.clone())
        .context("the publishers' thread")?;
    Ok(Opened { feed: Box::new(feed), epoch, addresses, pulse })
}
