//! Counting what `cargo test` reports, and the tests that skip themselves.
//!
//! A test that cannot run here (no root, no browser) prints one line and returns:
//! `skipped: NAME: REASON`, by `eprintln!` or `println!`. The line reaches us because tests run with `--show-output`.

use std::collections::BTreeMap;

/// Tests passed, failed, skipped; for each of the latter, why.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Name → reason: tests that skipped themselves and tests that are #[ignore]d.
    pub(crate) skipped: BTreeMap<String, String>,
    pub(crate) failures: Vec<String>,
    ignored: usize,
    suites: usize,
}

impl Tally {
    /// Takes in one line of `cargo test`, whichever stream it came from.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.suites += 1;
            self.passed += count(result, " passed");
            self.failed += count(result, " failed");
            self.ignored += count(result, " ignored");
        } else if let Some((name, reason)) =
            line.strip_prefix("skipped: ").map(|rest| rest.split_once(": ").unwrap_or((rest, "")))
        {
            self.skip(name, reason);
        } else if let Some(test) = line.strip_prefix("test ") {
            // "test NAME ... ignored, REASON"
            if let Some((name, outcome)) = test.split_once(" ... ") {
                if let Some(reason) = outcome.strip_prefix("ignored") {
                    self.skip(name, reason.trim_start_matches(", "));
                } else if outcome.starts_with("FAILED") {
                    self.failures.push(name.to_owned());
                }
            }
        }
    }

    /// Moves the tests that skipped themselves, which the harness calls passed, to where they belong.
    pub(crate) fn finish(mut self) -> Tally {
        let themselves = self.skipped.len().saturating_sub(self.ignored);
        self.passed = self.passed.saturating_sub(themselves);
        self
    }

    /// Test binaries and doc test runs that reported a result.
    pub(crate) fn suites(&self) -> usize {
        self.suites
    }

    fn skip(&mut self, name: &str, reason: &str) {
        let reason = if reason.is_empty() { "no reason given" } else { reason };
        self.skipped.insert(name.to_owned(), reason.to_owned());
    }
}

/// The number before `unit` in "ok. 12 passed; 0 failed; …".
fn count(result: &str, unit: &str) -> usize {
    let Some(before) = result.split(unit).next().filter(|before| before.len() < result.len()) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.line(line));
        tally.finish()
    }

    #[test]
    fn results_of_all_suites_are_summed() {
        let sum = tally(
            "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.00s\n",
        );
        assert_eq!((sum.passed, sum.failed, sum.skipped.len(), sum.suites()), (41, 1, 0, 2));
        assert_eq!(sum.failures, ["b"]);
    }

    #[test]
    fn a_test_that_skips_itself_is_not_a_passed_one() {
        let sum = tally(
            "test slow ... ignored, takes an hour\ntest spread ... ok\nskipped: spread: not root\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             skipped: spread: not root\n",
        );
        assert_eq!((sum.passed, sum.failed), (2, 0));
        let skipped: Vec<_> = sum.skipped.iter().map(|(name, reason)| (name.as_str(), reason.as_str())).collect();
        assert_eq!(skipped, [("slow", "takes an hour"), ("spread", "not root")]);
    }
}
