//! Sessions that owe: replies and notices first, then, for those behind, the frames that they lack.
//!
//! A session falls behind when the kernel does not take a send whole. From then on the fan-out does not see it, and
//! it costs the others nothing. When its socket takes bytes again, one send gives it as much as one pass allows of:
//! the rest of the torn frame, then replies and notices, then frames straight from the ring. In `conflate` those are
//! the newest of each subject that has changed; in `all` every one that the ring still holds, each gap told before
//! it.

use std::io;

use fanblade_net::{Engine, SessionId, Unsent};
use fanblade_ring::{Descriptor, Lane, Reader};
use fanblade_wire::frame::{self, Opcode};

use crate::directory::{Directory, NO_FRAME, Set};
use crate::limits::{
    CATCHUP_DESCRIPTORS_MAX, PASS_CATCHUPS_MAX, PASS_LOOKS_MAX, PLAN_PIECES_MAX, REPLY_LOOKS, UPDATE_PIECES_MAX,
};
use crate::protocol::{self, Mode};
use crate::session::{Behind, Lost, State};
use crate::slices::{begin_with, push_bytes, push_frame};
use crate::stats::WorkerStats;
use crate::worker::{Action, Worker};

/// What one call of `serve` is about to send: pieces of many sessions, one after the other.
#[derive(Default)]
pub(crate) struct Plan {
    sends: Vec<Planned>,
    pieces: Vec<Piece>,
    /// Where the pieces of the session begin that is being planned for.
    first: usize,
    /// Frames of notices.
    notices: Vec<u8>,
    /// Scratch: `(origin, ring index)` of the frames that a conflated session is owed.
    owed: Vec<(u64, u64)>,
    /// Scratch: subjects of which the plan has a frame already, where the session has lost some. Sorted.
    seen: Vec<u32>,
    /// Scratch: ring indices that a session's history is looked for at.
    candidates: Vec<u64>,
}

/// One session's send.
struct Planned {
    index: u32,
    /// Its pieces.
    from: usize,
    to: usize,
    /// Bytes of the session's own buffer that go first.
    owed_len: usize,
    /// Bytes of the pieces.
    pieces_len: usize,
    /// Where it stands once all of it is sent; `None` where that is what its last piece says.
    end: Option<Standing>,
    unsent: Option<Unsent>,
}

/// Where a session will stand once a plan is carried out.
#[derive(Clone, Copy)]
struct Standing {
    next: u64,
    after_seq: u64,
    dropped: u64,
    generation: u32,
}

/// One frame of a plan.
#[derive(Clone, Copy)]
struct Piece {
    source: Source,
    len: u32,
    /// Its subject; [`NO_SUBJECT`] for a notice.
    subject: u32,
    /// First update that the session still lacks once this piece is sent.
    next: u64,
    after_seq: u64,
    /// What it adds to [`Behind::served`].
    served: u64,
    /// What it adds to [`Behind::dropped`].
    dropped: u64,
    /// The epoch's generation that the client knows after it.
    generation: u32,
}

#[derive(Clone, Copy)]
enum Source {
    /// Place in `Plan::notices`.
    Notice { at: usize, is_gap: bool },
    /// Position in the session's lane, and the ring index of the descriptor.
    Ring { position: u64, index: u64 },
}

