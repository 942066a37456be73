//! The lines that wait for the log's thread.
//!
//! Each line has a place, claimed by a counter: no thread waits for another here, wherever that one stands still. The
//! channels of the standard library hold a lock while they wake their reader; a thread stalled with that lock would
//! stop every thread that logs.

use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};

use crossbeam_utils::atomic::AtomicCell;

/// Any thread adds lines; one thread takes them.
pub(super) struct Queue {
    places: Box<[AtomicCell<Option<Box<Line>>>]>,
    /// Places claimed since the start.
    claimed: AtomicUsize,
    /// Lines that are in the queue, or on their way into it.
    waiting: AtomicUsize,
}

struct Line(Box<[u8]>);

/// A place that only the claiming thread will fill.
struct Claim<'a>(&'a AtomicCell<Option<Box<Line>>>);

impl std::fmt::Debug for Queue {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Queue { places: _, claimed, waiting } = self;
        out.debug_struct("Queue").field("claimed", claimed).field("waiting", waiting).finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue {
            places: (0..LINES_MAX).map(|_| AtomicCell::new(None)).collect(),
            claimed: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Adds a line. False: the queue is full, and the line was not added.
    #[must_use]
    pub(super) fn add(&self, line: &[u8]) -> bool {
        let line = Box::new(Line(line.into()));
        let Some(claim) = self.claim() else { return false };
        claim.0.store(Some(line));
        true
    }

    fn claim(&self) -> Option<Claim<'_>> {
        if self.waiting.fetch_add(1, AcqRel) >= LINES_MAX {
            self.waiting.fetch_sub(1, AcqRel);
            return None;
        }
        // Lines are taken in the order of their places, and no more lines wait than there are places, so this place is
        // empty.
        Some(Claim(&self.places[self.claimed.fetch_add(1, AcqRel) % LINES_MAX]))
    }

    /// Takes the line after `taken` others, once it is complete; only one thread may call this.
    pub(super) fn take(&self, taken: usize) -> Option<Box<[u8]>> {
        let line = self.places[taken % LINES_MAX].take()?;
        self.waiting.fetch_sub(1, AcqRel);
        Some(line.0)
    }
}

/// Lines that wait for the log's thread. A further line is lost; `fanblade_log_lost_total`.
pub(super) const LINES_MAX: usize = 4_096;
const _: () = assert!(LINES_MAX.is_power_of_two(), "the count of claimed places wraps at a multiple of it");
const _: () = assert!(AtomicCell::<Option<Box<Line>>>::is_lock_free(), "else it would have locks of its own");

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn lines_of_many_threads_come_once_and_in_their_order() {
        const THREADS: usize = 4;
        const LINES: u64 = 50_000;
        let (queue, has_ended) = (Queue::new(), AtomicBool::new(false));
        let mut read = vec![Vec::new(); THREADS];
        let added = std::thread::scope(|scope| {
            let adders: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let queue = &queue;
                    scope.spawn(move || {
                        let line = |n: u64| [&[u8::try_from(thread).unwrap()][..], &n.to_le_bytes()].concat();
                        (0..LINES).filter(|n| queue.add(&line(*n))).collect::<Vec<_>>()
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                let mut taken = 0;
                loop {
                    let is_last = has_ended.load(SeqCst);
                    while let Some(line) = queue.take(taken) {
                        taken += 1;
                        read[usize::from(line[0])].push(u64::from_le_bytes(line[1..].try_into().unwrap()));
                    }
                    if is_last {
                        break;
                    }
                    std::thread::yield_now();
                }
            });
            let added: Vec<_> = adders.into_iter().map(|adder| adder.join().unwrap()).collect();
            has_ended.store(true, SeqCst);
            reader.join().unwrap();
            added
        });
        assert_eq!(read, added);
        assert!(added.iter().map(Vec::len).sum::<usize>() >= LINES_MAX - THREADS, "what fits is taken");
    }

    #[test]
    fn who_stands_still_while_it_adds_stops_nobody() {
        let queue = Queue::new();
        assert!(queue.add(b"before"));
        let claim = queue.claim().unwrap();
        assert_eq!((0..2 * LINES_MAX).filter(|_| queue.add(b"after")).count(), LINES_MAX - 2, "the others go on");
        assert_eq!(queue.take(0).as_deref(), Some(&b"before"[..]));
        assert_eq!(queue.take(1), None, "the next is not in yet");
        claim.0.store(Some(Box::new(Line(b"late"[..].into()))));
        assert_eq!(queue.take(1).as_deref(), Some(&b"late"[..]));
        assert!((2..LINES_MAX).all(|taken| queue.take(taken).as_deref() == Some(b"after")));
        assert_eq!(queue.take(LINES_MAX), None);
        assert!(queue.add(b"again"), "all places are free");
        assert!(queue.take(LINES_MAX).is_some());
    }
}
