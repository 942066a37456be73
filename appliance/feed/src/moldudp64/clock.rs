//! The feed's own time: it runs while the feed does, whatever is done to the system's clock.

use std::time::Instant;

/// Running time. A step of the wall clock does not touch it, and a pause of the process counts as one second at most,
/// so that no deadline passes before the packets that came meanwhile have been looked at.
#[derive(Debug)]
pub(super) struct Clock {
    last: Option<(Instant, u64)>,
    running_ns: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { last: None, running_ns: 0 }
    }

    /// The running time at a moment that both clocks tell, and by how many milliseconds the wall clock was set since
    /// the moment before, if it was.
    pub(super) fn read(&mut self, now: Instant, unix_ns: u64) -> (u64, Option<i64>) {
        let Some((then, then_unix_ns)) = self.last.replace((now, unix_ns)) else { return (self.running_ns, None) };
        let passed_ns = u64::try_from(now.saturating_duration_since(then).as_nanos()).unwrap_or(u64::MAX);
        self.running_ns += passed_ns.min(PAUSE_NS_MAX);
        let step_ms = (i128::from(unix_ns) - i128::from(then_unix_ns) - i128::from(passed_ns)) / 1_000_000;
        let step_ms = i64::try_from(step_ms).unwrap_or(i64::MAX);
        (self.running_ns, (step_ms.unsigned_abs() >= STEP_MS_MIN).then_some(step_ms))
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.running_ns
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
            let (running_ns, step) = clock.read(begin + Duration::from_millis(ms), unix_ms * 1_000_000);
            (running_ns / 1_000_000, step)
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
