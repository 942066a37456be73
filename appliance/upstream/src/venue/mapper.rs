//! A venue's messages, mapped to subjects.

use std::time::{Duration, Instant};

use super::arrival::{Arrival, Counts};
use super::batch::Batch;
use super::channels::Channels;
use super::extract::Slot;
use super::limits::TEXT_LEN_MAX;
use super::rule::{Answer, Element, Matcher, Plans, Rule};
use super::sequence::{Numbers, Tracker, Verdict};
use super::settings::{OnGap, Rules};
use super::silence::Silence;
use super::subjects::Subjects;
use super::value;

/// Takes one message after the other, and returns the steps that each causes.
#[derive(Debug)]
pub(super) struct Mapper {
    plans: Plans,
    channels: Option<Channels>,
    /// Texts that are replies to ours.
    replies: Vec<String>,
    reply_patterns: Vec<Matcher>,
    answers: Vec<Answer>,
    silence: Silence,
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

/// Total counts of messages and elements.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Messages that no rule matches.
    pub(super) unmatched: u64,
    /// Messages or elements that do not fit their rule.
    pub(super) malformed: u64,
    /// Messages or elements that have come before, by the venue's numbers.
    pub(super) duplicates: u64,
    /// Changes of books that have no snapshot.
    pub(super) without_book: u64,
    /// Changes that found no place to wait for their book's snapshot.
    pub(super) dropped: u64,
    /// Replies to our texts, and messages that ask for an answer.
    pub(super) heartbeats: u64,
}

impl Mapper {
    pub(super) fn new(settings: &Rules) -> Mapper {
        let mut plans = Plans::default();
        let rules = settings.map.iter().enumerate().map(|(index, rule)| Rule::new(index, rule, &mut plans)).collect();
        let subjects = settings.map.iter().map(|rule| rule.subject.to_string());
        let reply_patterns = settings.replies.iter().flat_map(|reply| &reply.patterns.0);
        Mapper {
            rules,
            silence: Silence::new(subjects, settings.silent_max),
            errors: settings.error.0.iter().map(|pattern| Matcher::new(pattern, &mut plans)).collect(),
            error_text: settings.error_text.as_ref().map(|pointer| plans.message.add(pointer)),
            sequence: settings.sequence.as_ref().map(|pointer| plans.message.add(pointer)),
            seq: settings.seq.as_ref().map(|pointer| plans.message.add(pointer)),
            channels: settings.channels.as_ref().map(|channels| Channels::new(channels, &mut plans)),
            replies: settings.replies.iter().filter_map(|reply| reply.text.clone()).collect(),
            reply_patterns: reply_patterns.map(|pattern| Matcher::new(pattern, &mut plans)).collect(),
            answers: settings.answer.iter().map(|one| Answer::new(&one.matches, &one.text, &mut plans)).collect(),
            plans,
            subjects: Subjects::default(),
            on_gap: settings.on_gap,
            numbers: Tracker::default(),
            is_venue_wide: settings.is_venue_wide,
            seq_last: 0,
            totals: Totals::default(),
        }
    }

    /// Begins a new connection: forgets the state of the former one.
    pub(super) fn begin_connection(&mut self) {
        self.subjects.begin_connection();
        self.silence.begin_connection(Instant::now());
        if let Some(channels) = &mut self.channels {
            channels.begin_connection();
        }
        if !self.is_venue_wide {
            self.numbers = Tracker::default();
            self.seq_last = 0;
        }
    }

    /// The connection has ended: books that were passed on may be outdated from now on.
    pub(super) fn end_connection(&mut self, arrival: Arrival, out: &mut Batch) {
        // If the venue's numbers are ours, a mark would need one of them: there is none.
        self.subjects.end_connection(self.seq.is_none(), arrival, out);
    }

    /// Takes a book that has been fetched, or the reason why it has not.
    pub(super) fn take_snapshot(&mut self, subject: &str, body: Result<&str, &str>, arrival: Arrival, out: &mut Batch) {
        self.subjects.take_snapshot(&self.rules, subject, body, arrival, out);
    }

    /// Reports rules that pass nothing on.
    pub(super) fn tell_silence(&mut self, now: Instant, out: &mut Batch) {
        self.silence.tell(now, out);
    }

    /// How often to check for such rules.
    pub(super) fn silence_interval(&self) -> Option<Duration> {
        self.silence.interval()
    }

