//! Where a session stands that has not been given everything yet.

use crate::catchup::Lost;
use crate::clock::WorkerMs;
use crate::ids::{RingIndex, SubjectId};

/// A session that has not been given everything up to its worker's cursor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    /// Ring index of the first update that it has not been given.
    pub(crate) next: RingIndex,
    /// Conflatable frames of its set up to which it has been served; what came since is what it is owed. With a group:
    /// as `Group::frames_conflatable` counts them. With a list of its own: as `came` does.
    pub(crate) served: u64,
    /// Conflatable frames that the fan-out had for it and did not give it.
    pub(crate) came: u64,
    /// Ring index after the last frame in `came`: two filters may lead to one frame.
    pub(crate) came_until: RingIndex,
    /// Sequence number of the newest update that it was given before it fell behind: where a gap begins.
    pub(crate) after_seq: u64,
    /// Stretches of the ring that it did not get before they were overwritten.
    pub(crate) lost: Vec<Lost>,
    /// Up to this ring index there may be copies of newest frames that the ring has kept of them.
    pub(crate) kept_until: RingIndex,
    /// Frames that newer ones have replaced, and that the client has not been told of (sessions with both modes; the
    /// others count by `served`).
    pub(crate) dropped: u64,
    /// The generation of the epoch that its client knows.
    pub(crate) generation: u32,
    /// At least once the kernel did not take all that was offered.
    pub(crate) is_slow: bool,
    /// When the kernel last took a byte.
    pub(crate) progress_ms: WorkerMs,
}

impl Behind {
    /// Memory behind it, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let settled: usize = self.lost.iter().map(|lost| lost.settled.capacity() * size_of::<SubjectId>()).sum();
        self.lost.capacity() * size_of::<Lost>() + settled
    }

    /// Counts a frame that the fan-out has for the session, and that a newer one may replace.
    pub(crate) fn note_came(&mut self, index: RingIndex) {
        if index >= self.came_until {
            self.came += 1;
            self.came_until = index.next();
        }
    }

    /// The ring's history begins at `oldest`. What the session lacks before that is lost, except what the ring has kept
    /// of it before `tail`.
    pub(crate) fn note_lost(&mut self, oldest: RingIndex, tail: RingIndex, generation: u32) {
        if self.next >= oldest {
            return;
        }
        self.kept_until = tail;
        if self.lost.len() == LOST_STRETCHES_MAX {
            // The last two become one. A subject stays settled only if it was in both, so no gap goes untold.
            let last = self.lost.remove(LOST_STRETCHES_MAX - 1);
            if let Some(kept) = self.lost.last_mut() {
                kept.to = last.to;
                kept.settled.retain(|subject| last.settled.binary_search(subject).is_ok());
            }
        }
        // The client has had nothing of a numbering that it does not know yet.
        let after_seq = if self.generation == generation { self.after_seq } else { 0 };
        self.lost.push(Lost { from: self.next, to: oldest, after_seq, settled: Vec::new() });
        self.next = oldest;
    }
}

/// Stretches that one session remembers apart. Beyond that, neighbours are merged.
const LOST_STRETCHES_MAX: usize = 8;
