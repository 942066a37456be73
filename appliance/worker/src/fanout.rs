//! From the ring to the sockets: one send per session and pass, whatever it is owed.
//!
//! A pass reads what the publisher has added, sorts it by group (sessions with equal subscriptions), and builds one
//! list of slices per group. Frames of one encoding that lie end to end in the ring are one slice. Each member of the
//! group is sent that list; a session that takes it whole is not even looked at. Sessions with lists of their own are
//! in `alone`.
//!
//! A group whose frames may wait for more (`batching`) keeps what it is owed from pass to pass until its turn comes.
//! Its members then stand before its first frame, not at the worker's cursor.

use std::io;

use fanblade_net::{Engine, Unsent};

use crate::behind::Behind;
use crate::catchup::copy_rest;
use crate::clock::{RunningUs, UnixNs};
use crate::directory::{Group, Moment, Owed, SetKind, conflatable};
use crate::ids::{GroupId, RingIndex, SessionId, SubjectId};
use crate::limits::{PASS_DESCRIPTORS_MAX, TURN_SENDS};
use crate::protocol;
use crate::session::State;
use crate::slices::push_frame;
use crate::steps::Steps;
use crate::worker::{Action, Worker};

impl Worker {
    /// Sends what the ring holds beyond the cursor, as much as one pass takes, and what has waited long enough.
    pub(crate) fn fan_out(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let tail = self.reader.tail();
        if tail != self.cursor {
            if self.begins_epoch(engine)? {
                return Ok(());
            }
            let mut steps = Steps::new(self.config.limits.pass_steps_max);
            let are_known = self.directory.learn(&self.reader, &mut steps);
            let (first, before_seq) = (self.cursor, self.cursor_seq);
            if self.drain(tail, are_known).is_none() {
                // Nothing of this pass is sent: the sessions stand where they stood before it.
                self.forget_pass(first);
                (self.cursor, self.cursor_seq) = (first, before_seq);
                self.lapped();
                return Ok(());
            }
        }
        // A worker that is about to stop lets nothing wait.
        self.send_due(engine, self.draining.is_some())
    }

    /// Sends to the groups and sessions whose turn it is; with `all`, to all that are owed something. No member may be
    /// owed bytes of its own: `serve` comes first.
    pub(crate) fn send_due(&mut self, engine: &mut dyn Engine, all: bool) -> io::Result<()> {
        let now_us = self.now_us();
        let due = [self.take_due(now_us, all), self.take_due_alone(now_us, all)];
        let due = due.into_iter().flatten().reduce(|one, other| (one.0.min(other.0), one.1.min(other.1)));
        let Some((first, published_ns)) = due else { return Ok(()) };
        self.is_sending = true;
        self.send_groups(engine);
        self.send_alone(engine);
        let unsent = &mut self.unsent;
        engine.flush(&mut |it| unsent.push(it))?;
        self.stats.latency.record(UnixNs::now().since(published_ns));
        self.stats.passes.add(1);
        if !self.reader.is_intact(first) {
            self.close_torn();
            self.close_torn_alone();
        }
        self.is_sending = false;
        while let Some(it) = self.unsent.last().copied() {
            self.fell_short(it);
            self.unsent.pop();
        }
        let mut due = std::mem::take(&mut self.due_groups);
        for group in due.drain(..) {
            self.settle_group(group);
        }
        self.due_groups = due;
        self.settle_alone();
        Ok(())
    }

    /// Moves the groups whose turn it is from `touched` to `due_groups`. Returns the oldest frame that they are owed,
    /// and when the first of these frames was published; `None`: it is no group's turn.
    fn take_due(&mut self, now_us: RunningUs, all: bool) -> Option<(RingIndex, UnixNs)> {
        if self.touched.is_empty() || (self.directory.due_us > now_us && !all) {
            return None;
        }
        let oldest = self.reader.oldest();
        let mut touched = std::mem::take(&mut self.touched);
        let (mut first, mut published_ns) = (RingIndex::NONE, UnixNs::NEVER);
        self.directory.due_us = RunningUs::NEVER;
        touched.retain(|&number| {
            let Group { owed, batch, members, .. } = &self.directory.groups[number.index()];
            let Some(owed) = owed.first().filter(|_| !members.is_empty()) else {
                self.settle_group(number);
                return false;
            };
            if batch.due_us > now_us && !all {
                self.directory.due_us = self.directory.due_us.min(batch.due_us);
                return true;
            }
            if owed.index < oldest {
                // They have waited too long: the ring is about to overwrite the frame.
                self.group_falls_behind(number);
                return false;
            }
            first = first.min(owed.index);
            published_ns = published_ns.min(batch.published_ns);
            self.due_groups.push(number);
            false
        });
        self.touched = touched;
        (!self.due_groups.is_empty()).then_some((first, published_ns))
    }

