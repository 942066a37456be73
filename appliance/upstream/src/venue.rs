//! The upstream WebSocket feed: connects to a venue, subscribes, maps its messages to subjects, and detects gaps.
//!
//! ```text
//!            control thread                                                        sequencer thread
//! venue ──▶ connection ──text──▶ mapper ──steps──▶ queue (bounded; full: the socket is not read) ──▶ feed
//!   ▲           │                  │  rules: pattern, subject, value, time
//!   └ subscribe ┘                  └─ subjects: numbers, books
//! ```
//! - `pointer`, `pattern`, `template`: the language of rules; `settings`: all settings of a venue
//! - `extract`, `value`: reading messages as text, in one pass, keeping values as the venue wrote them
//! - `rule`, `subjects`, `mapper`: from a message to the steps that it causes, a `batch`
//! - `sequence`, `book`, `keeper`: detecting gaps, and keeping books
//! - `channels`, `silence`: channels that have numbers for names, and rules that pass nothing on
//! - `connect`, `connection`, `backoff`, `periodic`, `fetch`: the socket, the texts that we send, and books by HTTP;
//!   `numbering`: whose numbers count; `feed`: the sequencer's end

mod arrival;
mod backoff;
mod batch;
mod book;
mod channels;
mod connect;
mod connection;
mod extract;
mod feed;
mod fetch;
mod from_text;
mod keeper;
mod limits;
mod mapper;
mod numbering;
mod pattern;
mod periodic;
mod pointer;
mod rule;
mod sequence;
mod settings;
mod silence;
mod subjects;
mod template;
mod value;

use std::sync::Arc;

use fanblade_dial::trusting;
use fanblade_feed::queue::{QueueConfig, queue};
use fanblade_feed::{Condition, Feed};

use connect::Target;
use connection::Connection;
use feed::{Counters, WebsocketFeed};
use fetch::Fetcher;
use numbering::Numbering;

pub use book::BookFormat;
pub use connect::TargetError;
pub use pattern::{Pattern, Patterns, Replies};
pub use pointer::{Each, Origin, Place, Pointer};
pub use settings::{AnswerRule, ChannelRule, MapRule, OnGap, PeriodicText, Rules, Scope, Settings};
pub use template::{SubjectTemplate, Template};
pub use value::TimeFormat;

/// Begins to connect, in a task of the current runtime; the task ends with the feed.
///
/// # Errors
/// Faults of the settings that show only when they are used.
pub fn open(settings: &Settings) -> Result<Box<dyn Feed>, TargetError> {
    let tls = trusting(settings.ca_file.as_deref())?;
    let target = Target::new(settings, Arc::clone(&tls))?;
    let numbering = Numbering::new(settings);
    let queue_config =
        QueueConfig { condition: Condition::CatchingUp, ..QueueConfig::new("websocket", numbering.first_session()) };
    let (sender, queue) = queue(&queue_config);
    let counters = Arc::new(Counters::default());
    let address = target.address().to_owned();
    let fetcher = Fetcher::new(tls, settings.message_len_max);
    let connection = Connection::new(settings, target, fetcher, numbering, sender, Arc::clone(&counters));
    let task = tokio::spawn(connection.run());
    Ok(Box::new(WebsocketFeed::new(queue, address, counters, task)))
}
