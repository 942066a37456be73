//! The upstream WebSocket feed: connects to a venue, subscribes, maps its messages to subjects, finds its gaps.
//!
//! ```text
//!            control thread                                                        sequencer thread
//! venue ──▶ connection ──text──▶ mapper ──steps──▶ queue (bounded; full: the socket is not read) ──▶ feed
//!   ▲           │                  │  rules: pattern, subject, value, time
//!   └ subscribe ┘                  └─ subjects: numbers, books
//! ```
//! - [`mod@pointer`], [`pattern`], [`template`]: what the configuration is written in
//! - [`extract`], [`value`]: reading messages as text, once, without changing what stands there
//! - [`rule`], [`subjects`], [`mapper`]: from a message to what is to be done about it, a [`batch`]
//! - [`sequence`], [`book`]: how gaps are found
//! - [`connect`], [`connection`], [`backoff`]: the socket; [`numbering`]: who counts; [`feed`]: the sequencer's end

mod backoff;
mod batch;
mod book;
mod connect;
mod connection;
mod extract;
mod feed;
mod limits;
mod mapper;
mod numbering;
mod pattern;
mod pointer;
mod rule;
mod sequence;
mod subjects;
mod template;
mod value;

use std::sync::Arc;

use fanblade_feed::queue::{QueueConfig, queue};
use fanblade_feed::{Condition, Feed};

use crate::config::WebsocketConfig;

use connect::{Target, TargetError};
use connection::Connection;
use feed::{Counters, WebsocketFeed};
use numbering::Numbering;

pub(crate) use book::BookFormat;
pub(crate) use pattern::{Pattern, Patterns};
pub(crate) use pointer::{Each, Place, Pointer};
pub(crate) use template::{SubjectTemplate, Template};
pub(crate) use value::TimeFormat;

/// Begins to connect, in a task of the runtime that this is called in; the task ends with the feed.
pub(crate) fn open(config: &WebsocketConfig) -> Result<Box<dyn Feed>, TargetError> {
    let target = Target::new(config)?;
    let numbering = Numbering::new(config);
    let queue_config =
        QueueConfig { condition: Condition::CatchingUp, ..QueueConfig::new("websocket", numbering.first_session()) };
    let (sender, queue) = queue(&queue_config);
    let counters = Arc::new(Counters::default());
    let address = target.address().to_owned();
    let task = tokio::spawn(Connection::new(config, target, numbering, sender, Arc::clone(&counters)).run());
    Ok(Box::new(WebsocketFeed::new(queue, address, counters, task)))
}
