//! The end for the sequencer.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::QueueConfig;
use super::batch::{Batch, Place, Said};
use super::shared::Shared;
use crate::limits::POLL_MESSAGES_MAX;
use crate::{Condition, Event, Feed, FeedCounters, FeedError, Poll, Session, UnixNs, Unpublished};

/// A feed of what senders send.
#[derive(Debug)]
pub struct QueueFeed {
    name: &'static str,
    /// None once it has been told.
    session: Option<Session>,
    first_seq: u64,
    condition: Condition,
    counters: FeedCounters,
    draining: Batch,
    place: Place,
    /// Lists for wakers that are being woken, kept for their memory.
    woken: Vec<Waker>,
    /// Updates of the poll under way that were not published: whose, and which.
    unpublished: Vec<(u32, u64, Unpublished)>,
    shared: Arc<Shared>,
}

impl QueueFeed {
    pub(super) fn new(config: &QueueConfig, first_seq: u64, shared: Arc<Shared>) -> Self {
        Self {
            name: config.name,
            session: Some(config.session),
            first_seq,
            condition: config.condition,
            counters: FeedCounters::default(),
            draining: Batch::default(),
            place: Place::default(),
            woken: Vec::new(),
            unpublished: Vec::new(),
            shared,
        }
    }

    fn begin(&mut self, session: Session, first_seq: u64, sink: &mut dyn FnMut(Event<'_>)) {
        self.counters.sessions += 1;
        sink(Event::SessionStart { session });
        if first_seq > 1 {
            // What came before is nobody's to replay; the state that it left is not known.
            sink(Event::SnapshotStart);
            sink(Event::SnapshotEnd { seq: first_seq });
        }
    }

    /// Takes what has been filled in the meantime; false if there is nothing.
    fn swap(&mut self) -> bool {
        self.draining.clear(self.shared.bytes_max);
        self.place = Place::default();
        {
            let mut state = self.shared.lock();
            if state.filling.is_empty() {
                return false;
            }
            std::mem::swap(&mut self.draining, &mut state.filling);
            std::mem::swap(&mut self.woken, &mut state.room_wakers);
        }
        self.woken.drain(..).for_each(Waker::wake);
        true
    }

    /// The sink has had all updates up to `seq`.
    fn note_taken(&mut self, seq: u64) {
        if !self.unpublished.is_empty() {
            // This comes before anybody can see that they were taken.
            let mut state = self.shared.lock();
            for (from, seq, because) in self.unpublished.drain(..) {
                if let Some(receipts) = state.receipts.get_mut(&from) {
                    receipts.push((seq, because));
                }
            }
        }
        // Pairs with `Shared::taken`. Stored before the lock is taken: a sender that looked before finds its waker
        // here.
        self.shared.taken.store(seq, Ordering::Release);
        std::mem::swap(&mut self.woken, &mut self.shared.lock().taken_wakers);
        self.woken.drain(..).for_each(Waker::wake);
    }
}

impl Feed for QueueFeed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        if let Some(session) = self.session.take() {
            self.shared.lock().reader = Some(std::thread::current());
            self.begin(session, self.first_seq, sink);
        }
        let mut newest = None;
        let mut poll = Poll::Busy;
        let answer = Cell::new(None);
        for _ in 0..POLL_MESSAGES_MAX {
            if self.draining.is_over(&self.place) && !self.swap() {
                poll = Poll::IdleUntil(now_ns.plus(IDLE_NS));
                break;
            }
            let Some(said) = self.draining.next(&mut self.place, &answer) else { continue };
            match said {
                Said::Condition(condition) => {
                    // Whoever polls looks at it between polls, and is to see every one.
                    if std::mem::replace(&mut self.condition, condition) != condition {
                        break;
                    }
                }
                Said::Session { session, first_seq } => self.begin(session, first_seq, sink),
                Said::Update { event, from } => {
                    sink(event);
                    if let Event::Update { seq, subject, data, .. } = event {
                        newest = Some(seq);
                        self.counters.messages += 1;
                        self.counters.bytes += (subject.len() + data.len()) as u64;
                        self.unpublished.extend(answer.take().map(|because| (from, seq, because)));
                    }
                }
                Said::Event(event) => {
                    match event {
                        Event::SubjectGap { from, to, .. } | Event::Gap { from, to } => {
                            self.counters.gaps += 1;
                            self.counters.gap_messages += to.saturating_sub(from);
                        }
                        _ => {}
                    }
                    sink(event);
                }
            }
        }
        if let Some(seq) = newest {
            self.note_taken(seq);
        }
        Ok(poll)
    }

    fn counters(&self) -> FeedCounters {
        self.counters
    }

    fn condition(&self) -> Condition {
        self.condition
    }
}

impl Drop for QueueFeed {
    fn drop(&mut self) {
        let (room, taken) = {
            let mut state = self.shared.lock();
            state.is_closed = true;
            state.filling = Batch::default();
            (std::mem::take(&mut state.room_wakers), std::mem::take(&mut state.taken_wakers))
        };
        room.into_iter().chain(taken).for_each(Waker::wake);
    }
}

/// A sender ends the sleep; without one there is nothing to come back for.
const IDLE_NS: u64 = 1_000_000_000;
