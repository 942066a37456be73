//! The three times of a worker, each a type of its own: they begin at different moments, and one of them can wait.

use std::ops::Add;
use std::time::{Duration, Instant};

pub(crate) use fanblade_ring::UnixNs;

/// Milliseconds that a worker has served, without its stalls: the time of deadlines. A worker that stood still (a
/// debugger, a stopped process, a starved machine) does not hold that against its sessions, whose bytes may be waiting
/// unread.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkerMs(pub(crate) u64);

/// Microseconds since a worker's start, its stalls included: the time of batching windows.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunningUs(pub(crate) u64);

impl WorkerMs {
    /// No moment: later than all.
    pub(crate) const NEVER: WorkerMs = WorkerMs(u64::MAX);

    /// Milliseconds from `earlier` on; 0 if that is later.
    pub(crate) fn since(self, earlier: WorkerMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for WorkerMs {
    type Output = WorkerMs;

    /// So many milliseconds later.
    fn add(self, ms: u64) -> WorkerMs {
        WorkerMs(self.0 + ms)
    }
}

impl RunningUs {
    /// No moment: later than all.
    pub(crate) const NEVER: RunningUs = RunningUs(u64::MAX);

    /// From `earlier` on; nothing if that is later.
    pub(crate) fn since(self, earlier: RunningUs) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What a worker reads its times from.
pub(crate) struct Clock {
    started: Instant,
    last: Instant,
    served: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now, served: Duration::ZERO }
    }

    /// Moves the worker's time on by what has passed since the last call, or since the start, but by `allowed` at most.
    /// `true`: more had passed, so the worker stood still.
    #[must_use = "a stall is counted"]
    pub(crate) fn advance(&mut self, allowed: Duration) -> bool {
        let elapsed = self.last.elapsed();
        self.last += elapsed;
        self.served += elapsed.min(allowed);
        elapsed > allowed
    }

    pub(crate) fn served(&self) -> WorkerMs {
        WorkerMs(u64::try_from(self.served.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn running(&self) -> RunningUs {
        RunningUs(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_not_served() {
        let mut clock = Clock::start();
        std::thread::sleep(Duration::from_millis(30));
        assert!(clock.advance(Duration::from_millis(10)), "it stood still");
        assert_eq!(clock.served(), WorkerMs(10));
        assert!(!clock.advance(Duration::from_secs(3_600)));
        assert!(clock.running() >= RunningUs(30_000));
        assert_eq!(RunningUs(5).since(RunningUs(7)), Duration::ZERO);
    }
}
