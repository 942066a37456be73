//! What has to be remembered of each subject: how far its numbers have got, and its book.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fanblade_worker::SubjectError;

use crate::config::{OnGap, Scope};

use super::batch::Batch;
use super::book::{Book, BookFault};
use super::limits::{
    BOOK_LEVELS_MAX, REFUSED_NAME_LEN_MAX, REFUSED_NAMES_MAX, RESUBSCRIBE_MS_MIN, SUBJECTS_MAX, TEXT_LEN_MAX,
};
use super::rule::{BookRule, Element, Rule};
use super::sequence::{Tracker, Verdict};
use super::value;

/// All subjects that have anything to remember.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    known: HashMap<Box<str>, Subject>,
    /// Levels of all books.
    levels: usize,
    /// Subjects' names are made here.
    name: String,
    /// Those that make no subject, as far as they were told.
    refused: HashSet<Box<str>>,
    pub(super) counts: Counts,
}

/// What became of elements that were not passed on, in totals.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Their numbers had been there.
    pub(super) duplicates: u64,
    /// Changes of a book whose whole is not known.
    pub(super) without_book: u64,
    /// Their names make no subject.
    pub(super) bad_names: u64,
}

/// When a message came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) unix_ns: u64,
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
struct Subject {
    numbers: Tracker,
    /// Whose numbers they are.
    scope: Scope,
    book: Book,
    /// When the venue was last asked to begin anew.
    asked: Option<Instant>,
}

impl Subjects {
    /// What belonged to the former connection means nothing for the new one.
    pub(super) fn begin_connection(&mut self) {
        for subject in self.known.values_mut() {
            subject.book = Book::default();
            subject.asked = None;
            if subject.scope == Scope::Connection {
                subject.numbers = Tracker::default();
            }
        }
        self.levels = 0;
    }

    /// Does what `rule` says about an element. `seq` is the venue's number of the message, where that counts.
    ///
    /// # Errors
    /// Says what was wrong with the element, if it was.
    pub(super) fn take(
        &mut self,
        rule: &Rule,
        element: Element<'_, '_>,
        seq: Option<u64>,
        arrival: Arrival,
        out: &mut Batch,
    ) -> Result<(), String> {
        let Self { known, levels, name, refused, counts } = self;
        rule.subject(element, name)?;
        if let Err(error) = fanblade_worker::check_subject(name) {
            counts.bad_names += 1;
            tell_once(refused, name, error, out);
            return Ok(());
        }
        let numbers = rule.numbers(element)?;
        if numbers.is_none() && rule.book.is_none() {
            return publish(rule, element, name, rule.data(element)?, seq, arrival, out);
        }
        if !known.contains_key(name.as_str()) {
            if known.len() >= SUBJECTS_MAX {
                out.trouble(
                    "too_many_subjects",
                    &format!("{name} would be one more than {SUBJECTS_MAX}; it is dropped"),
                );
                return Ok(());
            }
            known.insert(name.as_str().into(), Subject { scope: rule.scope, ..Subject::default() });
        }
        let Some(subject) = known.get_mut(name.as_str()) else { return Ok(()) };
        if let Some(numbers) = numbers {
            let verdict = match rule.is_published {
                true => subject.numbers.take(numbers),
                false => subject.numbers.reach(numbers.last),
            };
            match verdict {
                Verdict::Next => {}
                Verdict::Old => {
                    counts.duplicates += 1;
                    return Ok(());
                }
                Verdict::Gap { from, to } => {
                    out.subject_gap(name, from, to);
                    subject.act_on_gap(rule, element, arrival, out)?;
                }
                Verdict::Restarted { from, to } => {
                    out.trouble("sequence_restart", &format!("{name}: the numbers begin anew at {to}"));
                    out.subject_gap(name, from, to);
                }
            }
        }
        match &rule.book {
            None if !rule.is_published => Ok(()),
            None => publish(rule, element, name, rule.data(element)?, seq, arrival, out),
            Some(book_rule) => {
                let room = BOOK_LEVELS_MAX.saturating_sub(*levels - subject.book.len());
                *levels -= subject.book.len();
                let changed = subject.change_book(rule, book_rule, element, room, name, arrival, counts, out);
                *levels += subject.book.len();
                match changed? {
                    true => match subject.book.show(book_rule.levels) {
                        Some(shown) => publish(rule, element, name, shown, seq, arrival, out),
                        None => Ok(()),
                    },
                    false => Ok(()),
                }
            }
        }
    }
}

