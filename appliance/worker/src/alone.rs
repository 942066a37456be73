//! The fan-out to sessions with lists of their own: each frame goes to the sessions that have its subject, by name or
//! by a pattern.
//!
//! It works as `fanout` does for groups: a pass gathers frames (`arena`), sends each session its own in one send, and
//! looks again only at sessions that did not take all. Those fall behind as any other does; they stay in the lists of
//! their filters meanwhile, and the fan-out counts there what they miss.

use fanblade_net::Engine;
use fanblade_ring::Descriptor;

use crate::arena::{Delivery, First};
use crate::clock::{RunningUs, UnixNs};
use crate::directory::{Moment, SetKind};
use crate::ids::RingIndex;
use crate::limits::TURN_SENDS;
use crate::protocol::Mode;
use crate::session::{IDLE, NOT_MEMBER, Session};
use crate::slices::push_frame;
use crate::worker::Worker;

impl Session {
    /// Its slot in the arena, if it has one: it may be owed something there.
    pub(crate) fn slot(&self) -> Option<u32> {
        let is_own = matches!(self.set.kind(), SetKind::Own(_));
        Some(self.member).filter(|member| is_own && *member != NOT_MEMBER && *member != IDLE)
    }
}

impl Worker {
    /// Adds a published frame to what sessions alone are owed. `true`: the pass has to end here, because one of them is
    /// owed as much as one send takes, or all together are owed as much as a pass holds.
    pub(crate) fn owe_alone(&mut self, frame: &Descriptor, moment: &Moment) -> bool {
        let Self { directory, sessions, arena, .. } = self;
        let Some(subject) = directory.subjects.get(frame.subject.index()) else { return false };
        let window = subject.window();
        let mut number = None;
        let mut is_full = false;
        for holders in directory.holders_of(subject) {
            for (index, mode) in holders.iter() {
                let Some(session) = sessions.find(index) else { continue };
                let length = frame.lanes[session.lane as usize].length;
                if length == 0 {
                    continue;
                }
                let conflatable = mode == Mode::Conflate;
                if session.member == NOT_MEMBER {
                    if let Some(behind) = session.extra.as_mut().and_then(|extra| extra.behind.as_mut())
                        && conflatable
                    {
                        behind.note_came(frame.index);
                    }
                    continue;
                }
                let number = *number.get_or_insert_with(|| arena.begin_frame(frame, moment.before_seq));
                let delivery = Delivery { session: index, lane: session.lane, frame: number, length, conflatable };
                let (member, is_whole_send) = arena.add(session.member, delivery, window, moment);
                session.member = member;
                is_full |= is_whole_send;
            }
        }
        if number.is_some() && arena.is_full() {
            self.stats.passes_cut.add(1);
            is_full = true;
        }
        is_full
    }

    /// Gathers the sessions whose turn it is. Returns the oldest frame that they are owed, and when the first of these
    /// frames was published; `None`: it is no session's turn.
    pub(crate) fn take_due_alone(&mut self, now_us: RunningUs, all: bool) -> Option<(RingIndex, UnixNs)> {
        if !self.arena.is_waited_for() || (self.arena.due_us() > now_us && !all) {
            return None;
        }
        let oldest = self.reader.oldest();
        self.arena.take_due(now_us, all);
        self.note_idle();
        let mut found = None;
        for place in 0..self.arena.due_count() {
            let Some((slot, load)) = self.arena.due_slot(place) else { continue };
            let Some(First { index, published_ns, .. }) = self.arena.first(slot) else { continue };
            if index < oldest {
                // It has waited too long: the ring is about to overwrite the frame.
                self.fall_behind_here(load.session);
                self.make_ready(load.session);
                continue;
            }
            let (first, published) = found.unwrap_or((index, published_ns));
            found = Some((index.min(first), published_ns.min(published)));
        }
        if found.is_none() {
            self.settle_alone();
        }
        found
    }

    /// Queues one send for each session whose turn it is.
    pub(crate) fn send_alone(&mut self, engine: &mut dyn Engine) {
        let (mut sends, mut frames, mut bytes) = (0, 0, 0);
        let (mut batches, mut filled) = (0, 0);
        for place in 0..self.arena.due_count() {
            let Some((slot, load)) = self.arena.due_slot(place) else { continue };
            self.slices.clear();
            let mut owed = self.arena.owed(slot);
            let fits = owed.all(|it| push_frame(&mut self.slices, &self.reader, load.lane, it.position, it.length));
            drop(owed);
            if !fits {
                // `PASS_FRAMES_MAX` rules out that there is more than one send takes. If there were, nothing would be
                // sent or lost.
                self.fall_behind_here(load.session);
                self.make_ready(load.session);
                continue;
            }
            engine.send(load.session, &self.slices);
            sends += 1;
            frames += load.frames;
            bytes += self.slices.len_total() as u64;
            batches += u64::from(load.may_wait);
            filled += u64::from(load.may_wait && load.is_filled);
            if place % TURN_SENDS == 0 {
                self.stats.turns.add(1);
            }
        }
        self.stats.sends.add(sends);
        self.stats.frames_delivered.add(frames);
        self.stats.bytes_delivered.add(bytes);
        self.stats.batches.add(batches);
        self.stats.batches_filled.add(filled);
    }

    /// What was due has been sent, or is no longer owed: its sessions are owed nothing.
    pub(crate) fn settle_alone(&mut self) {
        self.arena.settle();
        self.note_idle();
    }

    /// Bytes may have been overwritten while the kernel copied them: these sessions end.
    pub(crate) fn close_torn_alone(&mut self) {
        for place in 0..self.arena.due_count() {
            let Some((slot, load)) = self.arena.due_slot(place) else { continue };
            if self.arena.first(slot).is_some_and(|first| !self.reader.is_intact(first.index)) {
                self.stats.lapped_closed.add(1);
                self.drop_session(load.session);
            }
        }
    }

    /// The publisher has overtaken this worker: all sessions alone that are current go on from the ring's history.
    pub(crate) fn lapped_alone(&mut self) {
        if self.directory.own_lists().0 > 0 {
            for index in self.sessions.indices() {
                let Some(session) = self.sessions.find(index) else { continue };
                if matches!(session.set.kind(), SetKind::Own(_)) && session.member != NOT_MEMBER {
                    self.fall_behind_here(index);
                    self.make_ready(index);
                }
            }
        }
        self.arena.clear();
    }

    fn note_idle(&mut self) {
        while let Some(index) = self.arena.take_idle() {
            if let Some(session) = self.sessions.find(index)
                && session.slot().is_some()
            {
                session.member = IDLE;
            }
        }
    }
}