impl Worker {
    /// Sends what the ready sessions owe. Sessions that are merely owed a reply are all served; of those that are
    /// behind, as many as a pass may help.
    pub(crate) fn serve(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        if self.ready.is_empty() {
            return Ok(());
        }
        let mut plan = std::mem::take(&mut self.plan);
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
            self.plan_session(&mut plan, index);
        }
        let Plan { sends, pieces, notices, .. } = &mut plan;
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
                // `PLAN_PIECES_MAX` rules this out; were it not so, the rest would still be owed.
                planned.cut(refused, pieces);
            }
            if !self.slices.is_empty() {
                engine.send(SessionId(planned.index), &self.slices);
            }
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        engine.flush(&mut |it| unsent.push(it))?;
        // Whoever was sent to here has an `Extra` until it is settled: that it may be within a frame can be seen.
        self.is_sending = false;
        // Both lists are in different orders; the sessions' indices join them.
        unsent.sort_unstable_by_key(|it| it.session);
        for planned in sends.iter_mut() {
            let place = unsent.binary_search_by_key(&SessionId(planned.index), |it| it.session);
            planned.unsent = place.ok().map(|place| unsent[place]);
        }
        unsent.clear();
        self.unsent = unsent;
        for planned in sends.iter() {
            self.settle(planned, pieces, notices);
        }
        self.plan = plan;
        Ok(())
    }

    /// Adds one session's send to the plan.
    fn plan_session(&mut self, plan: &mut Plan, index: u32) {
        // In this order: what the ring keeps of older updates lies before the tail.
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

    /// One session's send is done: what of it was taken, and what follows.
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
        let pieces = &pieces[planned.from..planned.to];
        let total = planned.owed_len + planned.pieces_len;
        let index = planned.index;
        if planned.unsent.is_some_and(|unsent| unsent.error.is_some()) {
            return self.drop_session(index);
        }
        if !self.are_intact(pieces) {
            self.stats.lapped_closed.add(1);
            return self.drop_session(index);
        }
        let sent = planned.unsent.map_or(total, |unsent| unsent.sent);
        self.note_delivered(pieces, sent.saturating_sub(planned.owed_len));
        let now_ms = self.now_ms;
        let Some(session) = self.sessions.find(index) else { return };
        let (state, lane) = (session.state, session.lane);
        if let Some(extra) = &mut session.extra {
            let beyond = extra.take_owed(sent);
            if let Some(behind) = &mut extra.behind {
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
                if let Some((piece, taken)) = cut {
                    let copied = match piece.source {
                        Source::Notice { at, .. } => {
                            extra.out.extend_from_slice(&notices[at + taken..at + piece.len as usize]);
                            true
                        }
                        Source::Ring { index, .. } => copy_rest(&self.reader, index, lane, taken, &mut extra.out),
                    };
                    extra.out_whole = extra.out.len();
                    if !copied {
                        self.stats.lapped_closed.add(1);
                        return self.drop_session(index);
                    }
                }
            }
        }
        if planned.unsent.is_some() {
            let Some(session) = self.sessions.find(index) else { return };
            session.blocked = true;
            let is_open = session.state == State::Open;
            self.stats.unsent.add(1);
            self.actions.push(Action::WantWritable(SessionId(index)));
            if is_open {
                // Had it been current, it is no longer.
                self.fall_behind_here(index);
                self.note_slow(index);
            }
            return;
        }
        match state {
            State::Closing => self.linger(index),
            State::Open => self.served_whole(index),
            State::Free | State::Preface | State::Handshake | State::Lingering => {}
        }
    }

    /// All that was planned for the session is out.
    fn served_whole(&mut self, index: u32) {
        let cursor = self.cursor;
        let Some(session) = self.sessions.find(index) else { return };
        let Some(extra) = &session.extra else { return };
        if extra.replay.is_some() {
            return self.step_replay(index);
        }
        if extra.behind.as_ref().is_some_and(|behind| behind.next < cursor || behind.kept_until > cursor) {
            return self.make_ready(index);
        }
        // What it asked while it was behind is answered first.
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

impl Planned {
    /// Only so many of its `pieces` are sent: the others are owed still.
    fn cut(&mut self, kept: usize, pieces: &[Piece]) {
        self.to = self.from + kept;
        self.pieces_len = pieces[..kept].iter().map(|piece| piece.len as usize).sum();
        self.end = None;
    }
}

impl Behind {
    /// `sent` bytes of `pieces` were taken: moves on behind those that went whole. Returns the piece that was cut in
    /// two and how much of it went; it counts as given, its rest being copied.
    fn advance(&mut self, pieces: &[Piece], mut sent: usize) -> Option<(Piece, usize)> {
        for piece in pieces {
            if sent == 0 {
                return None;
            }
            (self.next, self.after_seq) = (piece.next, piece.after_seq);
            self.served = self.served.wrapping_add(piece.served);
            self.dropped += piece.dropped;
            self.generation = piece.generation;
            if piece.subject != NO_SUBJECT {
                for lost in &mut self.lost {
                    lost.settle(piece.subject);
                }
            }
            if sent < piece.len as usize {
                return Some((*piece, sent));
            }
            sent -= piece.len as usize;
        }
        None
    }
}

/// What planning looks at.
struct View<'a> {
    stats: &'a WorkerStats,
    reader: &'a Reader,
    directory: &'a Directory,
    lane: Lane,
    set: Set,
    /// Older updates are not pointed at.
    oldest: u64,
    tail: u64,
    cursor: u64,
    cursor_seq: u64,
    epoch: &'a str,
    epoch_start: u64,
    generation: u32,
}

