//! Counting what `cargo test` reports, and the tests that skip themselves.
//!
//! A test that cannot run here (no root, no browser) prints a line and returns: `println!("skipped: REASON")`, which
//! reaches us because tests run with `--show-output`, or `skipped: NAME: REASON` straight to the process's stderr.

use std::collections::{BTreeMap, BTreeSet};

use crate::child::Stream;

/// The numbers of tests passed and failed, and the skipped tests with their reasons.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Test and reason, for tests that skipped themselves and tests that are ignored.
    pub(crate) skipped: BTreeMap<String, String>,
    pub(crate) failures: BTreeSet<String>,
    /// Test binaries and doc test runs that reported a result.
    pub(crate) suites: usize,
    ignored: usize,
    /// The test whose captured output the next lines are.
    speaking: Option<String>,
}

impl Tally {
    /// Takes in one line of `cargo test`.
    pub(crate) fn line(&mut self, stream: Stream, line: &str) {
        let line = line.trim();
        if let Some(reason) = line.strip_prefix("skipped: ") {
            let spoken = self.speaking.as_deref().filter(|_| stream == Stream::Out).map(|name| (name, reason));
            let (name, reason) = spoken.or_else(|| reason.split_once(": ")).unwrap_or((reason, "cannot run here"));
            // A test that gives several reasons still counts once: its first reason stays.
            self.skipped.entry(name.to_owned()).or_insert_with(|| reason.to_owned());
        } else if stream == Stream::Out {
            self.harness(line);
        }
    }

    /// The harness counts tests that skipped themselves as passed: subtracts them from `passed`.
    pub(crate) fn finish(mut self) -> Tally {
        let themselves = self.skipped.len().saturating_sub(self.ignored);
        self.passed = self.passed.saturating_sub(themselves);
        self
    }

    fn harness(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.suites += 1;
            self.passed += count(result, " passed");
            self.failed += count(result, " failed");
            self.ignored += count(result, " ignored");
            self.speaking = None;
        } else if let Some(section) = line.strip_prefix("---- ") {
            self.speaking = section.strip_suffix(" stdout ----").map(str::to_owned);
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.split_once(" ... ")) {
            if let Some(reason) = outcome.strip_prefix("ignored") {
                let reason = reason.strip_prefix(", ").unwrap_or("ignored, no reason given");
                self.skipped.insert(name.to_owned(), reason.to_owned());
            } else if outcome.starts_with("FAILED") {
                self.failures.insert(name.to_owned());
            }
        }
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

    fn tally(stdout: &str, stderr: &str) -> Tally {
        let mut tally = Tally::default();
        stdout.lines().for_each(|line| tally.line(Stream::Out, line));
        stderr.lines().for_each(|line| tally.line(Stream::Err, line));
        tally.finish()
    }

    #[test]
    fn results_of_all_suites_are_summed() {
        let sum = tally(
            "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.00s\n",
            "   Compiling x\n",
        );
        assert_eq!((sum.passed, sum.failed, sum.skipped.len(), sum.suites), (41, 1, 0, 2));
        assert_eq!(Vec::from_iter(sum.failures), ["b"]);
    }

    #[test]
    fn a_test_that_skips_itself_is_not_a_passed_one() {
        let sum = tally(
            "test slow ... ignored, takes an hour\ntest odd ... ignored\ntest spread ... ok\n\nsuccesses:\n\n\
             ---- spread stdout ----\nskipped: not root\nskipped: no ip\n\n\nsuccesses:\n    spread\n\n\
             test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
            "skipped: flows: needs CAP_BPF\nskipped: flows: needs CAP_BPF\n",
        );
        assert_eq!((sum.passed, sum.failed), (1, 0));
        let skipped: Vec<String> = sum.skipped.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        let expected =
            ["flows: needs CAP_BPF", "odd: ignored, no reason given", "slow: takes an hour", "spread: not root"];
        assert_eq!(skipped, expected);
    }
}
