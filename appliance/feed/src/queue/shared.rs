//! What both ends of a queue hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::Thread;

use super::QueueConfig;
use super::batch::Batch;
use crate::Unpublished;

/// What both ends hold.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    /// The number of the newest update that the sink has had. The feed writes it, senders read it.
    pub(super) taken: AtomicU64,
    pub(super) state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) filling: Batch,
    pub(super) next_seq: u64,
    /// Updates are numbered below this.
    pub(super) seq_end: u64,
    /// Wakers of senders that wait for room, the longest waiting first.
    pub(super) room_wakers: Vec<Waker>,
    /// Wakers of senders that wait for `taken` to grow.
    pub(super) taken_wakers: Vec<Waker>,
    /// The thread that polls.
    pub(super) reader: Option<Thread>,
    /// What senders that ask for it have not asked for yet: which of their updates were not published.
    pub(super) receipts: HashMap<u32, Vec<(u64, Unpublished)>>,
    pub(super) receipts_next: u32,
    pub(super) is_closed: bool,
}

impl Shared {
    /// An empty queue, whose updates are numbered from `first_seq`.
    pub(super) fn new(config: &QueueConfig, first_seq: u64) -> Self {
        Self {
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
        }
    }

    /// The guarded state is whole between any two statements that can panic: none can.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn taken(&self) -> u64 {
        // Pairs with the feed's store: who sees the number may rely on the sink having had the update.
        self.taken.load(Ordering::Acquire)
    }
}
