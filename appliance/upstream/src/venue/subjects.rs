//! The state of each subject: the newest of its numbers, and its book.

use std::collections::{HashMap, HashSet};

use fanblade_ring::subject::SubjectError;

use super::arrival::{Arrival, Counts};
use super::batch::Batch;
use super::keeper::{Asking, Keeper, Sizes, Turn};
use super::limits::{REFUSED_NAME_LEN_MAX, REFUSED_NAMES_MAX, SUBJECTS_MAX, TEXT_LEN_MAX};
use super::rule::{Element, Rule};
use super::sequence::{Tracker, Verdict};
use super::settings::Scope;
use super::value;

/// All subjects that have state.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    known: HashMap<Box<str>, Subject>,
    /// The sizes of all books together.
    sizes: Sizes,
    /// A buffer in which subjects' names are made.
    name: String,
    /// Names that make no valid subject and have been reported.
    refused: HashSet<Box<str>>,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
struct Subject {
    numbers: Tracker,
    /// Whether the numbers outlive a connection.
    scope: Scope,
    /// When the venue may be asked to begin anew.
    asking: Asking,
    book: Option<Box<Keeper>>,
}

impl Subjects {
    /// Marks the books that were passed on: changes may be missed from now on.
    pub(super) fn end_connection(&mut self, may_mark: bool, arrival: Arrival, out: &mut Batch) {
        for (name, subject) in &mut self.known {
            let Some(keeper) = &mut subject.book else { continue };
            match may_mark {
                true => keeper.end(&mut Turn { name, arrival, counts: &mut self.counts, out }),
                false => keeper.book.hide(),
            }
        }
    }

    /// Messages of the connection are missing, of unknown subjects. `may_mark`: marks the books at once.
    pub(super) fn doubt(&mut self, may_mark: bool, arrival: Arrival, out: &mut Batch) {
        for (name, subject) in &mut self.known {
            match &mut subject.book {
                Some(keeper) if may_mark => {
                    keeper.doubt(&mut Turn { name, arrival, counts: &mut self.counts, out }, None);
                }
                Some(keeper) => keeper.book.doubt(),
                None => {}
            }
        }
    }

    /// Forgets the state that belonged to the former connection.
    pub(super) fn begin_connection(&mut self) {
        for subject in self.known.values_mut() {
            subject.asking = Asking::default();
            if let Some(keeper) = &mut subject.book {
                keeper.begin_connection();
            }
            if subject.scope == Scope::Connection {
                subject.numbers = Tracker::default();
            }
        }
        self.sizes = Sizes::default();
    }

    /// Takes a book that was asked for, or the reason why it was not fetched.
    pub(super) fn take_snapshot(
        &mut self,
        rules: &[Rule],
        name: &str,
        body: Result<&str, &str>,
        arrival: Arrival,
        out: &mut Batch,
    ) {
        let Some(subject) = self.known.get_mut(name) else { return };
        let Some(keeper) = &mut subject.book else { return };
        let Some(rule) = rules.get(keeper.rule) else { return };
        self.sizes.leave(keeper);
        keeper.take_snapshot(rule, body, self.sizes, &mut Turn { name, arrival, counts: &mut self.counts, out });
        self.sizes.enter(keeper);
    }

    /// Does what `rule` says about an element. `seq` is the venue's number of the message, if the venue's numbers are
    /// ours.
    ///
    /// # Errors
    /// The fault of the element.
    pub(super) fn take(
        &mut self,
        rule: &Rule,
        element: Element<'_, '_>,
        seq: Option<u64>,
        arrival: Arrival,
        out: &mut Batch,
    ) -> Result<(), String> {
        let Self { known, sizes, name, refused, counts } = self;
        // The element's subject must be valid.
        rule.subject(element, name)?;
        if let Err(error) = fanblade_ring::subject::check(name) {
            counts.bad_names += 1;
            tell_once(refused, name, error, out);
            return Ok(());
        }
        // A subject without numbers and without a book needs no state.
        let numbers = rule.numbers(element)?;
        if numbers.is_none() && rule.book.is_none() {
            return publish(rule, element, name, rule.data(element)?, seq, arrival, out);
        }
        // The first message of a subject creates its state.
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
        // Check the numbers: drop an old element, report missing ones.
        let Subject { numbers: tracker, asking, book, .. } = subject;
        let mut is_missing = false;
        if let Some(numbers) = numbers {
            let verdict = match rule.is_published {
                true => tracker.take(numbers),
                false => tracker.reach(numbers.last),
            };
            match verdict {
                Verdict::Next => {}
                Verdict::Old => {
                    counts.duplicates += 1;
                    return Ok(());
                }
                Verdict::Gap { from, to } => {
                    out.subject_gap(name, from, to);
                    asking.act_on_gap(rule, element, arrival, out)?;
                    is_missing = true;
                }
                Verdict::Restarted { from, to } => {
                    out.trouble("sequence_restart", &format!("{name}: the numbers begin anew at {to}"));
                    out.subject_gap(name, from, to);
                    is_missing = true;
                }
            }
        }
        // Publish the element's own data, or the book as it is now.
        match &rule.book {
            None => {
                if let (true, Some(keeper)) = (is_missing, book) {
                    // A rule without a book, such as one for heartbeats, shows that the subject's book lacks changes.
                    keeper.doubt(&mut Turn { name, arrival, counts, out }, seq);
                }
                match rule.is_published {
                    true => publish(rule, element, name, rule.data(element)?, seq, arrival, out),
                    false => Ok(()),
                }
            }
            Some(book_rule) => {
                let keeper = book.get_or_insert_default();
                sizes.leave(keeper);
                let turn = &mut Turn { name, arrival, counts, out };
                let taken = keeper.take(rule, book_rule, element, is_missing, *sizes, asking, turn);
                sizes.enter(keeper);
                let shown = match taken {
                    Ok(()) => keeper.book.show(book_rule.levels),
                    Err(error) => return Err(error),
                };
                shown.map_or(Ok(()), |shown| publish(rule, element, name, shown, seq, arrival, out))
            }
        }
    }
}

/// Reports a name that makes no valid subject. Names are never shortened to fit: two instruments could become one.
fn tell_once(refused: &mut HashSet<Box<str>>, name: &str, error: SubjectError, out: &mut Batch) {
    let mut end = name.len().min(REFUSED_NAME_LEN_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if refused.len() < REFUSED_NAMES_MAX && refused.insert(name[..end].into()) {
        let name = value::excerpt(name, TEXT_LEN_MAX);
        out.trouble("bad_name", &format!("`{name}` is not a subject, so its values are dropped: {error}"));
    }
}

/// Publishes a value, even if its time cannot be read.
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
