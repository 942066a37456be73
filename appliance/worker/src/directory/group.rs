//! Sessions with equal subscriptions, and what they are owed.

use fanblade_ring::Lane;

use super::set::Wish;
use crate::clock::{RunningUs, UnixNs};
use crate::ids::{LanePosition, RingIndex, SessionId, SubjectId};
use crate::protocol::Mode;

/// One frame that a group is owed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    /// Ring index of its descriptor.
    pub(crate) index: RingIndex,
    /// Where its bytes lie in the group's lane.
    pub(crate) position: LanePosition,
    pub(crate) length: u32,
    /// May a newer frame of its subject take its place?
    pub(crate) conflatable: bool,
}

/// Sessions with equal subscriptions.
pub(crate) struct Group {
    /// The filters, sorted.
    pub(super) wishes: Box<[Wish]>,
    pub(super) lane: Lane,
    /// The hash of the set and the lane.
    pub(super) hash: u32,
    /// The subjects of the set, sorted, each with the stronger mode if several filters select it.
    pub(crate) subjects: Vec<(SubjectId, Mode)>,
    /// The sessions that are current: they get what the group is owed.
    pub(crate) members: Vec<SessionId>,
    /// How many sessions it has, those behind included.
    pub(crate) sessions: u32,
    /// Conflatable frames that came to the group since it was made.
    pub(crate) frames_conflatable: u64,
    /// Frames before the worker's cursor that it has not been sent: those of this pass, and those that wait for more.
    pub(crate) owed: Vec<Owed>,
    /// What these frames have in common; without meaning while there are none.
    pub(crate) batch: Batch,
    /// It is in the worker's list of groups that are owed something.
    pub(crate) is_touched: bool,
    /// Sessions that already have the frames which wait; they become members once the others have them.
    pub(crate) joiners: Vec<SessionId>,
}

/// The frames that a group is owed, together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    /// When they are sent.
    pub(crate) due_us: RunningUs,
    pub(crate) bytes: u64,
    /// Sequence number of the newest update before the pass that brought the first.
    pub(crate) before_seq: u64,
    /// When the first was published.
    pub(crate) published_ns: UnixNs,
    /// All of them may wait for more.
    pub(crate) may_wait: bool,
    pub(crate) is_filled: bool,
}

/// What a pass knows when it reads a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now_us: RunningUs,
    pub(crate) before_seq: u64,
}

impl Group {
    /// The encoding that its sessions chose.
    pub(crate) fn lane(&self) -> Lane {
        self.lane
    }
}

/// How many of these frames a newer one may replace.
pub(crate) fn conflatable(owed: &[Owed]) -> u64 {
    owed.iter().filter(|owed| owed.conflatable).count() as u64
}