impl View<'_> {
    /// Plans frames for a session that is behind.
    fn plan(&self, plan: &mut Plan, behind: &mut Behind, text: &mut String) -> Standing {
        if self.directory.is_conflating(self.set) {
            self.plan_newest(plan, behind, text)
        } else {
            self.plan_history(plan, behind, text)
        }
    }

    /// Conflation: the newest frame of each subject that has changed, in the order of their publication.
    fn plan_newest(&self, plan: &mut Plan, behind: &Behind, text: &mut String) -> Standing {
        let mut owed = std::mem::take(&mut plan.owed);
        owed.clear();
        for subject in self.directory.subjects_of(self.set) {
            let entry = &self.directory.subjects[subject as usize];
            if entry.newest != NO_FRAME && entry.origin >= behind.next {
                owed.push((entry.origin, entry.newest));
            }
        }
        owed.sort_unstable();
        owed.dedup();
        let mut standing =
            Standing { next: behind.next, after_seq: behind.after_seq, dropped: 0, generation: behind.generation };
        let came = self.directory.group_of(self.set).map_or(behind.came, |group| group.frames_conflatable);
        let came = came.wrapping_sub(behind.served);
        let dropped = came.saturating_sub(owed.len() as u64);
        if dropped > 0 {
            protocol::write_lagging(text, dropped);
            plan.notice(text, &standing, dropped);
        }
        let mut is_complete = true;
        for (origin, index) in &owed {
            // Its bytes may have moved in this very moment; the ring will tell where to.
            let descriptor = self.reader.descriptor(*index).ok();
            let Some(descriptor) = descriptor.filter(|_| plan.has_room()) else {
                is_complete = false;
                break;
            };
            self.tell_epoch(plan, &mut standing, *origin, text);
            (standing.next, standing.after_seq) = (origin + 1, descriptor.seq);
            plan.frame(&descriptor, *index, self.lane, &standing, 1);
        }
        plan.owed = owed;
        if is_complete { self.current(standing.generation) } else { standing }
    }

    /// Every update since, subject by subject as its mode wants.
    fn plan_history(&self, plan: &mut Plan, behind: &mut Behind, text: &mut String) -> Standing {
        behind.note_lost(self.oldest, self.tail, self.generation);
        let mut standing =
            Standing { next: behind.next, after_seq: behind.after_seq, dropped: 0, generation: behind.generation };
        plan.seen.clear();
        let mut candidates = std::mem::take(&mut plan.candidates);
        let mut end = self.candidates(behind, &mut candidates);
        let mut reached = behind.next;
        for &index in &candidates {
            self.stats.catchup_descriptors.add(1);
            // Lapped in this very moment: the next pass finds the ring's new beginning.
            let descriptor = self.reader.descriptor(index).ok();
            let Some(descriptor) = descriptor.filter(|_| plan.has_room()) else {
                end = reached;
                break;
            };
            reached = index + 1;
            let is_refresh = descriptor.is_refresh();
            let before = Standing { next: index, ..standing };
            if !is_refresh {
                standing.after_seq = descriptor.seq;
            }
            let subject = descriptor.subject.0;
            let Some(mode) = self.directory.mode_in(self.set, subject) else { continue };
            let entry = &self.directory.subjects[subject as usize];
            // A stretch was lost, and this is the first that the session gets of the subject since.
            let is_first =
                behind.lost.iter().any(|lost| lost.settled.binary_search(&subject).is_err()) && plan.see(subject);
            // The frame itself was lost, but it was its subject's newest, so that the ring kept it.
            let is_kept = is_refresh && is_first && behind.lost.iter().any(|lost| lost.holds(&descriptor));
            if is_refresh && !is_kept {
                continue;
            }
            if mode == Mode::Conflate && descriptor.origin != entry.origin {
                standing.dropped += 1;
                continue;
            }
            standing.next = index;
            self.tell_epoch(plan, &mut standing, descriptor.origin, text);
            if mode == Mode::All
                && is_first
                && let Some(lost) = behind.lost.iter().find(|lost| lost.holds_a_predecessor_of(&descriptor, subject))
                && let Some(entry) = self.reader.subject(descriptor.subject)
            {
                protocol::write_gap(text, &entry.name, lost.after_seq, descriptor.prev);
                plan.notice_of(text, &Standing { dropped: 0, generation: standing.generation, ..before }, 0, true);
            }
            standing.next = index + 1;
            plan.frame(&descriptor, index, self.lane, &standing, 0);
            standing.dropped = 0;
        }
        plan.candidates = candidates;
        if end < self.cursor {
            return Standing { next: end, ..standing };
        }
        Standing { dropped: standing.dropped, ..self.current(standing.generation) }
    }

    /// Where in the ring to look for what a session lacks: indices, oldest first. Returns up to where they are all.
    ///
    /// A subject's frames are linked. Who has a few of ten thousand subjects is owed little of what has come, and finds
    /// it by the links; else every update is looked at, as many as one pass allows.
    fn candidates(&self, behind: &Behind, found: &mut Vec<u64>) -> u64 {
        found.clear();
        // Links lead all over the ring: worth it for a small part only.
        let links_max = (self.cursor.saturating_sub(behind.next) / LINKS_DIVISOR).min(PLAN_PIECES_MAX as u64);
        // No link leads from one numbering to another, and gaps are told by every number that has passed.
        let is_linked = behind.lost.is_empty() && behind.next >= self.epoch_start;
        if is_linked && self.walk_back(behind.next, links_max, found) {
            return self.cursor;
        }
        let end = self.cursor.min(behind.next + CATCHUP_DESCRIPTORS_MAX);
        found.clear();
        found.extend(behind.next..end);
        end
    }

    /// The frames of the session's subjects from ring index `from` on, by their links. `false`: there are too many.
    fn walk_back(&self, from: u64, links_max: u64, found: &mut Vec<u64>) -> bool {
        if self.directory.subject_count(self.set) as u64 > links_max {
            return false;
        }
        // While the oldest of all is being refreshed, both it and its copy are there; the copy's link leads past it.
        found.push(from);
        for subject in self.directory.subjects_of(self.set) {
            let mut index = self.directory.subjects[subject as usize].newest;
            while index != NO_FRAME && index >= from {
                if found.len() as u64 > links_max {
                    return false;
                }
                found.push(index);
                self.stats.catchup_descriptors.add(1);
                // Lapped in this very moment: older ones are gone, too.
                let Ok(descriptor) = self.reader.descriptor(index) else { break };
                index = descriptor.prev_index;
            }
        }
        found.sort_unstable();
        found.dedup();
        true
    }

    fn current(&self, generation: u32) -> Standing {
        Standing { next: self.cursor, after_seq: self.cursor_seq, dropped: 0, generation }
    }

    /// Before the first frame of a numbering that the client does not know yet, says so.
    fn tell_epoch(&self, plan: &mut Plan, standing: &mut Standing, origin: u64, text: &mut String) {
        if standing.generation != self.generation && origin >= self.epoch_start {
            protocol::write_epoch(text, self.epoch);
            standing.generation = self.generation;
            plan.notice(text, &Standing { dropped: 0, ..*standing }, 0);
        }
    }
}

