//! Where a session stands: a member, whom the fan-out sends to, or behind, until it has caught up.

use crate::behind::Behind;
use crate::directory::{Set, SetKind, conflatable};
use crate::ids::SessionId;
use crate::protocol;
use crate::session::{IDLE, NOT_MEMBER, State};
use crate::worker::Worker;

impl Worker {
    /// Moves a session to another set of subscriptions.
    pub(crate) fn change_set(&mut self, index: SessionId, set: Set) {
        let Some(session) = self.sessions.find(index) else { return };
        let old = session.set;
        let was_member = session.member != NOT_MEMBER;
        if old == set {
            // A list of its own has changed in itself.
            return self.note_sets();
        }
        // Before the old set is let go: a sweep in between would take the new one away if it had no sessions.
        self.directory.acquire(set);
        if set == Set::NONE {
            self.stats.sessions_subscribed.sub(1);
        }
        self.leave_members(index);
        if old == Set::NONE {
            self.stats.sessions_subscribed.add(1);
        }
        self.directory.release(index, old);
        if let Some(session) = self.sessions.find(index) {
            session.set = set;
        }
        if was_member || old == Set::NONE {
            self.join_members(index);
        }
        self.note_sets();
    }

    /// Publishes how many sets there are.
    fn note_sets(&self) {
        let (lists, subscriptions) = self.directory.own_lists();
        self.stats.own_lists_bytes.set(self.directory.own_lists_bytes() as u64);
        self.stats.groups.set(self.directory.groups_live() as u64);
        self.stats.filters.set(self.directory.filters_counted() as u64);
        self.stats.own_lists.set(lists);
        self.stats.own_subscriptions.set(subscriptions);
    }

    /// A current session falls behind from where it stands: before the first frame that it or its group is owed, if
    /// any; else at the cursor.
    pub(crate) fn fall_behind_here(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        let mut behind = Behind { next: self.cursor, after_seq: self.cursor_seq, ..Behind::default() };
        if let Some(slot) = session.slot() {
            if let Some(first) = self.arena.first(slot) {
                (behind.next, behind.after_seq) = (first.index, first.before_seq);
                behind.came = self.arena.owed(slot).filter(|owed| owed.conflatable).count() as u64;
            }
        } else if let Some(group) = self.directory.group_of(session.set) {
            behind.served = group.frames_conflatable;
            if let Some(first) = group.owed.first()
                && session.member != NOT_MEMBER
            {
                (behind.next, behind.after_seq) = (first.index, group.batch.before_seq);
                behind.served = behind.served.wrapping_sub(conflatable(&group.owed));
            }
        }
        self.fall_behind(index, behind);
    }

    /// A session whose frames wait for others is given them now, apart from its group.
    pub(crate) fn step_out_of_batch(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        let is_owed = match session.slot() {
            Some(slot) => self.arena.first(slot).is_some(),
            None => {
                session.member != NOT_MEMBER
                    && self.directory.group_of(session.set).is_some_and(|group| !group.owed.is_empty())
            }
        };
        if is_owed {
            self.fall_behind_here(index);
            self.make_ready(index);
        }
    }

    /// The fan-out skips the session until it has caught up. `behind` says where it stands.
    pub(crate) fn fall_behind(&mut self, index: SessionId, behind: Behind) {
        let now_ms = self.now_ms;
        let lag_ms_max = u64::from(self.config.limits.lag_ms_max);
        let generation = self.epoch_generation;
        self.leave_members(index);
        let Some(extra) = self.sessions.extra(index) else { return };
        if extra.behind.is_some() {
            return;
        }
        extra.behind = Some(Behind { generation, progress_ms: now_ms, ..behind });
        self.stats.sessions_behind.add(1);
        if self.sessions.find(index).is_some_and(|session| session.subscribed_once) {
            self.arm_earlier(index, now_ms + lag_ms_max);
        }
    }

    /// The kernel did not take all that the session was owed.
    pub(crate) fn note_slow(&mut self, index: SessionId) {
        if let Some(behind) = self.sessions.extra(index).and_then(|extra| extra.behind.as_mut()) {
            behind.is_slow = true;
        }
    }

    /// The session has been given everything up to the cursor: the fan-out takes it from here.
    pub(crate) fn become_current(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        if let Some(extra) = &mut session.extra
            && let Some(behind) = extra.behind.take()
        {
            self.stats.sessions_behind.sub(1);
            self.stats.caught_up.add(u64::from(behind.is_slow));
            if behind.dropped > 0 {
                self.stats.frames_conflated.add(behind.dropped);
                let mut text = std::mem::take(&mut self.text);
                protocol::write_lagging(&mut text, behind.dropped);
                self.say_text(index, &text);
                self.text = text;
            }
            if behind.generation != self.epoch_generation {
                self.tell_epoch(index);
            }
        }
        self.serve_deferred(index);
        self.join_when_nothing_is_owed(index);
    }

    /// A session that is owed bytes of its own is no member: the fan-out would put a frame before them, or into them.
    /// It stays behind, with nothing missing, until they are out.
    fn join_when_nothing_is_owed(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.state != State::Open || session.is_behind() {
            return;
        }
        if session.extra.as_ref().is_some_and(|extra| extra.close_when_current.is_some()) {
            // It is about to end, and gets only what it is owed.
            self.make_ready(index);
        } else if session.extra.as_ref().is_none_or(|extra| extra.owed().is_empty()) {
            self.join_members(index);
            self.sessions.tidy(index);
        } else if session.set != Set::NONE {
            self.fall_behind_here(index);
        }
    }

    /// Makes a session a member. While its group waits for more frames it cannot be one: it has what the others lack.
    fn join_members(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.member != NOT_MEMBER {
            return;
        }
        let group = match session.set.kind() {
            SetKind::None => return,
            SetKind::Own(_) => {
                session.member = IDLE;
                return;
            }
            SetKind::Group(number) => &mut self.directory.groups[number.index()],
        };
        if !group.owed.is_empty() {
            group.joiners.push(index);
            return self.fall_behind_here(index);
        }
        let members = &mut group.members;
        session.member = u32::try_from(members.len()).unwrap_or(NOT_MEMBER);
        members.push(index);
    }

    /// The fan-out forgets the session; its set stays as it is.
    fn leave_members(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        let slot = session.slot();
        let place = std::mem::replace(&mut session.member, NOT_MEMBER);
        if place == NOT_MEMBER {
            return;
        }
        if let Some(slot) = slot {
            return self.arena.leave(slot);
        }
        let SetKind::Group(number) = session.set.kind() else { return };
        let members = &mut self.directory.groups[number.index()].members;
        members.swap_remove(place as usize);
        if let Some(moved) = members.get(place as usize).copied()
            && let Some(session) = self.sessions.find(moved)
        {
            session.member = place;
        }
    }
}
