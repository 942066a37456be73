//! How long to wait before the next attempt: longer each time, and at random, so that clients do not retry in step.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The waits between attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    min_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Backoff {
        let ms = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (min_ms, max_ms) = (ms(min), ms(max));
        Backoff { min_ms, max_ms, next_ms: min_ms }
    }

    /// The wait after a connection that has lived so long. If it lived longer than the longest wait, it was good:
    /// the waits begin anew. A server that accepts and closes at once does not count as one.
    pub(super) fn wait(&mut self, lived: Duration) -> Duration {
        if lived >= Duration::from_millis(self.max_ms) {
            self.next_ms = self.min_ms;
        }
        let range = self.range();
        self.next_ms = self.next_ms.saturating_mul(2).min(self.max_ms);
        Duration::from_millis(rand::random_range(range))
    }

    /// The upper half of the next wait: enough to spread a thousand blades, and never close to zero.
    fn range(&self) -> RangeInclusive<u64> {
        self.next_ms.div_ceil(2)..=self.next_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_good_connection() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let short = Duration::from_millis(10);
        for expected in [50..=100, 100..=200, 200..=400, 400..=800, 500..=1_000, 500..=1_000] {
            assert_eq!(backoff.range(), expected);
            let waited = u64::try_from(backoff.wait(short).as_millis()).unwrap();
            assert!(expected.contains(&waited), "{waited} in {expected:?}");
        }
        assert!(backoff.wait(Duration::from_secs(1)) <= Duration::from_millis(100));
        assert_eq!(backoff.range(), 100..=200);
    }
}
