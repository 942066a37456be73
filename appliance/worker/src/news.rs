//! What the publisher says beside frames, and sessions are told: whether its source is current, and which updates the
//! ring has refused.
//!
//! Both are states in the ring. A worker compares them with what it has told, so nothing is lost on the way, and a
//! worker that takes another's place knows as much. New sessions are told in their reply (`answer`).

mod told;

use std::collections::{HashMap, HashSet};
use std::io;

use fanblade_net::Engine;
use fanblade_ring::Unplaced;
use fanblade_wire::frame::{self, Opcode};

use crate::directory::Set;
use crate::ids::{SessionId, SubjectId};
use crate::limits::{REFUSALS_LOOK_MS, REFUSALS_TOLD_MAX};
use crate::protocol;
use crate::session::State;
use crate::steps::Steps;
use crate::worker::Worker;

pub(crate) use told::Told;

impl Worker {
    /// A new worker has no sessions to tell: they will learn the present state from their replies.
    pub(crate) fn take_news_for_told(&mut self) {
        self.news.seen = self.reader.news();
        self.news.currency = self.reader.currency();
        self.news.refused_count = self.reader.refused_count();
        self.news.unplaced = self.reader.unplaced().newest;
        for number in 0..self.directory.subjects.len() {
            self.directory.subjects[number].refused_told = self.reader.refused(id(number));
        }
    }

    /// Tells sessions what has changed.
    pub(crate) fn hear_news(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let news = self.reader.news();
        if news != self.news.seen {
            self.news.seen = news;
            self.hear_currency(engine)?;
            let refused_count = self.reader.refused_count();
            if refused_count != self.news.refused_count {
                self.news.refused_count = refused_count;
                self.news.look_ms.get_or_insert(self.news.looked_ms + REFUSALS_LOOK_MS);
            }
        }
        if self.news.look_ms.is_some_and(|due_ms| self.now_ms >= due_ms) {
            self.news.looked_ms = self.now_ms;
            self.news.look_ms = None;
            self.tell_unplaced(engine)?;
            self.tell_refused(engine)?;
        }
        Ok(())
    }

    /// Tells a change even if it has been taken back meanwhile; of several changes, the last two.
    fn hear_currency(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let now = self.reader.currency();
        let before = std::mem::replace(&mut self.news.currency, now);
        if now.changes == before.changes {
            return Ok(());
        }
        if now.is_stale == before.is_stale {
            self.tell_currency(engine, !now.is_stale)?;
        }
        self.tell_currency(engine, now.is_stale)
    }

    fn tell_currency(&mut self, engine: &mut dyn Engine, is_stale: bool) -> io::Result<()> {
        let mut text = std::mem::take(&mut self.text);
        protocol::write_currency(&mut text, is_stale, &self.config.source);
        // Replies first: the notice is behind what the sessions' groups are owed.
        let told = self.serve(engine).and_then(|()| self.tell_all(engine, &text, true));
        self.text = text;
        told
    }

    /// The source, if its updates are not current; for replies.
    pub(crate) fn stale_source(&self) -> Option<&str> {
        self.news.currency.is_stale.then_some(self.config.source.as_str())
    }

    /// The number of the subject's newest update, if the ring refused it and `seq` is its newest frame.
    pub(crate) fn missing(&self, subject: SubjectId, seq: u64) -> Option<u64> {
        let is_of_this_epoch = self.reader.generation() == self.epoch_generation;
        Some(self.reader.refused(subject)).filter(|refused| is_of_this_epoch && *refused > seq)
    }

    fn tell_unplaced(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let Unplaced { after, newest } = self.reader.unplaced();
        let told = std::mem::replace(&mut self.news.unplaced, newest);
        if newest == 0 || newest == told {
            return Ok(());
        }
        let mut text = std::mem::take(&mut self.text);
        // A new numbering may have begun since.
        let from = if told < newest { told.max(after) } else { after };
        protocol::write_source_gap(&mut text, &self.config.source, from, newest);
        let told = self.tell_all(engine, &text, true);
        self.text = text;
        told
    }

    /// For each subject whose newest update was refused, tells the sessions that want it and no others.
    fn tell_refused(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        let mut steps = Steps::new(self.config.limits.pass_steps_max);
        if !self.directory.learn(&self.reader, &mut steps) {
            self.news.look_ms = Some(self.now_ms + REFUSALS_LOOK_MS);
        }
        let mut notices: HashMap<Set, Vec<u8>> = HashMap::new();
        let mut told_alone: HashSet<SessionId> = HashSet::new();
        let mut text = std::mem::take(&mut self.text);
        let mut left = REFUSALS_TOLD_MAX;
        for number in 0..self.directory.subjects.len() {
            let subject = id(number);
            let refused = self.reader.refused(subject);
            let entry = &mut self.directory.subjects[number];
            if refused == entry.refused_told {
                continue;
            }
            if left == 0 {
                self.news.look_ms = Some(self.now_ms + REFUSALS_LOOK_MS);
                break;
            }
            entry.refused_told = refused;
            let newest = self.reader.newest(subject).and_then(|index| self.reader.descriptor(index).ok());
            let newest = newest.filter(|frame| frame.origin >= self.reader.epoch_start()).map_or(0, |frame| frame.seq);
            // A newer one has been published since.
            let Some(known) = self.reader.subject(subject).filter(|_| refused > newest) else { continue };
            left -= 1;
            protocol::write_gap(&mut text, &known.name, newest, refused);
            for set in self.directory.groups_of(number) {
                frame::write_frame(notices.entry(set).or_default(), Opcode::Text, text.as_bytes());
            }
            self.tell_alone(engine, number, &text, &mut told_alone)?;
        }
        self.stats.refusals_told.add(told_alone.len() as u64);
        self.text = text;
        let mut current: HashMap<Set, Vec<SessionId>> = HashMap::new();
        let sessions = if notices.is_empty() { Vec::new() } else { self.sessions.indices() };
        for index in sessions {
            let Some(session) = self.sessions.find(index).filter(|session| session.state == State::Open) else {
                continue;
            };
            let Some(bytes) = notices.get(&session.set) else { continue };
            self.stats.refusals_told.add(1);
            if session.owes_nothing() {
                current.entry(session.set).or_default().push(index);
            } else {
                self.say(index, |out| out.extend_from_slice(bytes));
            }
        }
        for (set, sessions) in current {
            self.say_same(engine, &sessions, &notices[&set])?;
        }
        Ok(())
    }

    /// The same, for sessions that have the subject in lists of their own; at once, so that no notice is kept for each.
    fn tell_alone(
        &mut self,
        engine: &mut dyn Engine,
        subject: usize,
        text: &str,
        told: &mut HashSet<SessionId>,
    ) -> io::Result<()> {
        let holders = self.directory.holders_of(&self.directory.subjects[subject]);
        let mut sessions: Vec<SessionId> =
            holders.flat_map(|holders| holders.iter().map(|(session, _)| session)).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions.retain(|&index| {
            let Some(session) = self.sessions.find(index).filter(|session| session.state == State::Open) else {
                return false;
            };
            let owes_nothing = session.owes_nothing();
            told.insert(index);
            if !owes_nothing {
                self.say_text(index, text);
            }
            owes_nothing
        });
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, Opcode::Text, text.as_bytes());
        self.say_same(engine, &sessions, &bytes)
    }
}

fn id(number: usize) -> SubjectId {
    SubjectId(u32::try_from(number).unwrap_or(u32::MAX))
}