impl Behind {
    /// The ring's history begins at `oldest`: what the session lacked before that is lost, but for what the ring has
    /// kept of it before `tail`.
    fn note_lost(&mut self, oldest: u64, tail: u64, generation: u32) {
        if self.next >= oldest {
            return;
        }
        self.kept_until = tail;
        if self.lost.len() == LOST_STRETCHES_MAX {
            // Two become one: a subject is settled only if it was in both, so that nothing goes untold.
            let last = self.lost.remove(LOST_STRETCHES_MAX - 1);
            if let Some(kept) = self.lost.last_mut() {
                kept.to = last.to;
                kept.settled.retain(|subject| last.settled.binary_search(subject).is_ok());
            }
        }
        // In a numbering that the client does not know yet, it has had nothing.
        let after_seq = if self.generation == generation { self.after_seq } else { 0 };
        let lost = Lost { from: self.next, to: oldest, after_seq, settled: Vec::new() };
        self.lost.push(lost);
        self.next = oldest;
    }
}

impl Lost {
    /// The session has got a frame of `subject` since.
    fn settle(&mut self, subject: u32) {
        if let Err(place) = self.settled.binary_search(&subject) {
            self.settled.insert(place, subject);
        }
    }

    /// Was the copied frame lost here, and the session has had none of its subject since?
    fn holds(&self, copy: &Descriptor) -> bool {
        (self.from..self.to).contains(&copy.origin) && self.settled.binary_search(&copy.subject.0).is_err()
    }

