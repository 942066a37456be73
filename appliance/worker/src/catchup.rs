//! Sessions that are owed bytes of their own: replies and notices first, then, for sessions behind, the frames they
//! lack.
//!
//! A session falls behind when the kernel does not take a send whole. From then on the fan-out skips it, and it costs
//! the others nothing. When its socket takes bytes again, one send gives it as much as one pass allows: the rest of the
//! cut frame, then replies and notices, then frames straight from the ring. With `conflate` those are the newest frames
//! of the subjects that have changed (`newest`); with `all`, every update that the ring still holds, with each gap told
//! before it (`history`, `lost`).

mod history;
mod lost;
mod newest;
mod plan;
mod view;

use std::io;

use fanblade_net::Engine;
use fanblade_ring::{Lane, Reader};

use crate::directory::Set;
use crate::ids::{RingIndex, SessionId};
use crate::limits::{PASS_CATCHUPS_MAX, PASS_LOOKS_MAX, REPLY_LOOKS};
use crate::session::State;
use crate::slices::{begin_with, push_bytes, push_frame};
use crate::worker::{Action, Worker};

pub(crate) use lost::Lost;
pub(crate) use plan::Plan;
use plan::{Piece, Planned, Source, Standing};
use view::View;

impl Worker {
    /// Sends to the ready sessions what they are owed: to all that are only owed a reply, and to as many of those
    /// behind as a pass may help.
    pub(crate) fn serve(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let mut plan = std::mem::take(&mut self.plan);
        self.plan_ready(&mut plan);
        self.send_plan(engine, &mut plan)?;
        for planned in &plan.sends {
            self.settle(planned, &plan.pieces[planned.from..planned.to], &plan.notices);
        }
        self.plan = plan;
        Ok(())
    }

