//! From the ring to the sockets: one send per session and pass, whatever it is owed.
//!
//! A pass reads what the publisher has added, sorts it by group (sessions with equal subscriptions), and builds one
//! list of slices per group. Frames of one encoding that lie end to end in the ring are one slice. Each member of the
//! group is sent that list; a session that takes it whole is not even looked at.

use std::io;

use fanblade_net::{Engine, SessionId, Unsent};

use crate::catchup::copy_rest;
use crate::directory::NO_FRAME;
use crate::limits::PASS_DESCRIPTORS_MAX;
use crate::protocol;
use crate::session::State;
use crate::slices::push_frame;
use crate::worker::{Action, Worker, unix_ns};

impl Worker {
    /// Fans out what the ring holds beyond the cursor, as much as one pass takes.
    pub(crate) fn fan_out(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let tail = self.reader.tail();
        if tail == self.cursor || self.begins_epoch(engine)? {
            return Ok(());
        }
        self.directory.learn(&self.reader);
        let (first, before_seq) = (self.cursor, self.cursor_seq);
        let Some(published_ns) = self.drain(tail) else {
            // What was gathered of the pass is not sent: the sessions stand where they stood before it.
            self.forget_pass();
            (self.cursor, self.cursor_seq) = (first, before_seq);
            self.lapped();
            return Ok(());
        };
        if self.touched.is_empty() {
            return Ok(());
        }
        self.send_groups(engine);
        let mut unsent = std::mem::take(&mut self.unsent);
        engine.flush(&mut |it| unsent.push(it))?;
        self.stats.latency.record(unix_ns().saturating_sub(published_ns));
        self.stats.passes.add(1);
        if self.reader.is_intact(first) {
            for it in unsent.drain(..) {
                self.fell_short(it, before_seq);
            }
        } else {
            unsent.clear();
            self.close_touched();
        }
        self.unsent = unsent;
        for group in self.touched.drain(..) {
            self.directory.groups[group as usize].owed.clear();
        }
        Ok(())
    }

    /// Moves the cursor towards `tail` and gathers what each group is owed. Returns when the oldest of these updates
    /// was published; `None` if the publisher has overtaken this worker.
    fn drain(&mut self, tail: u64) -> Option<u64> {
        if self.cursor < self.reader.oldest() {
            return None;
        }
        let mut oldest_ns = u64::MAX;
        let end = self.pass_end(tail);
        let first = self.cursor;
        while self.cursor < end {
            let descriptor = self.reader.descriptor(self.cursor).ok()?;
            let index = self.cursor;
            self.cursor += 1;
            let subject = descriptor.subject.0;
            if let Some(entry) = self.directory.subjects.get_mut(subject as usize) {
                entry.newest = index;
                entry.origin = descriptor.origin;
            }
            if descriptor.is_refresh() {
                continue;
            }
            self.cursor_seq = descriptor.seq;
            oldest_ns = oldest_ns.min(descriptor.ts_publish_ns);
            if self.directory.owe(subject, index, &descriptor.lanes, &mut self.touched) {
                break;
            }
        }
        self.stats.descriptors.add(self.cursor - first);
        Some(oldest_ns)
    }

    fn forget_pass(&mut self) {
        for number in self.touched.drain(..) {
            let group = &mut self.directory.groups[number as usize];
            let conflatable = group.owed.drain(..).filter(|owed| owed.conflatable).count() as u64;
            group.frames_conflatable = group.frames_conflatable.wrapping_sub(conflatable);
        }
    }

    /// Where a new numbering begins, the sessions are told before they get its first frame: `true` when they have to be
    /// served before the fan-out goes on.
    fn begins_epoch(&mut self, engine: &mut dyn Engine) -> io::Result<bool> {
        if self.reader.generation() == self.epoch_generation || self.cursor < self.reader.epoch_start() {
            return Ok(false);
        }
        (self.epoch_generation, self.epoch) = self.reader.epoch();
        self.cursor_seq = 0;
        // Those who are behind learn it where they get there.
        let mut text = std::mem::take(&mut self.text);
        protocol::write_epoch(&mut text, &self.epoch);
        let told = self.tell_all(engine, &text, false);
        self.text = text;
        told.map(|()| true)
    }

    /// How far a pass may go: not beyond the beginning of a new numbering.
    fn pass_end(&self, tail: u64) -> u64 {
        let end = tail.min(self.cursor + PASS_DESCRIPTORS_MAX as u64);
        let is_new_epoch_ahead = self.reader.generation() != self.epoch_generation;
        if is_new_epoch_ahead { end.min(self.reader.epoch_start().max(self.cursor)) } else { end }
    }