    /// Did the frame before this one lie in the lost stretch? Sequence numbers grow along the ring; updates of one
    /// upstream message share theirs, and then the ring index decides.
    fn holds_a_predecessor_of(&self, descriptor: &Descriptor, subject: u32) -> bool {
        self.settled.binary_search(&subject).is_err()
            && (descriptor.prev > self.after_seq
                || (descriptor.prev != 0 && descriptor.prev == self.after_seq && descriptor.prev_index >= self.from))
    }
}

impl Plan {
    fn clear(&mut self) {
        self.sends.clear();
        self.pieces.clear();
        self.notices.clear();
    }

    /// Do all the pieces of one more update fit this session's send?
    fn has_room(&self) -> bool {
        self.pieces.len() - self.first + UPDATE_PIECES_MAX <= PLAN_PIECES_MAX
    }

    /// `true` the first time in this session's plan.
    fn see(&mut self, subject: u32) -> bool {
        match self.seen.binary_search(&subject) {
            Ok(_) => false,
            Err(place) => {
                self.seen.insert(place, subject);
                true
            }
        }
    }

    fn frame(&mut self, descriptor: &Descriptor, index: u64, lane: Lane, after: &Standing, served: u64) {
        let frame = descriptor.lanes[lane as usize];
        if frame.length > 0 {
            self.pieces.push(Piece {
                source: Source::Ring { position: frame.position, index },
                len: frame.length,
                subject: descriptor.subject.0,
                next: after.next,
                after_seq: after.after_seq,
                served,
                dropped: after.dropped,
                generation: after.generation,
            });
        }
    }

    fn notice(&mut self, text: &str, after: &Standing, served: u64) {
        self.notice_of(text, after, served, false);
    }

    fn notice_of(&mut self, text: &str, after: &Standing, served: u64, is_gap: bool) {
        let at = self.notices.len();
        frame::write_frame(&mut self.notices, Opcode::Text, text.as_bytes());
        self.pieces.push(Piece {
            source: Source::Notice { at, is_gap },
            len: u32::try_from(self.notices.len() - at).unwrap_or(0),
            subject: NO_SUBJECT,
            next: after.next,
            after_seq: after.after_seq,
            served,
            dropped: after.dropped,
            generation: after.generation,
        });
    }
}

/// Copies a frame's bytes from `taken` on; `false` when the publisher has overwritten it.
pub(crate) fn copy_rest(reader: &Reader, index: u64, lane: Lane, taken: usize, out: &mut Vec<u8>) -> bool {
    reader.descriptor(index).is_ok_and(|descriptor| reader.copy_frame_from(&descriptor, lane, taken, out).is_ok())
}

/// A sixteenth of what has come, at most, is looked for by links.
const LINKS_DIVISOR: u64 = 16;
/// Lost stretches that one session remembers apart; older ones are merged.
const LOST_STRETCHES_MAX: usize = 8;
/// A piece that is no frame of a subject.
const NO_SUBJECT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_a_send_is_owed_still() {
        let piece = |number: u64| Piece {
            source: Source::Ring { position: 0, index: number },
            len: 10,
            subject: 7,
            next: number + 1,
            after_seq: number,
            served: 1,
            dropped: 0,
            generation: 1,
        };
        let pieces: Vec<Piece> = (0..5).map(piece).collect();
        let end = Standing { next: 9, after_seq: 8, dropped: 3, generation: 1 };
        let mut planned =
            Planned { index: 0, from: 0, to: 5, owed_len: 4, pieces_len: 50, end: Some(end), unsent: None };
        planned.cut(3, &pieces);
        assert_eq!((planned.to, planned.pieces_len), (3, 30));
        // All that was sent is taken: the session stands behind the third piece, not where the whole plan would end.
        let mut behind = Behind::default();
        assert!(behind.advance(&pieces[planned.from..planned.to], planned.pieces_len).is_none());
        assert!(planned.end.is_none(), "it is not at the end of its plan");
        assert_eq!((behind.next, behind.after_seq, behind.served, behind.dropped), (3, 2, 3, 0));
    }
}