    /// The group is owed nothing any more, and sessions that wait for that may become members.
    fn settle_group(&mut self, number: GroupId) {
        let group = &mut self.directory.groups[number.index()];
        group.owed.clear();
        group.is_touched = false;
        for joiner in std::mem::take(&mut group.joiners) {
            self.make_ready(joiner);
        }
    }

    /// Moves the cursor towards `tail` and gathers what each group is owed; up to the first unknown subject, unless all
    /// `are_known`. `None`: the publisher has overtaken this worker.
    fn drain(&mut self, tail: RingIndex, are_known: bool) -> Option<()> {
        if self.cursor < self.reader.oldest() {
            return None;
        }
        let moment = Moment { now_us: self.now_us(), before_seq: self.cursor_seq };
        let end = self.pass_end(tail);
        let first = self.cursor;
        while self.cursor < end {
            let descriptor = self.reader.descriptor(self.cursor).ok()?;
            if !are_known && descriptor.subject.index() >= self.directory.subjects.len() {
                break;
            }
            let index = self.cursor;
            self.cursor = index.next();
            if let Some(entry) = self.directory.subjects.get_mut(descriptor.subject.index()) {
                entry.newest = index;
                entry.origin = descriptor.origin;
            }
            if descriptor.is_refresh() {
                continue;
            }
            self.cursor_seq = descriptor.seq;
            let is_full = self.directory.owe(index, &descriptor, &moment, &mut self.touched);
            if self.owe_alone(&descriptor, &moment) || is_full {
                break;
            }
        }
        self.stats.descriptors.add(self.cursor.since(first));
        Some(())
    }

    /// Takes back what groups are owed from `first` on.
    fn forget_pass(&mut self, first: RingIndex) {
        for number in &self.touched {
            let group = &mut self.directory.groups[number.index()];
            let kept = group.owed.partition_point(|owed| owed.index < first);
            group.frames_conflatable = group.frames_conflatable.wrapping_sub(conflatable(&group.owed[kept..]));
            group.owed.truncate(kept);
        }
        self.arena.forget_from(first);
    }

    /// Tells the sessions of a new numbering before they get its first frame. `true`: they have to be served before the
    /// fan-out goes on.
    fn begins_epoch(&mut self, engine: &mut dyn Engine) -> io::Result<bool> {
        if self.reader.generation() == self.epoch_generation || self.cursor < self.reader.epoch_start() {
            return Ok(false);
        }
        // Frames that wait belong to the old numbering.
        self.send_due(engine, true)?;
        (self.epoch_generation, self.epoch) = self.reader.epoch();
        self.cursor_seq = 0;
        self.directory.subjects.iter_mut().for_each(|subject| subject.refused_told = 0);
        // Sessions that are behind learn it where they get there.
        let mut text = std::mem::take(&mut self.text);
        protocol::write_epoch(&mut text, &self.epoch);
        let told = self.tell_all(engine, &text, false);
        self.text = text;
        told.map(|()| true)
    }

    /// How far a pass may go: not beyond the beginning of a new numbering.
    fn pass_end(&self, tail: RingIndex) -> RingIndex {
        let end = tail.min(self.cursor.plus(PASS_DESCRIPTORS_MAX as u64));
        let is_new_epoch_ahead = self.reader.generation() != self.epoch_generation;
        if is_new_epoch_ahead { end.min(self.reader.epoch_start().max(self.cursor)) } else { end }
    }

