//! What planning looks at: one session's subscriptions, and the ring and the worker as they stand in this pass.

use fanblade_ring::{Lane, Reader};

use super::plan::{Plan, Standing};
use crate::behind::Behind;
use crate::directory::{Directory, Set};
use crate::ids::RingIndex;
use crate::protocol;
use crate::stats::WorkerStats;

/// One session's subscriptions, the ring and the worker.
pub(super) struct View<'a> {
    pub(super) stats: &'a WorkerStats,
    pub(super) reader: &'a Reader,
    pub(super) directory: &'a Directory,
    pub(super) lane: Lane,
    pub(super) set: Set,
    /// The ring's history: older updates are overwritten, or may be at any moment.
    pub(super) oldest: RingIndex,
    pub(super) tail: RingIndex,
    /// Ring index up to which the worker has fanned out.
    pub(super) cursor: RingIndex,
    pub(super) cursor_seq: u64,
    pub(super) epoch: &'a str,
    pub(super) epoch_start: RingIndex,
    pub(super) generation: u32,
}

impl View<'_> {
    /// Plans frames for a session that is behind. Returns where it stands once they are sent.
    pub(super) fn plan(&self, plan: &mut Plan, behind: &mut Behind, text: &mut String) -> Standing {
        if self.directory.is_conflating(self.set) {
            self.plan_newest(plan, behind, text)
        } else {
            self.plan_history(plan, behind, text)
        }
    }

    /// A session that has been given everything up to the worker's cursor.
    pub(super) fn current(&self, generation: u32) -> Standing {
        Standing { next: self.cursor, after_seq: self.cursor_seq, dropped: 0, generation }
    }

    /// Plans a notice before the first frame of a numbering that the client does not know yet.
    pub(super) fn tell_epoch(&self, plan: &mut Plan, standing: &mut Standing, origin: RingIndex, text: &mut String) {
        if standing.generation != self.generation && origin >= self.epoch_start {
            protocol::write_epoch(text, self.epoch);
            standing.generation = self.generation;
            plan.notice(text, &Standing { dropped: 0, ..*standing }, 0);
        }
    }
}
