//! Conflation: a session that is behind gets the newest frame of each subject that has changed since.

use super::plan::{Plan, Standing};
use super::view::View;
use crate::behind::Behind;
use crate::ids::RingIndex;
use crate::protocol;

impl View<'_> {
    /// Plans the newest frame of each subject that has changed, in the order in which they were published. Returns
    /// where the plan ends.
    pub(super) fn plan_newest(&self, plan: &mut Plan, behind: &Behind, text: &mut String) -> Standing {
        // Which subjects have changed, and where their newest frames lie.
        let mut owed = std::mem::take(&mut plan.owed);
        owed.clear();
        for subject in self.directory.subjects_of(self.set) {
            let entry = &self.directory.subjects[subject.index()];
            if entry.newest != RingIndex::NONE && entry.origin >= behind.next {
                owed.push((entry.origin, entry.newest));
            }
        }
        owed.sort_unstable();
        owed.dedup();
        // How many frames they have replaced: the client is told before it gets them.
        let mut standing = Standing::of(behind);
        let came = self.directory.group_of(self.set).map_or(behind.came, |group| group.frames_conflatable);
        let came = came.wrapping_sub(behind.served);
        let dropped = came.saturating_sub(owed.len() as u64);
        if dropped > 0 {
            protocol::write_lagging(text, dropped);
            plan.notice(text, &standing, dropped);
        }
        // The frames themselves, as many as fit one send.
        let mut is_complete = true;
        for (origin, index) in &owed {
            // No descriptor: the ring has just moved the frame, and the next pass finds where to.
            let descriptor = self.reader.descriptor(*index).ok();
            let Some(descriptor) = descriptor.filter(|_| plan.has_room()) else {
                is_complete = false;
                break;
            };
            self.tell_epoch(plan, &mut standing, *origin, text);
            (standing.next, standing.after_seq) = (origin.next(), descriptor.seq);
            plan.frame(&descriptor, *index, self.lane, &standing, 1);
        }
        plan.owed = owed;
        if is_complete { self.current(standing.generation) } else { standing }
    }
}
