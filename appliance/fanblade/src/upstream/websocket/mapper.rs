//! A venue's messages, mapped to subjects.

use crate::config::{OnGap, WebsocketConfig};

use super::batch::Batch;
use super::extract::{Plan, Slot};
use super::limits::{MESSAGE_DEPTH_MAX, TEXT_LEN_MAX};
use super::rule::{Matcher, Rule};
use super::sequence::{Numbers, Tracker, Verdict};
use super::subjects::{Arrival, Counts, Subjects};
use super::value;

/// Takes one message after the other, and says what is to be done.
#[derive(Debug)]
pub(super) struct Mapper {
    /// What is wanted of every message.
    plan: Plan,
    rules: Vec<Rule>,
    subjects: Subjects,
    errors: Vec<Matcher>,
    error_text: Option<Slot>,
    sequence: Option<Slot>,
    on_gap: OnGap,
    numbers: Tracker,
    /// The numbering outlives the connection.
    is_venue_wide: bool,
    seq: Option<Slot>,
    seq_last: u64,
    totals: Totals,
}

/// What came, and what became of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// No rule wants them.
    pub(super) unmatched: u64,
    /// Messages or elements that are not what their rule says.
    pub(super) malformed: u64,
    /// The venue's numbers say that they have been there.
    pub(super) duplicates: u64,
    /// Changes of books whose whole is not known.
    pub(super) without_book: u64,
}

impl Mapper {
    pub(super) fn new(config: &WebsocketConfig) -> Mapper {
        let mut plan = Plan::default();
        let rules = config.map.iter().map(|rule| Rule::new(rule, &mut plan)).collect();
        Mapper {
            rules,
            errors: config.error.0.iter().map(|pattern| Matcher::new(pattern, &mut plan)).collect(),
            error_text: config.error_text.as_ref().map(|pointer| plan.add(pointer)),
            sequence: config.sequence.as_ref().map(|pointer| plan.add(pointer)),
            seq: config.seq.as_ref().map(|pointer| plan.add(pointer.get_ref())),
            plan,
            subjects: Subjects::default(),
            on_gap: *config.on_gap.get_ref(),
            numbers: Tracker::default(),
            is_venue_wide: config.epoch.is_some(),
            seq_last: 0,
            totals: Totals::default(),
        }
    }

    /// A new connection: what belonged to the former one is forgotten.
    pub(super) fn begin_connection(&mut self) {
        self.subjects.begin_connection();
        if !self.is_venue_wide {
            self.numbers = Tracker::default();
            self.seq_last = 0;
        }
    }

    /// Reads a message into `out`.
    pub(super) fn take(&mut self, text: &str, arrival: Arrival, out: &mut Batch) {
        self.totals.messages += 1;
        self.totals.bytes += text.len() as u64;
        let mut faults = Faults::default();
        self.read(text, arrival, out, &mut faults);
        if let Some(first) = faults.first {
            self.totals.malformed += faults.count;
            let more = if faults.count > 1 { format!(" (and {} more in it)", faults.count - 1) } else { String::new() };
            out.trouble("malformed", &format!("{first}{more}: {}", value::excerpt(text, TEXT_LEN_MAX)));
        }
    }

    /// A message that cannot be one.
    pub(super) fn refuse(&mut self, what: &str, out: &mut Batch) {
        self.totals.messages += 1;
        self.totals.malformed += 1;
        out.trouble("malformed", what);
    }

    pub(super) fn totals(&self) -> Totals {
        let Counts { duplicates, without_book, bad_names } = self.subjects.counts;
        let Totals { messages, bytes, unmatched, .. } = self.totals;
        Totals {
            messages,
            bytes,
            unmatched,
            malformed: self.totals.malformed + bad_names,
            duplicates: self.totals.duplicates + duplicates,
            without_book,
        }
    }

    fn read(&mut self, text: &str, arrival: Arrival, out: &mut Batch, faults: &mut Faults) {
        if value::depth(text) > MESSAGE_DEPTH_MAX {
            return faults.add(format!("nested more than {MESSAGE_DEPTH_MAX} deep"));
        }
        let found = match self.plan.extract(text) {
            Ok(found) => found,
            Err(error) => return faults.add(format!("not JSON: {error}")),
        };
        let number = |slot: Slot| found.value(slot).map(|value| value::number(value).ok_or(value));
        match self.sequence.and_then(number) {
            None => {}
            Some(Err(value)) => faults.add(format!("{} is no number", value::excerpt(value, TEXT_LEN_MAX))),
            Some(Ok(number)) if self.follow(number, out) => {}
            Some(Ok(_)) => return,
        }
        if self.errors.iter().any(|error| error.matches(&found)) {
            let words = self.error_text.and_then(|slot| found.value(slot)).unwrap_or(text);
            let words = value::text(words).unwrap_or_else(|| words.into());
            return out.trouble("refused", &format!("the server says: {}", value::excerpt(&words, TEXT_LEN_MAX)));
        }
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(&found)) else {
            self.totals.unmatched += 1;
            return;
        };
        let seq = match self.seq.map(|slot| found.value(slot).and_then(value::number).unwrap_or(0)) {
            None => None,
            Some(0) => return faults.add("there is no number where `seq` says".to_owned()),
            Some(seq) if seq == self.seq_last => {
                self.totals.duplicates += 1;
                return;
            }
            Some(seq) => {
                if seq < self.seq_last {
                    out.trouble("sequence_restart", &format!("number {seq} after {}: a new epoch", self.seq_last));
                    out.epoch();
                }
                self.seq_last = seq;
                Some(seq)
            }
        };
        let subjects = &mut self.subjects;
        rule.elements(&found, text, &mut |element| subjects.take(rule, element, seq, arrival, out), &mut |fault| {
            faults.add(fault);
        });
    }

    /// Takes a message's number within the connection; false if it has been there.
    fn follow(&mut self, number: u64, out: &mut Batch) -> bool {
        match self.numbers.take(Numbers { first: number, last: number, previous: None }) {
            Verdict::Next => {}
            Verdict::Old => {
                self.totals.duplicates += 1;
                return false;
            }
            Verdict::Gap { from, to } => {
                out.gap(from, to);
                if self.on_gap == OnGap::Reconnect {
                    out.reconnect("messages are missing");
                }
            }
            Verdict::Restarted { from, to } => {
                out.trouble("sequence_restart", &format!("the numbers of the messages begin anew at {to}"));
                out.gap(from, to);
            }
        }
        true
    }
}

/// What was wrong within one message: the first in words, all by number, so that a message cannot flood the log.
#[derive(Debug, Default)]
struct Faults {
    first: Option<String>,
    count: u64,
}

impl Faults {
    fn add(&mut self, fault: String) {
        self.count += 1;
        self.first.get_or_insert(fault);
    }
}

#[cfg(test)]
mod tests;
