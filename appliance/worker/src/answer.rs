//! The answer to a subscription: the reply, and each subject's newest frame or its history since a sequence number.
//!
//! The session counts as behind from the moment it subscribes, with live frames waiting for it in the ring, so that a
//! subscription to forty thousand subjects is answered in steps as its socket takes them, and no other session waits.

mod replay;

use fanblade_ring::{Descriptor, Lane};
use fanblade_wire::close;
use fanblade_wire::frame::{self, Opcode};

use crate::ids::{RingIndex, SessionId, SubjectId};
use crate::limits::{CATCHUP_DESCRIPTORS_MAX, REPLAY_STEP_BYTES, REPLY_SUBJECTS_MAX};
use crate::protocol::{Mode, Resume, SubjectsReply};
use crate::selection::Selection;
use crate::worker::Worker;

pub(crate) use replay::{Replay, Resumed};

impl Worker {
    /// Begins the answer to a subscription.
    pub(crate) fn begin_replay(&mut self, index: SessionId, replay: Replay) {
        self.fall_behind_here(index);
        if let Some(extra) = self.sessions.extra(index) {
            extra.replay = Some(Box::new(replay));
        }
        self.step_replay(index);
    }

    /// Writes the next part of the answer into what the session is owed.
    pub(crate) fn step_replay(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        let lane = session.lane;
        let Some(extra) = session.extra.as_deref_mut() else { return };
        let Some(mut replay) = extra.replay.take() else { return };
        let mut out = std::mem::take(&mut extra.out);
        if !replay.is_told {
            self.tell(&mut replay, lane, &mut out);
        }
        let (mut is_over, mut is_outrun) = (replay.is_told, false);
        let told_len = out.len();
        if replay.is_told && replay.resumed.as_ref().is_some_and(|resumed| resumed.next < replay.until) {
            match self.copy_history(&mut replay, lane, &mut out) {
                Some(is_complete) => is_over = is_complete,
                None => {
                    // The Close frame goes now, while there is room for it: the client can ask again for what was
                    // copied.
                    out.truncate(told_len);
                    is_outrun = true;
                }
            }
        }
        if let Some(extra) = self.sessions.extra(index) {
            extra.out = out;
            extra.replay = (!is_over && !is_outrun).then_some(replay);
        }
        if is_outrun {
            // The client is slower than the ring turns: it can resume from where it got to.
            self.stats.resumes_outrun.add(1);
            return self.begin_close(index, close::TOO_SLOW, OUTRUN);
        }
        self.make_ready(index);
    }

    /// Finds the subjects of `gained` that can go on from `resume` without a loss, and where in the ring their history
    /// begins.
    pub(crate) fn resume(&mut self, resume: &Resume, gained: &Selection, mode: Mode) -> Resumed {
        // Messages below the floor were lost upstream or came before this blade: it does not know what they changed.
        if resume.epoch != self.epoch || resume.seq > self.cursor_seq || resume.seq < self.reader.floor() {
            return Resumed { seq: resume.seq, recovered: Selection::default(), next: self.cursor };
        }
        let reader = &self.reader;
        let has_everything = reader.oldest() <= reader.epoch_start()
            || reader.oldest_seq().is_some_and(|oldest_seq| oldest_seq <= resume.seq);
        let mut budget = RESUME_STEPS_MAX;
        let mut recovered = gained.clone();
        if mode == Mode::All && !has_everything {
            recovered.retain(|subject| self.reaches(subject, resume.seq, &mut budget));
        }
        self.steps.take((RESUME_STEPS_MAX - budget).into());
        let next = match mode {
            Mode::All => self.reader.seek_seq(resume.seq).unwrap_or(self.cursor),
            Mode::Conflate => self.cursor,
        };
        Resumed { seq: resume.seq, recovered, next }
    }

    /// Is every frame of `subject` after `seq` still in the ring?
    fn reaches(&self, subject: SubjectId, seq: u64, budget: &mut u32) -> bool {
        let Some(entry) = self.directory.subjects.get(subject.index()) else { return true };
        let mut index = entry.newest;
        while index != RingIndex::NONE {
            let Some(left) = budget.checked_sub(1) else { return false };
            *budget = left;
            match self.reader.descriptor(index) {
                Err(_) => return false,
                Ok(descriptor) if descriptor.origin < self.reader.epoch_start() => return true,
                // A refreshed copy shows that its original has left the history; the copy itself is not part of it.
                Ok(descriptor) if descriptor.seq > seq && descriptor.is_refresh() => return false,
                Ok(descriptor) if descriptor.seq <= seq || descriptor.prev <= seq => return true,
                Ok(descriptor) => index = descriptor.prev_index,
            }
        }
        true
    }

