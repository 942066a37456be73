//! Finds rules that pass nothing on: mostly because their `match` is wrong, which nothing else shows.

use std::time::{Duration, Instant};

use super::batch::Batch;

/// When each rule last passed something on, by the rule's index.
#[derive(Debug, Default)]
pub(super) struct Silence {
    rules: Vec<Heard>,
    /// How long a rule may be silent; `None`: nothing is reported.
    max: Option<Duration>,
}

#[derive(Debug)]
struct Heard {
    /// The subject as in the settings. Rules of one subject share a channel: a snapshot comes once, its changes go on.
    subject: String,
    since: Instant,
    has_passed: bool,
    is_told: bool,
}

impl Silence {
    pub(super) fn new(subjects: impl Iterator<Item = String>, max: Option<Duration>) -> Silence {
        let since = Instant::now();
        let rules = subjects.map(|subject| Heard { subject, since, has_passed: false, is_told: false }).collect();
        Silence { rules, max }
    }

    pub(super) fn begin_connection(&mut self, now: Instant) {
        for rule in &mut self.rules {
            (rule.since, rule.has_passed, rule.is_told) = (now, false, false);
        }
    }

    /// Notes that a rule has passed something on.
    pub(super) fn note(&mut self, index: usize, now: Instant) {
        if let Some(rule) = self.rules.get_mut(index) {
            (rule.since, rule.has_passed, rule.is_told) = (now, true, false);
        }
    }

    /// Reports rules that have passed on nothing for too long, each once.
    pub(super) fn tell(&mut self, now: Instant, out: &mut Batch) {
        let Some(max) = self.max else { return };
        let is_silent = |rule: &Heard| now.saturating_duration_since(rule.since) >= max;
        for at in 0..self.rules.len() {
            let rule = &self.rules[at];
            let is_of_channel = |other: &&Heard| other.subject == rule.subject;
            let is_due = match rule.has_passed {
                false => is_silent(rule),
                true => self.rules.iter().filter(is_of_channel).all(is_silent),
            };
            if !is_due || rule.is_told {
                continue;
            }
            let what = if rule.has_passed { "" } else { ", and nothing on this connection: does its `match` fit?" };
            let (number, seconds) = (at + 1, max.as_secs_f64());
            let text = format!("rule {number}, {}, has published nothing for {seconds} s{what}", rule.subject);
            out.trouble("rule_silent", &text);
            self.rules[at].is_told = true;
        }
    }

    /// How often to check.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.max.map(|max| (max / 4).max(Duration::from_millis(10)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_once_until_it_passes_something_on() {
        let subjects = ["/V/a/book", "/V/a/book", "/V/a/trade"].map(str::to_owned);
        let mut silence = Silence::new(subjects.into_iter(), Some(Duration::from_secs(60)));
        let start = Instant::now();
        silence.begin_connection(start);
        let told = |silence: &mut Silence, s| {
            let mut out = Batch::default();
            silence.tell(start + Duration::from_secs(s), &mut out);
            out.steps().map(|step| format!("{step:?}")).collect::<Vec<_>>()
        };
        silence.note(0, start);
        silence.note(1, start + Duration::from_secs(10));
        assert!(told(&mut silence, 59).is_empty());
        let trade = told(&mut silence, 60);
        assert!(
            trade.len() == 1 && trade[0].contains("rule 3, /V/a/trade, has published nothing for 60 s, and nothing on")
        );
        assert!(told(&mut silence, 69).is_empty(), "the book has changed");
        assert_eq!(told(&mut silence, 70).len(), 2, "and then not");
        assert!(told(&mut silence, 1_000).is_empty());
        silence.note(2, start + Duration::from_secs(1_000));
        assert!(told(&mut silence, 1_059).is_empty());
        assert_eq!(told(&mut silence, 1_060).len(), 1);
        let mut off = Silence::new(std::iter::once("/V/x".to_owned()), None);
        assert!(told(&mut off, 100_000).is_empty() && off.interval().is_none());
    }
}
