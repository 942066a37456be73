//! The feed's own time: it runs while the feed does, whatever is done to the system's clock.

use std::ops::{Add, AddAssign, Sub};
use std::time::Instant;

use crate::UnixNs;

/// Running time: nanoseconds since the feed began. A step of the wall clock does not touch it, and a pause of the
/// process counts as one second at most, so that no deadline passes before the packets that came meanwhile have been
/// looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Running(pub u64);

impl Running {
    /// When the feed began.
    pub const ZERO: Self = Self(0);

    /// Nanoseconds from then to this time; 0 if it is later.
    #[must_use]
    pub fn since(self, then: Self) -> u64 {
        self.0.saturating_sub(then.0)
    }
}

impl Add<u64> for Running {
    type Output = Self;

    fn add(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

impl AddAssign<u64> for Running {
    fn add_assign(&mut self, ns: u64) {
        *self = *self + ns;
    }
}

impl Sub<u64> for Running {
    type Output = Self;

    fn sub(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }
}

/// Tells the running time.
#[derive(Debug)]
pub(super) struct Clock {
    last: Option<(Instant, UnixNs)>,
    running: Running,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { last: None, running: Running::ZERO }
    }

    /// The running time at a moment that both clocks tell, and by how many milliseconds the wall clock was set since
    /// the moment before, if it was.
    pub(super) fn read(&mut self, now: Instant, unix_ns: UnixNs) -> (Running, Option<i64>) {
        let Some((then, then_unix_ns)) = self.last.replace((now, unix_ns)) else { return (self.running, None) };
        let passed_ns = u64::try_from(now.saturating_duration_since(then).as_nanos()).unwrap_or(u64::MAX);
        self.running += passed_ns.min(PAUSE_NS_MAX);
        let step_ms = (i128::from(unix_ns.0) - i128::from(then_unix_ns.0) - i128::from(passed_ns)) / 1_000_000;
        let step_ms = i64::try_from(step_ms).unwrap_or(i64::MAX);
        (self.running, (step_ms.unsigned_abs() >= STEP_MS_MIN).then_some(step_ms))
    }

    pub(super) fn now(&self) -> Running {
        self.running
    }
}

const PAUSE_NS_MAX: u64 = 1_000_000_000;
/// The least change that is a step. Clocks that are kept in time are slewed by less than a millisecond a second.
const STEP_MS_MIN: u64 = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_are_told_and_pauses_are_short() {
        let (mut clock, begin) = (Clock::new(), Instant::now());
        let mut read = |ms: u64, unix_ms: u64| {
            let (running, step) = clock.read(begin + Duration::from_millis(ms), UnixNs(unix_ms * 1_000_000));
            (running.0 / 1_000_000, step)
        };
        assert_eq!(read(0, 50_000), (0, None));
        assert_eq!(read(10, 50_010), (10, None));
        assert_eq!(read(20, 20_020), (20, Some(-30_000)), "set back");
        assert_eq!(read(30, 20_030), (30, None));
        assert_eq!(read(40, 80_040), (40, Some(60_000)), "set forward");
        assert_eq!(read(50, 80_001), (50, None), "a slew");
        assert_eq!(read(9_050, 89_001), (1_050, None), "a pause");
        assert_eq!(read(9_060, 0), (1_060, Some(-89_011)));
    }
}