    /// One `subscribed` reply, and the frames that go with it: as much as one step takes.
    fn tell(&mut self, replay: &mut Replay, lane: Lane, out: &mut Vec<u8>) {
        let mut text = std::mem::take(&mut self.text);
        let mut reply = SubjectsReply::begin(&mut text, "subscribed", &replay.id, &self.epoch);
        let mut newest = Vec::new();
        let (mut named, mut frames_len) = (0, 0);
        while named < REPLY_SUBJECTS_MAX && frames_len < REPLAY_STEP_BYTES {
            let Some(subject) = replay.next_subject() else { break };
            let Some(entry) = self.reader.subject(subject) else { continue };
            let last = self.last_before(subject, replay.until);
            let seq = last.seq(self.reader.epoch_start());
            let is_gained = replay.asked.gained.contains(subject);
            let resumed = replay.resumed.as_ref().filter(|_| is_gained);
            let recovered = resumed.map(|resumed| resumed.recovered.contains(subject));
            reply.subject(&entry.name, subject, seq, recovered, self.missing(subject, seq));
            named += 1;
            if let Last::Frame(descriptor) = last
                && is_gained
                && replay.wants_newest(subject)
                && !replay.has_seen(&descriptor)
            {
                frames_len += descriptor.lanes[lane as usize].length as usize;
                newest.push(subject);
            }
        }
        let has_more_subjects = replay.asked.subjects.next(replay.told_below).is_some();
        if !has_more_subjects {
            let unmatched = &replay.asked.unmatched[replay.unmatched_told..];
            let unmatched = &unmatched[..unmatched.len().min(REPLY_SUBJECTS_MAX - named)];
            replay.unmatched_told += unmatched.len();
            let texts = unmatched.iter().filter_map(|filter| self.directory.filter_text(*filter));
            texts.for_each(|filter| reply.filter(filter, None));
        }
        replay.is_told = !has_more_subjects && replay.unmatched_told == replay.asked.unmatched.len();
        match self.stale_source() {
            Some(source) => reply.end_stale(!replay.is_told, source),
            None => reply.end(!replay.is_told),
        }
        frame::write_frame(out, Opcode::Text, text.as_bytes());
        self.text = text;
        for subject in newest {
            // Look it up once more: the ring may have moved its bytes since.
            if let Last::Frame(descriptor) = self.last_before(subject, replay.until)
                && self.reader.copy_frame(&descriptor, lane, out).is_ok()
            {
                self.stats.snapshots.add(1);
            }
        }
    }

    /// Copies frames of the history, as many as one step takes. `Some(true)`: that was all. `None`: the history has
    /// left the ring meanwhile.
    fn copy_history(&self, replay: &mut Replay, lane: Lane, out: &mut Vec<u8>) -> Option<bool> {
        let Some(resumed) = &mut replay.resumed else { return Some(true) };
        let start = out.len();
        let end = replay.until.min(resumed.next.plus(CATCHUP_DESCRIPTORS_MAX));
        while resumed.next < end && out.len() - start < REPLAY_STEP_BYTES {
            let descriptor = self.reader.descriptor(resumed.next).ok()?;
            resumed.next = resumed.next.next();
            if !descriptor.is_refresh()
                && descriptor.seq > resumed.seq
                && resumed.recovered.contains(descriptor.subject)
            {
                self.reader.copy_frame(&descriptor, lane, out).ok()?;
            }
        }
        Some(resumed.next == replay.until)
    }

    /// A subject's newest frame of those before ring index `until`.
    fn last_before(&self, subject: SubjectId, until: RingIndex) -> Last {
        let Some(entry) = self.directory.subjects.get(subject.index()) else { return Last::None };
        if entry.newest == RingIndex::NONE {
            return Last::None;
        }
        let Ok(mut descriptor) = self.reader.descriptor(entry.newest) else { return Last::Gone { seq: 0 } };
        for _ in 0..WALK_STEPS_MAX {
            if descriptor.origin < until {
                return Last::Frame(descriptor);
            }
            if descriptor.prev_index == RingIndex::NONE {
                return Last::None;
            }
            match self.reader.descriptor(descriptor.prev_index) {
                Ok(previous) => descriptor = previous,
                Err(_) => return Last::Gone { seq: descriptor.prev },
            }
        }
        Last::Gone { seq: descriptor.prev }
    }
}

/// What is known of a subject before a point in the ring.
enum Last {
    /// It had no frame.
    None,
    Frame(Descriptor),
    /// Its frame has left the ring; only the number is known.
    Gone {
        seq: u64,
    },
}

impl Last {
    /// Its number in the numbering that begins at ring index `epoch_start`; 0 if it has none in it.
    fn seq(&self, epoch_start: RingIndex) -> u64 {
        match self {
            Last::Frame(descriptor) if descriptor.origin >= epoch_start => descriptor.seq,
            Last::Gone { seq } => *seq,
            Last::None | Last::Frame(_) => 0,
        }
    }
}

const OUTRUN: &str = "the history left the ring before it was sent: resume after the last frame that came";
/// Descriptors that one resume request may look at; a history that takes more to prove counts as lost.
const RESUME_STEPS_MAX: u32 = 65_536;
/// Frames of one subject that a look for an older one walks back over.
const WALK_STEPS_MAX: usize = 4_096;