    /// Queues one send for each member of the groups that are due, with all frames that the group is owed.
    fn send_groups(&mut self, engine: &mut dyn Engine) {
        let (mut sends, mut frames, mut bytes) = (0, 0, 0);
        let (mut batches, mut filled) = (0, 0);
        let mut due = std::mem::take(&mut self.due_groups);
        due.retain(|number| {
            // The list of slices is made once, and is the same for every member.
            let group = &self.directory.groups[number.index()];
            let lane = group.lane();
            self.slices.clear();
            let fits =
                group.owed.iter().all(|it| push_frame(&mut self.slices, &self.reader, lane, it.position, it.length));
            if !fits {
                // `PASS_FRAMES_MAX` rules out that there is more than one send takes. If there were, nothing would be
                // sent or lost.
                self.group_falls_behind(*number);
                return false;
            }
            // Counts each part as a turn, so that a large group does not look like a thread that stands still.
            for part in group.members.chunks(TURN_SENDS) {
                part.iter().for_each(|member| engine.send(*member, &self.slices));
                self.stats.turns.add(1);
            }
            // All of it counts as taken; `fell_short` takes back what was not.
            let members = group.members.len() as u64;
            sends += members;
            frames += members * group.owed.len() as u64;
            bytes += members * self.slices.len_total() as u64;
            batches += if group.batch.may_wait { members } else { 0 };
            filled += if group.batch.may_wait && group.batch.is_filled { members } else { 0 };
            true
        });
        self.due_groups = due;
        self.stats.sends.add(sends);
        self.stats.frames_delivered.add(frames);
        self.stats.bytes_delivered.add(bytes);
        self.stats.batches.add(batches);
        self.stats.batches_filled.add(filled);
    }

    /// A session's socket did not take the whole send: the rest of the frame that was cut is copied, and the session is
    /// behind from the frame after it.
    fn fell_short(&mut self, unsent: Unsent) {
        // What the send held, by the session's group or its own list, and how much of it was not taken.
        let index = unsent.session;
        self.stats.unsent.add(1);
        let Some(session) = self.sessions.find(index) else { return };
        let lane = session.lane;
        let (shortfall, before_seq) = match session.set.kind() {
            SetKind::None => return,
            SetKind::Group(number) => {
                let group = &self.directory.groups[number.index()];
                (Shortfall::of(group.owed.iter().copied(), unsent.sent), group.batch.before_seq)
            }
            SetKind::Own(_) => {
                let Some(slot) = session.slot() else { return };
                let Some(first) = self.arena.first(slot) else { return };
                (Shortfall::of(self.arena.owed(slot), unsent.sent), first.before_seq)
            }
        };
        let Shortfall { cut, last, next, .. } = shortfall;
        // The frame that was cut counts as delivered: its rest goes first.
        self.stats.frames_delivered.sub(shortfall.frames);
        self.stats.bytes_delivered.sub(shortfall.bytes);
        if unsent.error.is_some() || session.state != State::Open {
            return self.drop_session(index);
        }
        session.blocked = true;
        // The session goes on from the frame after the cut one, with the counts from which its notices are made.
        // `after_seq` is the newest update that the session was given, by this send or before it. Too low a number
        // would report a gap that is none; too high a number would hide one.
        let last = last.and_then(|last| self.reader.descriptor(last).ok());
        let after_seq = last.map_or(before_seq, |descriptor| descriptor.seq);
        let (served, came) = match self.frames_conflatable(index) {
            Some(came) => (came.wrapping_sub(shortfall.conflatable), 0),
            None => (0, shortfall.conflatable),
        };
        let next = next.unwrap_or(self.cursor);
        self.fall_behind(index, Behind { next, served, came, after_seq, ..Behind::default() });
        self.note_slow(index);
        self.actions.push(Action::WantWritable(unsent.session));
        // The rest of the cut frame is copied, because the ring may overwrite it before the socket takes bytes again.
        debug_assert!(self.sessions.extra(index).is_some_and(|extra| extra.out.is_empty()), "a member owed bytes");
        if let Some((cut, sent)) = cut
            && let Some(extra) = self.sessions.extra(index)
        {
            if !copy_rest(&self.reader, cut.index, lane, sent, &mut extra.out) {
                self.stats.lapped_closed.add(1);
                return self.drop_session(index);
            }
            extra.out_whole = extra.out.len();
            self.sessions.weigh(index);
        }
    }

