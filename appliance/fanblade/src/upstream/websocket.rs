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
//! - [`sequence`], [`book`], [`keeper`]: how gaps are found, and what becomes of books
//! - [`channels`], [`silence`]: what numbers stand for, and rules that pass nothing on
//! - [`connect`], [`connection`], [`backoff`], [`periodic`], [`fetch`]: the socket, what we say, and books by HTTP;
//!   [`numbering`]: who counts; [`feed`]: the sequencer's end

mod backoff;
mod batch;
mod book;
mod channels;
mod connect;
mod connection;
mod extract;
mod feed;
mod fetch;
mod keeper;
mod limits;
mod mapper;
mod numbering;
mod pattern;
mod periodic;
mod pointer;
mod rule;
mod sequence;
mod silence;
mod subjects;
mod template;
mod value;

use std::sync::Arc;

use fanblade_feed::queue::{QueueConfig, queue};
use fanblade_feed::{Condition, Feed};
use fanblade_dial::trusting;

use crate::config::WebsocketConfig;

use connect::{Target, TargetError};
use connection::Connection;
use feed::{Counters, WebsocketFeed};
use fetch::Fetcher;
use numbering::Numbering;

pub(crate) use book::BookFormat;
pub(crate) use pattern::{Pattern, Patterns, Replies};
pub(crate) use pointer::{Each, Origin, Place, Pointer};
pub(crate) use template::{SubjectTemplate, Template};
pub(crate) use value::TimeFormat;

/// Begins to connect, in a task of the runtime that this is called in; the task ends with the feed.
pub(crate) fn open(config: &WebsocketConfig) -> Result<Box<dyn Feed>, TargetError> {
    let tls = trusting(config.ca_file.as_deref())?;
    let target = Target::new(config, Arc::clone(&tls))?;
    let numbering = Numbering::new(config);
    let queue_config =
        QueueConfig { condition: Condition::CatchingUp, ..QueueConfig::new("websocket", numbering.first_session()) };
    let (sender, queue) = queue(&queue_config);
    let counters = Arc::new(Counters::default());
    let address = target.address().to_owned();
    let len_max = usize::try_from(config.message_len_max.get_ref().0).unwrap_or(usize::MAX);
    let fetcher = Fetcher::new(tls, len_max);
    let connection = Connection::new(config, target, fetcher, numbering, sender, Arc::clone(&counters));
    let task = tokio::spawn(connection.run());
    Ok(Box::new(WebsocketFeed::new(queue, address, counters, task)))
}
