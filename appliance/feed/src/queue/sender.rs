//! The end for tasks.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Record;
use super::shared::{Shared, State};
use crate::{Condition, Unpublished};

/// The end for tasks; each has its own clone.
#[derive(Debug, Clone)]
pub struct Sender {
    shared: Arc<Shared>,
    /// The number of its receipts; 0: nobody asks.
    receipts: u32,
}

/// Which of a sender's updates were taken, but not published. To be asked once [`Sender::until_taken`] has said that
/// they were taken. What is not asked for adds up: at most the updates that the sender lets be under way.
#[derive(Debug)]
pub struct Receipts {
    shared: Arc<Shared>,
    number: u32,
}

impl Receipts {
    /// The receipts up to `seq` that have not been asked for yet, the oldest first.
    #[must_use]
    pub fn take_unpublished(&self, seq: u64) -> Vec<(u64, Unpublished)> {
        let mut state = self.shared.lock();
        let Some(all) = state.receipts.get_mut(&self.number).filter(|all| !all.is_empty()) else { return Vec::new() };
        let later = all.split_off(all.partition_point(|(number, _)| *number <= seq));
        std::mem::replace(all, later)
    }
}

impl Drop for Receipts {
    fn drop(&mut self) {
        self.shared.lock().receipts.remove(&self.number);
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As much as may wait is waiting, or the number that is next may not be used yet.
    #[error("the queue to the sequencer is full")]
    Full,
    /// There is no feed any more: the blade stops.
    #[error("the blade is stopping")]
    Closed,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, receipts: 0 }
    }

    /// A sender whose updates are answered for one by one. Its clones' are, too.
    #[must_use]
    pub fn with_receipts(&self) -> (Sender, Receipts) {
        let mut state = self.shared.lock();
        while state.receipts_next == 0 || state.receipts.contains_key(&state.receipts_next) {
            state.receipts_next = state.receipts_next.wrapping_add(1);
        }
        let number = state.receipts_next;
        state.receipts_next = number.wrapping_add(1);
        state.receipts.insert(number, Vec::new());
        drop(state);
        let sender = Sender { shared: Arc::clone(&self.shared), receipts: number };
        (sender, Receipts { shared: Arc::clone(&self.shared), number })
    }

    /// Passes `record` on, and returns the number of the newest update, which it is if it is one.
    ///
    /// # Errors
    /// Says why it was not taken.
    pub fn try_send(&self, record: &Record<'_>) -> Result<u64, Refused> {
        self.push(&mut self.shared.lock(), record)
    }

    /// The same, once there is room. Who has waited longest is woken first, but nobody is kept from going before: a
    /// task with much to send should yield now and then.
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub async fn send(&self, record: &Record<'_>) -> Result<u64, Refused> {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            match self.push(&mut state, record) {
                Err(Refused::Full) => pending(&mut state.room_wakers, context),
                decided => Poll::Ready(decided),
            }
        })
        .await
    }

    /// The number of the newest update that the sink has had; at first the one before the feed's first.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.shared.taken()
    }

    /// Waits until the sink has had update `seq`, and returns [`taken`](Self::taken), which may be beyond.
    ///
    /// # Errors
    /// [`Refused::Closed`] if that will not happen any more.
    pub async fn until_taken(&self, seq: u64) -> Result<u64, Refused> {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            let taken = self.shared.taken();
            if taken >= seq {
                return Poll::Ready(Ok(taken));
            }
            if state.is_closed {
                return Poll::Ready(Err(Refused::Closed));
            }
            pending(&mut state.taken_wakers, context)
        })
        .await
    }

    /// Says how current the feed is, as of what was sent before.
    pub fn set_condition(&self, condition: Condition) {
        let mut state = self.shared.lock();
        let is_first = state.filling.is_empty();
        state.filling.push_condition(condition);
        wake_reader(&state, is_first);
    }

    /// Numbers from `seq_end` on may not be used until this is called again with a higher one: they are not reserved
    /// yet. Who would need one waits as if the queue were full.
    pub fn set_seq_end(&self, seq_end: u64) {
        let woken = {
            let mut state = self.shared.lock();
            state.seq_end = seq_end;
            std::mem::take(&mut state.room_wakers)
        };
        woken.into_iter().for_each(std::task::Waker::wake);
    }

    #[cfg(test)]
    pub(super) fn shared_receipts(&self) -> usize {
        self.shared.lock().receipts.len()
    }

    /// The number that the next update will have.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.shared.lock().next_seq
    }

    /// Leaves out the numbers below `seq`. They are not used again before the next session.
    pub fn skip_to(&self, seq: u64) {
        let mut state = self.shared.lock();
        state.next_seq = state.next_seq.max(seq);
    }

    /// Waits for the end of the feed.
    pub async fn closed(&self) {
        // No update has this number.
        let _ = self.until_taken(u64::MAX).await;
    }

    fn push(&self, state: &mut State, record: &Record<'_>) -> Result<u64, Refused> {
        if state.is_closed {
            return Err(Refused::Closed);
        }
        let is_update = matches!(record, Record::Update { .. });
        if !state.filling.has_room(record, self.shared.records_max, self.shared.bytes_max)
            || (is_update && state.next_seq >= state.seq_end)
        {
            return Err(Refused::Full);
        }
        let is_first = state.filling.is_empty();
        state.filling.push(record, state.next_seq, self.receipts);
        match record {
            Record::Update { .. } => state.next_seq += 1,
            Record::Session { first_seq, .. } => state.next_seq = (*first_seq).max(1),
            _ => {}
        }
        wake_reader(state, is_first);
        Ok(state.next_seq - 1)
    }
}

/// A reader that has found the queue empty may be asleep, or about to be: the first record after that wakes it.
fn wake_reader(state: &State, is_first: bool) {
    if is_first && let Some(reader) = &state.reader {
        reader.unpark();
    }
}

/// A task that is polled again before it was woken stands in the list once.
fn pending<T>(wakers: &mut Vec<std::task::Waker>, context: &Context<'_>) -> Poll<T> {
    if !wakers.iter().any(|known| known.will_wake(context.waker())) {
        wakers.push(context.waker().clone());
    }
    Poll::Pending
}
