//! History: a session that is behind gets every update that the ring still holds, and is told of each gap before it.

use fanblade_ring::Descriptor;

use super::plan::{Plan, Standing};
use super::view::View;
use crate::behind::Behind;
use crate::ids::RingIndex;
use crate::limits::{CATCHUP_DESCRIPTORS_MAX, PLAN_PIECES_MAX};
use crate::protocol::{self, Mode};

/// What becomes of one update of the ring.
enum Fate {
    /// The session does not want it, or it is a copy of a frame that the session has already.
    Skipped,
    /// The session wants only the newest frame of this subject, and a newer one follows.
    Replaced,
    /// The session gets it. If frames of its subject before it are lost, `lost_after` is the sequence number of the
    /// last update before them.
    Given { lost_after: Option<u64> },
}

impl View<'_> {
    /// Plans every update since, as the mode of each subject wants it. Returns where the plan ends.
    pub(super) fn plan_history(&self, plan: &mut Plan, behind: &mut Behind, text: &mut String) -> Standing {
        // What has left the ring since the last pass goes to the list of what is lost.
        behind.note_lost(self.oldest, self.tail, self.generation);
        plan.seen.clear();
        let mut standing = Standing::of(behind);
        let mut candidates = std::mem::take(&mut plan.candidates);
        let mut end = self.candidates(behind, &mut candidates);
        let mut reached = behind.next;
        for &index in &candidates {
            self.stats.catchup_descriptors.add(1);
            // No descriptor: the publisher has just overwritten it, and the next pass finds the ring's new beginning.
            let descriptor = self.reader.descriptor(index).ok();
            let Some(descriptor) = descriptor.filter(|_| plan.has_room()) else {
                end = reached;
                break;
            };
            reached = index.next();
            let before_seq = standing.after_seq;
            if !descriptor.is_refresh() {
                standing.after_seq = descriptor.seq;
            }
            match self.fate(plan, behind, &descriptor) {
                Fate::Skipped => {}
                Fate::Replaced => standing.dropped += 1,
                Fate::Given { lost_after } => {
                    // A notice goes before the frame: whoever gets only the notice stands before this update still.
                    standing.next = index;
                    self.tell_epoch(plan, &mut standing, descriptor.origin, text);
                    if let Some(lost_after) = lost_after {
                        let before = Standing { after_seq: before_seq, dropped: 0, ..standing };
                        self.tell_gap(plan, &before, lost_after, &descriptor, text);
                    }
                    standing.next = index.next();
                    plan.frame(&descriptor, index, self.lane, &standing, 0);
                    standing.dropped = 0;
                }
            }
        }
        plan.candidates = candidates;
        if end < self.cursor {
            return Standing { next: end, ..standing };
        }
        Standing { dropped: standing.dropped, ..self.current(standing.generation) }
    }

    fn fate(&self, plan: &mut Plan, behind: &Behind, descriptor: &Descriptor) -> Fate {
        let subject = descriptor.subject;
        let Some(mode) = self.directory.mode_in(self.set, subject) else { return Fate::Skipped };
        // The first update of its subject since the session lost a stretch of the ring.
        let is_first =
            behind.lost.iter().any(|lost| lost.settled.binary_search(&subject).is_err()) && plan.see(subject);
        // A copy counts only if the session lost the original: the ring keeps the newest frame of each subject.
        let is_lost_original = || is_first && behind.lost.iter().any(|lost| lost.holds(descriptor));
        if descriptor.is_refresh() && !is_lost_original() {
            return Fate::Skipped;
        }
        if mode == Mode::Conflate && descriptor.origin != self.directory.subjects[subject.index()].origin {
            return Fate::Replaced;
        }
        // With `conflate` nobody misses what a newer frame has replaced.
        let lost = behind.lost.iter().filter(|_| mode == Mode::All && is_first);
        let lost = lost.into_iter().find(|lost| lost.holds_a_predecessor_of(descriptor, subject));
        Fate::Given { lost_after: lost.map(|lost| lost.after_seq) }
    }

    /// Frames before this one, after the sequence number `lost_after`, are lost.
    fn tell_gap(
        &self,
        plan: &mut Plan,
        before: &Standing,
        lost_after: u64,
        descriptor: &Descriptor,
        text: &mut String,
    ) {
        let Some(subject) = self.reader.subject(descriptor.subject) else { return };
        protocol::write_gap(text, &subject.name, lost_after, descriptor.prev);
        plan.gap_notice(text, before);
    }

    /// Fills `found` with the ring indices where the session's updates may lie, oldest first. Returns the index up to
    /// which none is missing.
    ///
    /// The frames of a subject are linked. A session with a few of ten thousand subjects is owed little of what has
    /// come, and finds it by the links; for others every update is looked at, as many as one pass allows.
    fn candidates(&self, behind: &Behind, found: &mut Vec<RingIndex>) -> RingIndex {
        found.clear();
        // Links lead all over the ring: they pay for a small part of it only.
        let links_max = (self.cursor.since(behind.next) / LINKS_DIVISOR).min(PLAN_PIECES_MAX as u64);
        // No link leads from one numbering to another, and a gap is told only where every update is looked at.
        let is_linked = behind.lost.is_empty() && behind.next >= self.epoch_start;
        if is_linked && self.walk_back(behind.next, links_max, found) {
            return self.cursor;
        }
        let end = self.cursor.min(behind.next.plus(CATCHUP_DESCRIPTORS_MAX));
        found.clear();
        found.extend(behind.next.until(end));
        end
    }

    /// Follows the links of the session's subjects back to ring index `from`. `false`: there are more than `links_max`.
    #[must_use = "too many links: what was found is not all"]
    fn walk_back(&self, from: RingIndex, links_max: u64, found: &mut Vec<RingIndex>) -> bool {
        if self.directory.subject_count(self.set) as u64 > links_max {
            return false;
        }
        // While the ring refreshes its oldest frame, both the frame and its copy are there; the copy's link leads past
        // the frame.
        found.push(from);
        for subject in self.directory.subjects_of(self.set) {
            let mut index = self.directory.subjects[subject.index()].newest;
            while index != RingIndex::NONE && index >= from {
                if found.len() as u64 > links_max {
                    return false;
                }
                found.push(index);
                self.stats.catchup_descriptors.add(1);
                // No descriptor: the publisher has just overwritten it, and everything before it.
                let Ok(descriptor) = self.reader.descriptor(index) else { break };
                index = descriptor.prev_index;
            }
        }
        found.sort_unstable();
        found.dedup();
        true
    }
}

/// Links are followed to at most one sixteenth of the updates that have come.
const LINKS_DIVISOR: u64 = 16;
