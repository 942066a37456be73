//! Checks what every subscriber is promised as frames come: per subject in order, none twice, no gap without a notice.

use std::collections::HashMap;

use serde::Deserialize;

use crate::plan::Mode;
use crate::totals::Totals;

/// The fixed fields of a data frame. `d` is not read.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    #[serde(borrow)]
    pub(crate) s: std::borrow::Cow<'a, str>,
    pub(crate) q: u64,
    pub(crate) p: u64,
    /// Nanoseconds since the Unix epoch, in decimal.
    #[serde(borrow)]
    pub(crate) t: std::borrow::Cow<'a, str>,
}

/// A reply or notice; only the fields that are used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Control<'a> {
    pub(crate) op: &'a str,
    pub(crate) kind: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) subject: Option<std::borrow::Cow<'a, str>>,
    pub(crate) dropped: Option<u64>,
    #[serde(borrow)]
    pub(crate) message: Option<std::borrow::Cow<'a, str>>,
    pub(crate) code: Option<&'a str>,
    /// Further replies to the same request follow.
    #[serde(default)]
    pub(crate) more: bool,
}

/// The state of the checks on one connection.
#[derive(Debug)]
pub(crate) struct Checker {
    mode: Mode,
    subjects: HashMap<String, Last>,
}

/// What was last seen of a subject.
#[derive(Debug, Clone, Copy)]
struct Last {
    seq: u64,
    /// A gap notice excuses the next jump.
    excused: bool,
}

impl Checker {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, subjects: HashMap::new() }
    }

    /// Number of subjects seen.
    pub(crate) fn subjects(&self) -> u64 {
        self.subjects.len() as u64
    }

    /// Checks a frame; the error names the promise that it breaks.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>, totals: &mut Totals) -> Result<(), String> {
        let Frame { s, q, p, .. } = frame;
        if p >= q {
            return Err(format!("{s}: q {q} is not above its p {p}"));
        }
        let Some(last) = self.subjects.get_mut(s.as_ref()) else {
            // The first frame of a subject is its snapshot, or the first ever, so any `p` is right.
            self.subjects.insert(s.to_string(), Last { seq: *q, excused: false });
            return Ok(());
        };
        let Last { seq, excused } = std::mem::replace(last, Last { seq: *q, excused: false });
        if *q <= seq {
            return Err(format!("{s}: q {q} after {seq}"));
        }
        if *p == seq {
            return Ok(());
        }
        match self.mode {
            // The frames in between were replaced by this one.
            Mode::Conflate if *p > seq => totals.skipped += 1,
            Mode::All if excused && *p > seq => {}
            _ => return Err(format!("{s}: p {p} of q {q} is not the last seen, {seq}")),
        }
        Ok(())
    }

    /// Notes a gap notice for `subject`, or for all subjects.
    pub(crate) fn gap(&mut self, subject: Option<&str>) {
        match subject {
            Some(subject) => {
                if let Some(last) = self.subjects.get_mut(subject) {
                    last.excused = true;
                }
            }
            None => self.subjects.values_mut().for_each(|last| last.excused = true),
        }
    }

    /// Notes a new epoch: numbers start anew.
    pub(crate) fn epoch(&mut self) {
        self.subjects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(q: u64, p: u64) -> Frame<'static> {
        Frame { s: "/N/A/bbo".into(), q, p, t: "0".into() }
    }

    #[test]
    fn all_means_every_frame() {
        let (mut checker, mut totals) = (Checker::new(Mode::All), Totals::default());
        for (q, p) in [(10, 7), (12, 10), (13, 12)] {
            assert_eq!(checker.frame(&frame(q, p), &mut totals), Ok(()));
        }
        assert!(checker.frame(&frame(13, 12), &mut totals).is_err(), "twice");
        assert!(checker.frame(&frame(20, 19), &mut totals).is_err(), "a gap that nobody told of");
        checker.gap(Some("/N/A/bbo"));
        assert_eq!(checker.frame(&frame(30, 29), &mut totals), Ok(()), "a gap that was told");
        assert!(checker.frame(&frame(40, 39), &mut totals).is_err(), "one notice excuses one gap");
        assert!(checker.frame(&frame(41, 41), &mut totals).is_err());
        checker.epoch();
        assert_eq!(checker.frame(&frame(1, 0), &mut totals), Ok(()));
    }

    #[test]
    fn conflate_may_skip_but_not_go_back() {
        let (mut checker, mut totals) = (Checker::new(Mode::Conflate), Totals::default());
        assert_eq!(checker.frame(&frame(10, 7), &mut totals), Ok(()));
        assert_eq!(checker.frame(&frame(20, 19), &mut totals), Ok(()));
        assert_eq!(totals.skipped, 1);
        assert!(checker.frame(&frame(15, 12), &mut totals).is_err());
    }
}
