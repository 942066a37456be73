//! Logs when a worker cannot accept connections for lack of descriptors or memory, and when it can again: once each,
//! however often the worker tries meanwhile.

use std::time::{Duration, Instant};

use fanblade_worker::WorkerStats;

/// What is known of one worker.
#[derive(Debug, Default, Clone)]
pub(crate) struct Parked {
    /// Failed attempts seen so far.
    count: u64,
    /// The first and the newest failed attempt of the trouble under way.
    since: Option<(Instant, Instant)>,
}

impl Parked {
    /// Looks at the worker with this index, and logs changes.
    pub(crate) fn look(&mut self, index: usize, stats: &WorkerStats) {
        let count = stats.accept_parked.value();
        let news = count.saturating_sub(self.count);
        self.count = count;
        let now = Instant::now();
        match &mut self.since {
            None if news > 0 => {
                tracing::warn!(
                    "worker {index} cannot accept connections: out of descriptors or socket memory; new connections wait. See: \
                     fanblade doctor"
                );
                self.since = Some((now, now));
            }
            Some((_, newest)) if news > 0 => *newest = now,
            Some((first, newest)) if now - *newest >= CALM => {
                let seconds = (*newest - *first).as_secs_f64();
                tracing::info!("worker {index} accepts connections again, after {seconds:.1} s");
                self.since = None;
            }
            _ => {}
        }
    }
}

/// The trouble is over after this long without a failed attempt. While it lasts, the worker tries every 100 ms.
const CALM: Duration = Duration::from_secs(1);
