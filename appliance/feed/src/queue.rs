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
//! Nothing here knows an executor: the futures are woken by their [`Waker`]s, the polling thread by `unpark`. The lock
//! is held for one copy or one swap, never while the sink runs, and both batches keep their memory, so that after the
//! first rounds nothing is allocated.

mod batch;
mod feed;
mod sender;

pub use feed::QueueFeed;
pub use sender::{Receipts, Refused, Sender};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::Thread;

use crate::limits::{QUEUE_BYTES_MAX, QUEUE_RECORDS_MAX};
use crate::{Condition, Data, Session, Unpublished};
use batch::Batch;

/// How to make a queue. The limits are for the batch being filled; the other is at most as large.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// The feed's name, as [`Feed::name`](crate::Feed::name) gives it.
    pub name: &'static str,
    /// The session that the feed begins with.
    pub session: Session,
    /// The number of the first update, from 1. Above 1 the feed says that earlier ones were before its time.
    pub first_seq: u64,
    /// What [`Feed::condition`](crate::Feed::condition) is until it is set.
    pub condition: Condition,
    /// Records of all kinds that may wait.
    pub records_max: usize,
    /// Bytes of subjects, values and texts that may wait. One record that is longer is taken when nothing else waits.
    pub bytes_max: usize,
}

impl QueueConfig {
    /// With the usual limits, numbered from 1, live.
    #[must_use]
    pub fn new(name: &'static str, session: Session) -> Self {
        Self {
            name,
            session,
            first_seq: 1,
            condition: Condition::Live,
            records_max: QUEUE_RECORDS_MAX,
            bytes_max: QUEUE_BYTES_MAX,
        }
    }
}

/// One thing to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A subject's new value.
    Update {
        /// The whole subject, valid.
        subject: &'a str,
        /// When it happened, Unix nanoseconds.
        ts_ns: u64,
        /// The value. JSON has been checked and has no line breaks.
        data: Data<'a>,
        /// When it was read from its socket, Unix nanoseconds.
        received_ns: u64,
    },
    /// Values of a subject are missing, by the numbers of the subject's own sequence upstream.
    SubjectGap {
        /// The whole subject, valid.
        subject: &'a str,
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// The numbers `from..to` will not be used: messages are missing upstream.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first after the gap.
        to: u64,
    },
    /// Numbering begins anew.
    Session {
        /// The new session.
        session: Session,
        /// The number of the next update, from 1. Above 1, earlier ones were before the feed's time.
        first_seq: u64,
    },
    /// Something is wrong upstream: [`Trouble::Told`](crate::Trouble::Told).
    Trouble {
        /// What it is counted under.
        kind: &'static str,
        /// One line for the log.
        text: &'a str,
    },
}

/// Makes both ends.
#[must_use]
pub fn queue(config: &QueueConfig) -> (Sender, QueueFeed) {
    let first_seq = config.first_seq.max(1);
    let shared = Arc::new(Shared {
        records_max: config.records_max.max(1),
        bytes_max: config.bytes_max,
        taken: AtomicU64::new(first_seq - 1),
        state: Mutex::new(State {
            filling: Batch::default(),
            next_seq: first_seq,
            seq_end: u64::MAX,
            room_wakers: Vec::new(),
            taken_wakers: Vec::new(),
            reader: None,
            receipts: HashMap::new(),
            receipts_next: 1,
            is_closed: false,
        }),
    });
    (Sender::new(Arc::clone(&shared)), QueueFeed::new(config, first_seq, shared))
}

/// What both ends hold.
#[derive(Debug)]
struct Shared {
    records_max: usize,
    bytes_max: usize,
    /// The number of the newest update that the sink has had. The feed writes it, senders read it.
    taken: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    filling: Batch,
    next_seq: u64,
    /// Updates are numbered below this.
    seq_end: u64,
    /// Of senders that wait for room, the longest waiting first.
    room_wakers: Vec<Waker>,
    /// Of those that wait for `taken` to grow.
    taken_wakers: Vec<Waker>,
    /// The thread that polls.
    reader: Option<Thread>,
    /// What senders that ask for it have not asked for yet: which of their updates were not published.
    receipts: HashMap<u32, Vec<(u64, Unpublished)>>,
    receipts_next: u32,
    is_closed: bool,
}

impl Shared {
    /// The guarded state is whole between any two statements that can panic: none can.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> u64 {
        // Pairs with the feed's store: who sees the number may rely on the sink having had the update.
        self.taken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