    /// The publisher has overtaken this worker: its sessions go on from the ring's history, as slow ones do, and the
    /// worker itself from the ring's end.
    fn lapped(&mut self) {
        self.stats.lapped.add(1);
        for number in 0..self.directory.groups.len() {
            self.group_falls_behind(GroupId::of(number));
        }
        self.touched.clear();
        self.directory.due_us = RunningUs::NEVER;
        self.lapped_alone();
        self.jump_to_tail();
    }

    /// All its members go on from the ring's history.
    fn group_falls_behind(&mut self, number: GroupId) {
        for member in self.directory.groups[number.index()].members.clone() {
            self.fall_behind_here(member);
            self.make_ready(member);
        }
        self.settle_group(number);
    }

    /// How many conflatable frames have come to the session's group; `None` if it has no group.
    fn frames_conflatable(&mut self, index: SessionId) -> Option<u64> {
        let set = self.sessions.find(index)?.set;
        Some(self.directory.group_of(set)?.frames_conflatable)
    }

    /// Sets the cursor to the ring's end and takes every subject's newest frame before it from the ring's own table.
    pub(crate) fn jump_to_tail(&mut self) {
        let tail = self.reader.tail();
        // This is rare, and nothing can be sent before it is done.
        let are_known = self.directory.learn(&self.reader, &mut Steps::unlimited());
        debug_assert!(are_known, "steps were limited");
        for number in 0..self.directory.subjects.len() {
            let id = SubjectId(u32::try_from(number).unwrap_or(u32::MAX));
            let mut newest = self.reader.newest(id);
            let entry = &mut self.directory.subjects[number];
            (entry.newest, entry.origin) = (RingIndex::NONE, RingIndex::NONE);
            // The table may be ahead of `tail`: walk back, at most over what the publisher has added since.
            while let Some(index) = newest {
                let Ok(descriptor) = self.reader.descriptor(index) else { break };
                if index < tail {
                    (entry.newest, entry.origin) = (index, descriptor.origin);
                    break;
                }
                newest = Some(descriptor.prev_index).filter(|index| *index != RingIndex::NONE);
            }
        }
        self.cursor = tail;
        let last = tail.previous().and_then(|index| self.reader.descriptor(index).ok());
        if let Some(last) = last.filter(|descriptor| !descriptor.is_refresh()) {
            self.cursor_seq = last.seq;
        }
    }

    /// Bytes may have been overwritten while the kernel copied them: no frame may be torn (I4), so these sessions end.
    fn close_torn(&mut self) {
        for number in self.due_groups.clone() {
            let group = &self.directory.groups[number.index()];
            if group.owed.first().is_some_and(|owed| self.reader.is_intact(owed.index)) {
                continue;
            }
            for member in group.members.clone() {
                self.stats.lapped_closed.add(1);
                self.drop_session(member);
            }
        }
    }
}

/// What the kernel did not take of a send.
#[derive(Default)]
struct Shortfall {
    /// The frame that was taken in part, and how much of it.
    cut: Option<(Owed, usize)>,
    /// Ring index of the last frame that went, whole or in part.
    last: Option<RingIndex>,
    /// That of the first frame that did not go, and what did not go.
    next: Option<RingIndex>,
    frames: u64,
    bytes: u64,
    conflatable: u64,
}

impl Shortfall {
    /// `sent` bytes of `owed` went.
    fn of(owed: impl Iterator<Item = Owed>, mut sent: usize) -> Self {
        let mut shortfall = Self::default();
        for it in owed {
            let is_whole = sent >= it.length as usize;
            if is_whole && shortfall.next.is_none() {
                sent -= it.length as usize;
                shortfall.last = Some(it.index);
            } else if sent > 0 {
                shortfall.cut = Some((it, std::mem::take(&mut sent)));
                shortfall.last = Some(it.index);
            } else {
                shortfall.next.get_or_insert(it.index);
                shortfall.frames += 1;
                shortfall.bytes += u64::from(it.length);
                shortfall.conflatable += u64::from(it.conflatable);
            }
        }
        shortfall
    }
}
