//! When to try again.

use std::time::Duration;

/// How long to wait before another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The pause after the first failure. It doubles with each round of all servers.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
    /// The pause after a refused login, and after the end of a session: what has to change there takes time.
    pub refused: Duration,
}

impl Retry {
    /// The pause after so many attempts in a row that brought nothing, over so many servers. Between a half and all of
    /// the nominal time, so that clients that lost a server together do not return together.
    pub(crate) fn pause(&self, failures: u32, servers: usize) -> Duration {
        let rounds = failures.saturating_sub(1) / u32::try_from(servers.max(1)).unwrap_or(u32::MAX);
        jittered(self.min.saturating_mul(1_u32.checked_shl(rounds).unwrap_or(u32::MAX)).min(self.max))
    }

    /// The pause after a refusal.
    pub(super) fn refusal_pause(&self) -> Duration {
        jittered(self.refused)
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_each_round_and_differ() {
        let milliseconds = Duration::from_millis;
        let retry = Retry { min: milliseconds(100), max: milliseconds(10_000), refused: milliseconds(30_000) };
        for (failures, servers, nominal_ms) in [
            (0, 1, 100),
            (1, 1, 100),
            (2, 1, 200),
            (4, 1, 800),
            (9, 1, 10_000),
            (u32::MAX, 1, 10_000),
            (2, 2, 100),
            (3, 2, 200),
            (1, 0, 100),
        ] {
            let nominal = milliseconds(nominal_ms);
            let pauses: Vec<_> = (0..100).map(|_| retry.pause(failures, servers)).collect();
            assert!(pauses.iter().all(|pause| (nominal / 2..=nominal).contains(pause)), "{failures}, {servers}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
        assert!((milliseconds(15_000)..=milliseconds(30_000)).contains(&retry.refusal_pause()));
    }
}