    /// Reads a message into `out`. False: the message is only a sign of life.
    pub(super) fn take(&mut self, text: &str, arrival: Arrival, out: &mut Batch) -> bool {
        self.totals.messages += 1;
        self.totals.bytes += text.len() as u64;
        let heartbeats = self.totals.heartbeats;
        if self.replies.iter().any(|reply| reply == text) {
            self.totals.heartbeats += 1;
            return false;
        }
        let mut faults = Faults::default();
        self.read(text, arrival, out, &mut faults);
        if let Some(first) = faults.first {
            self.totals.malformed += faults.count;
            let more = if faults.count > 1 { format!(" (and {} more in it)", faults.count - 1) } else { String::new() };
            out.trouble("malformed", &format!("{first}{more}: {}", value::excerpt(text, TEXT_LEN_MAX)));
        }
        self.totals.heartbeats == heartbeats
    }

    /// Counts and reports a message that cannot be read.
    pub(super) fn refuse(&mut self, what: &str, out: &mut Batch) {
        self.totals.messages += 1;
        self.totals.malformed += 1;
        out.trouble("malformed", what);
    }

    pub(super) fn totals(&self) -> Totals {
        let Counts { duplicates, without_book, dropped, bad_names } = self.subjects.counts;
        let malformed = self.totals.malformed + bad_names;
        let duplicates = self.totals.duplicates + duplicates;
        Totals { malformed, duplicates, without_book, dropped, ..self.totals }
    }

    fn read(&mut self, text: &str, arrival: Arrival, out: &mut Batch, faults: &mut Faults) {
        // A byte order mark is no part of the text; a reader may ignore it (RFC 8259, 8.1).
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Err(unfit) = value::check_fit(text) {
            return faults.add(unfit.to_string());
        }
        let found = match self.plans.message.extract(text) {
            Ok(found) => found,
            Err(error) => return faults.add(format!("not JSON: {error}")),
        };
        // The number within the connection: drops a message that has come before.
        let number = |slot: Slot| found.value(slot).map(|value| value::number(value).ok_or(value));
        match self.sequence.and_then(number) {
            None => {}
            Some(Err(value)) => faults.add(format!("{} is not a number", value::excerpt(value, TEXT_LEN_MAX))),
            Some(Ok(number)) if self.follow(number, arrival, out) => {}
            Some(Ok(_)) => return,
        }
        // Messages to us, not to subscribers: replies, heartbeats, channels, errors.
        let message = Element { outer: &found, inner: &found, channel: None, text };
        if self.reply_patterns.iter().any(|reply| reply.matches(message)) {
            self.totals.heartbeats += 1;
            return;
        }
        if let Some(answer) = self.answers.iter().find_map(|answer| answer.to(message)) {
            self.totals.heartbeats += 1;
            return match answer {
                Ok(answer) => out.send(&answer),
                Err(error) => faults.add(error),
            };
        }
        if self.channels.as_mut().is_some_and(|channels| channels.take(message, out)) {
            return;
        }
        let channel = self.channels.as_ref().and_then(|channels| channels.find(&found, &self.plans.channel));
        let message = Element { channel: channel.as_ref(), ..message };
        if self.errors.iter().any(|error| error.matches(message)) {
            let words = self.error_text.and_then(|slot| found.value(slot)).unwrap_or(text);
            let words = value::text(words).unwrap_or_else(|| words.into());
            return out.trouble("refused", &format!("the server says: {}", value::excerpt(&words, TEXT_LEN_MAX)));
        }
        // The first rule that matches takes the message.
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(message)) else {
            self.totals.unmatched += 1;
            return;
        };
        // The venue's number of the message, if the venue's numbers are ours.
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
        // Each element goes to its subject.
        let subjects = &mut self.subjects;
        let before = out.updates();
        rule.elements(message, &mut |element| subjects.take(rule, element, seq, arrival, out), &mut |fault| {
            faults.add(fault);
        });
        if out.updates() > before || !rule.is_published {
            self.silence.note(rule.index, arrival.at);
        }
    }

    /// Takes a message's number within the connection; false if the message has come before.
    fn follow(&mut self, number: u64, arrival: Arrival, out: &mut Batch) -> bool {
        match self.numbers.take(Numbers { first: number, last: number, previous: None }) {
            Verdict::Next => {}
            Verdict::Old => {
                self.totals.duplicates += 1;
                return false;
            }
            Verdict::Gap { from, to } => {
                out.gap(from, to);
                self.subjects.doubt(self.seq.is_none(), arrival, out);
                if self.on_gap == OnGap::Reconnect {
                    out.reconnect("messages are missing");
                }
            }
            Verdict::Restarted { from, to } => {
                out.trouble("sequence_restart", &format!("the numbers of the messages begin anew at {to}"));
                out.gap(from, to);
                self.subjects.doubt(self.seq.is_none(), arrival, out);
            }
        }
        true
    }
}

/// The faults of one message: the text of the first and the count of all, so that a message cannot flood the log.
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
