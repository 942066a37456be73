//! Says when a worker cannot accept connections for want of descriptors or memory, and when it can again: once each,
//! however often it tries meanwhile.

use std::time::{Duration, Instant};

use fanblade_worker::WorkerStats;

/// What is known of one worker.
#[derive(Debug, Default, Clone)]
pub(crate) struct Parked {
    /// Attempts that were seen.
    count: u64,
    /// The first and the newest of those that were told as one.
    since: Option<(Instant, Instant)>,
}

impl Parked {
    /// Looks at worker number `index`, and tells what is new.
    pub(crate) fn look(&mut self, index: usize, stats: &WorkerStats) {
        let count = stats.accept_parked.value();
        let news = count.saturating_sub(self.count);
        self.count = count;
        let now = Instant::now();
        match &mut self.since {
            None if news > 0 => {
                tracing::warn!(
                    "worker {index} cannot accept connections: out of descriptors or socket memory; they wait. See: \
                     fanblade doctor"
                );
                self.since = Some((now, now));
            }
            Some((_, newest)) if news > 0 => *newest = now,
            Some((first, newest)) if now - *newest >= CALM => {
                let seconds = (*newest - *first).as_secs_f64();
                tracing::info!("worker {index} accepts connections again; for {seconds:.1} s it could not");
                self.since = None;
            }
            _ => {}
        }
    }
}

/// So long without a failed attempt, and the trouble is over. While it lasts, one is made every 100 ms.
const CALM: Duration = Duration::from_secs(1);
