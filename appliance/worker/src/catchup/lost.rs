//! Stretches of the ring that were overwritten before a session took them.

use crate::ids::{RingIndex, SubjectId};
use fanblade_ring::Descriptor;

/// Updates `[from, to)` left the ring before this session took them.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) from: RingIndex,
    pub(crate) to: RingIndex,
    /// Sequence number of the last update before `from`.
    pub(crate) after_seq: u64,
    /// Subjects of which a frame was given since: what they lost here has been told. Sorted.
    pub(crate) settled: Vec<SubjectId>,
}

impl Lost {
    /// The session has got a frame of `subject` since.
    pub(crate) fn settle(&mut self, subject: SubjectId) {
        if let Err(place) = self.settled.binary_search(&subject) {
            self.settled.insert(place, subject);
        }
    }

    /// Did the original of this copy lie in the stretch, and has the session had no frame of its subject since?
    pub(super) fn holds(&self, copy: &Descriptor) -> bool {
        (self.from..self.to).contains(&copy.origin) && self.settled.binary_search(&copy.subject).is_err()
    }

    /// Did the frame before this one lie in the stretch? Sequence numbers grow along the ring; updates of one upstream
    /// message share theirs, and then the ring index decides.
    pub(super) fn holds_a_predecessor_of(&self, descriptor: &Descriptor, subject: SubjectId) -> bool {
        self.settled.binary_search(&subject).is_err()
            && (descriptor.prev > self.after_seq
                || (descriptor.prev != 0 && descriptor.prev == self.after_seq && descriptor.prev_index >= self.from))
    }
}