/// Nothing is cut to make a subject of it: two instruments could become one.
fn tell_once(refused: &mut HashSet<Box<str>>, name: &str, error: SubjectError, out: &mut Batch) {
    let mut end = name.len().min(REFUSED_NAME_LEN_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if refused.len() < REFUSED_NAMES_MAX && refused.insert(name[..end].into()) {
        let name = value::excerpt(name, TEXT_LEN_MAX);
        out.trouble("bad_name", &format!("`{name}` is no subject, so that its values are dropped: {error}"));
    }
}

impl Subject {
    /// False: there is nothing to show.
    #[expect(clippy::too_many_arguments, reason = "all that is known about one change, once")]
    fn change_book(
        &mut self,
        rule: &Rule,
        book_rule: &BookRule,
        element: Element<'_, '_>,
        room: usize,
        name: &str,
        arrival: Arrival,
        counts: &mut Counts,
        out: &mut Batch,
    ) -> Result<bool, String> {
        let is_snapshot = book_rule.is_snapshot(element)?;
        if !is_snapshot && !self.book.is_whole() {
            counts.without_book += 1;
            // Asked for already, but in vain: the venue may have been asked too often, or have refused.
            if rule.on_gap == OnGap::Resubscribe && self.asked.is_some() {
                self.act_on_gap(rule, element, arrival, out)?;
            }
            return Ok(false);
        }
        let Err(fault) = self.book.take(book_rule.format, element.text, is_snapshot, book_rule.depth, room) else {
            return Ok(true);
        };
        let kind = match &fault {
            BookFault::Checksum { .. } => "checksum",
            BookFault::Malformed(_) => "malformed_book",
            BookFault::TooLong => "book_too_long",
        };
        out.trouble(kind, &format!("{name}, update {}: {fault}; its book waits for a snapshot", self.book.updates()));
        out.subject_gap(name, self.book.updates(), self.book.updates() + 1);
        self.act_on_gap(rule, element, arrival, out)?;
        Ok(false)
    }

    fn act_on_gap(
        &mut self,
        rule: &Rule,
        element: Element<'_, '_>,
        arrival: Arrival,
        out: &mut Batch,
    ) -> Result<(), String> {
        match rule.on_gap {
            OnGap::Tell => {}
            OnGap::Reconnect => out.reconnect("messages of a subject are missing"),
            OnGap::Resubscribe => {
                let is_early = |asked: Instant| arrival.at.duration_since(asked) < RESUBSCRIBE_INTERVAL_MIN;
                if !self.asked.is_some_and(is_early) {
                    self.asked = Some(arrival.at);
                    rule.resubscribe(element, &mut |text| out.send(text))?;
                }
            }
        }
        Ok(())
    }
}

/// A time that cannot be read keeps nobody from the value.
fn publish(
    rule: &Rule,
    element: Element<'_, '_>,
    subject: &str,
    data: &str,
    seq: Option<u64>,
    arrival: Arrival,
    out: &mut Batch,
) -> Result<(), String> {
    let ts_ns = rule.ts_ns(element);
    out.update(subject, ts_ns.as_ref().map_or(arrival.unix_ns, |ns| ns.unwrap_or(arrival.unix_ns)), data, seq);
    ts_ns.map(|_| ())
}

const RESUBSCRIBE_INTERVAL_MIN: Duration = Duration::from_millis(RESUBSCRIBE_MS_MIN);
