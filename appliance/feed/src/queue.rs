//! From tasks that talk to sockets to the thread that polls: a bounded hand-over, and the feed at its end.
//!
//! ```text
//! task ──┐ send(&Record).await   ┌──────────────┐  swapped when drained   ┌──────────┐ poll
//! task ──┼─────────────────────▶ │ batch filling│ ══════════════════════▶ │ batch    │ ─────▶ sink
//! task ──┘ waits while it is full└──────────────┘                         │ draining │
//!            ▲        taken() / until_taken(seq) ◀── after each poll ──── └──────────┘
//! ```
//! - [`queue`] makes a [`Sender`], which is cloned for every task, and a [`QueueFeed`] for the sequencer.
//! - [`Sender::send`] numbers an update and copies it into the batch that is being filled. While that is full (records
//!   or bytes, [`QueueConfig`]) it waits, so that its task does not read its socket, and TCP slows the peer down.
//!   [`Sender::try_send`] says [`Refused::Full`] instead. The number returned is the update's; for other records it is
//!   the newest one.
//! - [`Sender::until_taken`] waits until the sink has had an update. [`Receipts`] then tell which ones it could not
//!   publish: both together are what a publisher is acknowledged by.
//! - [`Sender::set_condition`] says what [`QueueFeed::condition`](crate::Feed::condition) will be once all that was
//!   sent before has been passed on. It never waits.
//! - The end of the [`QueueFeed`] is [`Refused::Closed`] for all senders; the end of the last sender is no end of the
//!   feed, which then has nothing to say.
//!
//! Nothing here knows an executor: the futures are woken by their `Waker`s, the polling thread by `unpark`. The lock
//! is held for one copy or one swap, never while the sink runs, and both batches keep their memory, so that after the
//! first rounds nothing is allocated.

mod batch;
mod config;
mod feed;
mod record;
mod sender;
mod shared;

pub use config::QueueConfig;
pub use feed::QueueFeed;
pub use record::Record;
pub use sender::{Receipts, Refused, Sender};

use std::sync::Arc;

use shared::Shared;

/// Makes both ends.
#[must_use]
pub fn queue(config: &QueueConfig) -> (Sender, QueueFeed) {
    let first_seq = config.first_seq.max(1);
    let shared = Arc::new(Shared::new(config, first_seq));
    (Sender::new(Arc::clone(&shared)), QueueFeed::new(config, first_seq, shared))
}

#[cfg(test)]
mod tests;