    /// Plans a send for each ready session; beyond the limit of a pass, sessions that are behind wait for the next.
    fn plan_ready(&mut self, plan: &mut Plan) {
        plan.clear();
        let (mut catchups, mut looks) = (0, 0);
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            let Some(session) = self.sessions.find(index) else { continue };
            if !session.dirty || session.blocked {
                session.dirty = false;
                continue;
            }
            if session.is_behind() {
                if catchups == PASS_CATCHUPS_MAX || looks >= PASS_LOOKS_MAX {
                    self.ready.push_back(index);
                    continue;
                }
                catchups += 1;
                let is_answered = session.extra.as_ref().is_some_and(|extra| extra.replay.is_some());
                let set = session.set;
                looks += if is_answered { REPLY_LOOKS } else { self.directory.looks(set) };
            }
            session.dirty = false;
            self.plan_session(plan, index);
        }
    }

    /// Hands the planned sends to the kernel, and notes what it did not take of each.
    fn send_plan(&mut self, engine: &mut dyn Engine, plan: &mut Plan) -> io::Result<()> {
        let Plan { sends, pieces, notices, .. } = plan;
        self.is_sending = true;
        for planned in sends.iter_mut() {
            let Some(session) = self.sessions.find(planned.index) else { continue };
            let lane = session.lane;
            begin_with(&mut self.slices, session.extra.as_ref().map_or(&[], |extra| extra.owed()));
            let pieces = &pieces[planned.from..planned.to];
            let refused = pieces.iter().position(|piece| !match piece.source {
                Source::Notice { at, .. } => push_bytes(&mut self.slices, &notices[at..at + piece.len as usize]),
                Source::Ring { position, .. } => push_frame(&mut self.slices, &self.reader, lane, position, piece.len),
            });
            if let Some(refused) = refused {
                // `PLAN_PIECES_MAX` rules this out. Were it to happen, the rest would still be owed.
                planned.cut(refused, pieces);
            }
            if !self.slices.is_empty() {
                engine.send(planned.index, &self.slices);
            }
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        engine.flush(&mut |it| unsent.push(it))?;
        // Until it is settled, each session that was sent to has an `Extra`, which shows that it may be within a frame.
        self.is_sending = false;
        // The two lists are in different orders; the sessions' indices join them.
        unsent.sort_unstable_by_key(|it| it.session);
        for planned in sends.iter_mut() {
            let place = unsent.binary_search_by_key(&planned.index, |it| it.session);
            planned.unsent = place.ok().map(|place| unsent[place]);
        }
        unsent.clear();
        self.unsent = unsent;
        Ok(())
    }

    /// Plans one session's send.
    fn plan_session(&mut self, plan: &mut Plan, index: SessionId) {
        // In this order: the copies that the ring keeps of older updates lie before the tail.
        let (oldest, tail) = (self.reader.oldest(), self.reader.tail());
        let Some(session) = self.sessions.find(index) else { return };
        let (set, lane) = (session.set, session.lane);
        let from = plan.pieces.len();
        plan.first = from;
        let mut planned = Planned { index, from, to: from, owed_len: 0, pieces_len: 0, end: None, unsent: None };
        if let Some(extra) = &mut session.extra {
            planned.owed_len = extra.owed().len();
            if let Some(behind) = &mut extra.behind {
                if extra.replay.is_none() && set != Set::NONE {
                    let view = View {
                        stats: &self.stats,
                        reader: &self.reader,
                        directory: &self.directory,
                        lane,
                        set,
                        oldest,
                        tail,
                        cursor: self.cursor,
                        cursor_seq: self.cursor_seq,
                        epoch: &self.epoch,
                        epoch_start: self.reader.epoch_start(),
                        generation: self.epoch_generation,
                    };
                    planned.end = Some(view.plan(plan, behind, &mut self.text));
                } else if set == Set::NONE {
                    let (next, after_seq) = (self.cursor, self.cursor_seq);
                    planned.end = Some(Standing { next, after_seq, dropped: 0, generation: behind.generation });
                }
            }
        }
        planned.to = plan.pieces.len();
        planned.pieces_len = plan.pieces[from..].iter().map(|piece| piece.len as usize).sum();
        plan.sends.push(planned);
    }

    /// One session's send is done: notes what the kernel took of it, and what follows from that.
    fn settle(&mut self, planned: &Planned, pieces: &[Piece], notices: &[u8]) {
        self.settle_send(planned, pieces, notices);
        let Some(session) = self.sessions.find(planned.index) else { return };
        let is_blocked = session.blocked;
        if let Some(extra) = &mut session.extra
            && (is_blocked || extra.replay.is_none())
        {
            extra.give_back();
        }
        self.sessions.weigh(planned.index);
    }

    fn settle_send(&mut self, planned: &Planned, pieces: &[Piece], notices: &[u8]) {
        let index = planned.index;
        if planned.unsent.is_some_and(|unsent| unsent.error.is_some()) {
            return self.drop_session(index);
        }
        let is_kept = self.are_intact(pieces) && self.move_on(planned, pieces, notices);
        if !is_kept {
            self.stats.lapped_closed.add(1);
            return self.drop_session(index);
        }
        let Some(session) = self.sessions.find(index) else { return };
        match session.state {
            state if planned.unsent.is_some() => {
                // The socket is full: the rest goes when it takes bytes again.
                session.blocked = true;
                self.stats.unsent.add(1);
                self.actions.push(Action::WantWritable(index));
                if state == State::Open {
                    // A current session is now behind.
                    self.fall_behind_here(index);
                    self.note_slow(index);
                }
            }
            State::Closing => self.linger(index),
            State::Open => self.served_whole(index),
            State::Free | State::Preface | State::Handshake | State::Lingering => {}
        }
    }

    /// Moves a session on behind the bytes that the kernel took. The rest of a frame or notice that was cut is copied,
    /// to go first next time. `false`: the publisher has overwritten that rest.
    #[must_use = "the session cannot be sent the rest of the frame"]
    fn move_on(&mut self, planned: &Planned, pieces: &[Piece], notices: &[u8]) -> bool {
        let total = planned.owed_len + planned.pieces_len;
        let sent = planned.unsent.map_or(total, |unsent| unsent.sent);
        self.note_delivered(pieces, sent.saturating_sub(planned.owed_len));
        let now_ms = self.now_ms;
        let Some(session) = self.sessions.find(planned.index) else { return true };
        let lane = session.lane;
        let Some(extra) = &mut session.extra else { return true };
        let beyond = extra.take_owed(sent);
        let Some(behind) = &mut extra.behind else { return true };
        if sent > 0 {
            behind.progress_ms = now_ms;
        }
        let cut = behind.advance(pieces, beyond);
        if planned.unsent.is_none()
            && let Some(end) = planned.end
        {
            (behind.next, behind.after_seq) = (end.next, end.after_seq);
            behind.dropped += end.dropped;
        }
        let Some((piece, taken)) = cut else { return true };
        let is_copied = match piece.source {
            Source::Notice { at, .. } => {
                extra.out.extend_from_slice(&notices[at + taken..at + piece.len as usize]);
                true
            }
            Source::Ring { index, .. } => copy_rest(&self.reader, index, lane, taken, &mut extra.out),
        };
        extra.out_whole = extra.out.len();
        is_copied
    }

    /// All that was planned for the session is out.
    fn served_whole(&mut self, index: SessionId) {
        let cursor = self.cursor;
        let Some(session) = self.sessions.find(index) else { return };
        let Some(extra) = &session.extra else { return };
        if extra.replay.is_some() {
            return self.step_replay(index);
        }
        if extra.behind.as_ref().is_some_and(|behind| behind.next < cursor || behind.kept_until > cursor) {
            return self.make_ready(index);
        }
        // Requests that came while it was behind are answered first.
        match extra.close_when_current.filter(|_| extra.deferred.is_empty()) {
            Some((code, reason)) => self.begin_close(index, code, reason),
            None if extra.behind.is_some() => self.become_current(index),
            // Requests are deferred only while it is behind.
            None => self.sessions.tidy(index),
        }
    }

    fn are_intact(&self, pieces: &[Piece]) -> bool {
        let oldest = pieces.iter().filter_map(|piece| match piece.source {
            Source::Ring { index, .. } => Some(index),
            Source::Notice { .. } => None,
        });
        oldest.min().is_none_or(|index| self.reader.is_intact(index))
    }

    fn note_delivered(&self, pieces: &[Piece], mut sent: usize) {
        let (mut frames, mut bytes, mut conflated, mut gaps) = (0, 0, 0, 0);
        for piece in pieces {
            if sent == 0 {
                break;
            }
            sent = sent.saturating_sub(piece.len as usize);
            match piece.source {
                Source::Ring { .. } => {
                    frames += 1;
                    bytes += u64::from(piece.len);
                }
                Source::Notice { .. } if piece.served > 0 => conflated += piece.served,
                Source::Notice { is_gap, .. } => gaps += u64::from(is_gap),
            }
        }
        self.stats.frames_delivered.add(frames);
        self.stats.bytes_delivered.add(bytes);
        self.stats.frames_conflated.add(conflated);
        self.stats.gap_notices.add(gaps);
        self.stats.sends.add(1);
    }
}

/// Copies a frame's bytes from `taken` on. `false`: the publisher has overwritten it.
#[must_use = "the session cannot be sent the rest of the frame"]
pub(crate) fn copy_rest(reader: &Reader, index: RingIndex, lane: Lane, taken: usize, out: &mut Vec<u8>) -> bool {
    reader.descriptor(index).is_ok_and(|descriptor| reader.copy_frame_from(&descriptor, lane, taken, out).is_ok())
}
