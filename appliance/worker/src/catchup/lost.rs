//! Stretches of the ring that were overwritten before a session took them.

use fanblade_ring::Descriptor;

use crate::session::{Behind, Lost};

impl Behind {
    /// The ring's history begins at `oldest`. What the session lacks before that is lost, except what the ring has kept
    /// of it before `tail`.
    pub(super) fn note_lost(&mut self, oldest: u64, tail: u64, generation: u32) {
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

impl Lost {
    /// The session has got a frame of `subject` since.
    pub(super) fn settle(&mut self, subject: u32) {
        if let Err(place) = self.settled.binary_search(&subject) {
            self.settled.insert(place, subject);
        }
    }

    /// Did the original of this copy lie in the stretch, and has the session had no frame of its subject since?
    pub(super) fn holds(&self, copy: &Descriptor) -> bool {
        (self.from..self.to).contains(&copy.origin) && self.settled.binary_search(&copy.subject.0).is_err()
    }

    /// Did the frame before this one lie in the stretch? Sequence numbers grow along the ring; updates of one upstream
    /// message share theirs, and then the ring index decides.
    pub(super) fn holds_a_predecessor_of(&self, descriptor: &Descriptor, subject: u32) -> bool {
        self.settled.binary_search(&subject).is_err()
            && (descriptor.prev > self.after_seq
                || (descriptor.prev != 0 && descriptor.prev == self.after_seq && descriptor.prev_index >= self.from))
    }
}

/// Stretches that one session remembers apart. Beyond that, neighbours are merged.
const LOST_STRETCHES_MAX: usize = 8;
