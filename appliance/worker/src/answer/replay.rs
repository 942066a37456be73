//! How far the answer to a subscription has come.

use fanblade_ring::Descriptor;

use crate::directory::Asked;
use crate::ids::{RingIndex, SubjectId};
use crate::selection::Selection;

/// The answer to a subscription: told, and followed by snapshots or history, in steps.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The request's id, for the `subscribed` replies.
    pub(crate) id: Option<String>,
    pub(crate) asked: Asked,
    /// Of the subjects asked for, those below this number have been told.
    pub(crate) told_below: u32,
    /// How many of the filters that match nothing yet have been told.
    pub(crate) unmatched_told: usize,
    /// The last reply has been written.
    pub(crate) is_told: bool,
    /// Live frames begin here.
    pub(crate) until: RingIndex,
    /// Send each subject's newest frame along with the reply.
    pub(crate) snapshot: bool,
    pub(crate) resumed: Option<Resumed>,
}

/// A subscription that goes on from a sequence number.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) seq: u64,
    /// Subjects of which nothing is missing.
    pub(crate) recovered: Selection,
    /// Ring index of the next frame of the history to be sent; the end when there is none to be sent.
    pub(crate) next: RingIndex,
}

impl Replay {
    /// User memory that it is, in bytes; what it shares with others counts whole.
    pub(crate) fn bytes(&self) -> usize {
        let id = self.id.as_ref().map_or(0, String::capacity);
        let recovered = self.resumed.as_ref().map_or(0, |resumed| resumed.recovered.heap_bytes());
        size_of::<Self>() + id + self.asked.heap_bytes() + recovered
    }

    /// The answer to a request that selects what `asked` says, live frames beginning at ring index `until`.
    pub(crate) fn new(
        id: Option<String>,
        asked: Asked,
        until: RingIndex,
        snapshot: bool,
        resumed: Option<Resumed>,
    ) -> Self {
        Self { id, asked, told_below: 0, unmatched_told: 0, is_told: false, until, snapshot, resumed }
    }

    /// The next subject to be told.
    pub(super) fn next_subject(&mut self) -> Option<SubjectId> {
        let subject = self.asked.subjects.next(self.told_below)?;
        self.told_below = subject.0 + 1;
        Some(subject)
    }

    /// Shall this subject's newest frame go with the reply?
    pub(super) fn wants_newest(&self, subject: SubjectId) -> bool {
        match &self.resumed {
            None => self.snapshot,
            // Of those that are recovered in `all`, the history itself will come.
            Some(resumed) if resumed.recovered.contains(subject) => resumed.next >= self.until,
            Some(_) => true,
        }
    }

    /// Had the client this frame before it resumed?
    pub(super) fn has_seen(&self, descriptor: &Descriptor) -> bool {
        self.resumed
            .as_ref()
            .is_some_and(|resumed| resumed.recovered.contains(descriptor.subject) && descriptor.seq <= resumed.seq)
    }
}