    fn send_groups(&mut self, engine: &mut dyn Engine) {
        let (mut sends, mut frames, mut bytes) = (0, 0, 0);
        for number in &self.touched {
            let group = &self.directory.groups[*number as usize];
            if group.members.is_empty() {
                continue;
            }
            self.slices.clear();
            for owed in &group.owed {
                push_frame(&mut self.slices, &self.reader, group.lane(), owed.position, owed.length);
            }
            for member in &group.members {
                engine.send(SessionId(*member), &self.slices);
            }
            let members = group.members.len() as u64;
            sends += members;
            frames += members * group.owed.len() as u64;
            bytes += members * self.slices.len_total() as u64;
        }
        self.stats.sends.add(sends);
        self.stats.frames_delivered.add(frames);
        self.stats.bytes_delivered.add(bytes);
    }

    /// A session's socket did not take the whole pass: what is left of the frame that was cut is copied, and the
    /// session is behind from the frame after it. `before_seq`: where the numbering stood before the pass.
    fn fell_short(&mut self, unsent: Unsent, before_seq: u64) {
        let index = unsent.session.0;
        self.stats.unsent.add(1);
        let Some(session) = self.sessions.find(index) else { return };
        let lane = session.lane;
        let Some(group) = self.directory.groups.get(session.group as usize) else { return };
        let mut sent = unsent.sent;
        let whole = group.owed.iter().take_while(|owed| {
            let is_whole = sent >= owed.length as usize;
            sent -= if is_whole { owed.length as usize } else { 0 };
            is_whole
        });
        let whole = whole.count();
        let cut = if sent > 0 { group.owed.get(whole).copied() } else { None };
        let given = whole + usize::from(cut.is_some());
        let missing = &group.owed[given..];
        let next = missing.first().map_or(self.cursor, |owed| owed.index);
        let conflatable = missing.iter().filter(|owed| owed.conflatable).count() as u64;
        let served = group.frames_conflatable.wrapping_sub(conflatable);
        // The frame that was cut counts as delivered: its rest goes first.
        self.stats.frames_delivered.sub(missing.len() as u64);
        self.stats.bytes_delivered.sub(missing.iter().map(|owed| u64::from(owed.length)).sum());
        if unsent.error.is_some() || session.state != State::Open {
            return self.drop_session(index);
        }
        session.blocked = true;
        // The newest that it was given: of this pass, else from before it. Too low a number would tell a gap that is
        // none; too high a number would keep one quiet.
        let last = given.checked_sub(1).and_then(|last| self.reader.descriptor(group.owed[last].index).ok());
        let after_seq = last.map_or(before_seq, |descriptor| descriptor.seq);
        self.fall_behind(index, next, served, after_seq);
        self.note_slow(index);
        self.actions.push(Action::WantWritable(unsent.session));
        debug_assert!(self.sessions.extra(index).is_some_and(|extra| extra.out.is_empty()), "a member owed bytes");
        if let Some(cut) = cut
            && let Some(extra) = self.sessions.extra(index)
            && !copy_rest(&self.reader, cut.index, lane, sent, &mut extra.out)
        {
            self.stats.lapped_closed.add(1);
            self.drop_session(index);
        }
    }

    /// The publisher has overtaken this worker: its sessions go on from the ring's history as if they were slow, and
    /// the worker itself from the ring's end.
    fn lapped(&mut self) {
        self.stats.lapped.add(1);
        let (next, after_seq) = (self.cursor, self.cursor_seq);
        for number in 0..self.directory.groups.len() {
            let group = &self.directory.groups[number];
            let served = group.frames_conflatable;
            for member in group.members.clone() {
                self.fall_behind(member, next, served, after_seq);
                self.make_ready(member);
            }
        }
        self.jump_to_tail();
    }

    /// Sets the cursor to the ring's end and takes every subject's newest frame before it from the ring's own table.
    pub(crate) fn jump_to_tail(&mut self) {
        let tail = self.reader.tail();
        self.directory.learn(&self.reader);
        for number in 0..self.directory.subjects.len() {
            let id = fanblade_ring::SubjectId(u32::try_from(number).unwrap_or(u32::MAX));
            let mut newest = self.reader.newest(id);
            let entry = &mut self.directory.subjects[number];
            (entry.newest, entry.origin) = (NO_FRAME, NO_FRAME);
            // The table may be ahead of `tail`: walk back. Bounded by what the publisher has added since.
            while let Some(index) = newest {
                let Ok(descriptor) = self.reader.descriptor(index) else { break };
                if index < tail {
                    (entry.newest, entry.origin) = (index, descriptor.origin);
                    break;
                }
                newest = Some(descriptor.prev_index).filter(|index| *index != NO_FRAME);
            }
        }
        self.cursor = tail;
        let last = tail.checked_sub(1).and_then(|index| self.reader.descriptor(index).ok());
        if let Some(last) = last.filter(|descriptor| !descriptor.is_refresh()) {
            self.cursor_seq = last.seq;
        }
    }

    /// Bytes may have been overwritten while the kernel copied them: no frame may be torn (I4), so these sessions end.
    fn close_touched(&mut self) {
        let touched = self.touched.clone();
        for group in touched {
            for member in self.directory.groups[group as usize].members.clone() {
                self.stats.lapped_closed.add(1);
                self.drop_session(member);
            }
        }
    }
}
