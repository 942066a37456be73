//! The control thread, which looks after all other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fanblade_feed::{Pulse, injected};

use crate::kernel::Kernel;
use crate::parked::Parked;
use crate::refused::Refused;
use crate::reload::Applying;
use crate::sequencer::SequencerHandle;
use crate::signals::END_TOLD;
use crate::view::{Blade, Recent};
use crate::workers::Workers;

/// Everything that runs, owned by the control thread.
pub(crate) struct Control {
    pub(crate) blade: Arc<Blade>,
    pub(crate) kernel: Kernel,
    pub(crate) workers: Workers,
    pub(crate) sequencer: Option<SequencerHandle>,
    /// Cumulative latencies, one entry a second, the oldest first.
    pub(crate) history: Vec<(Instant, Recent)>,
    pub(crate) pulse: Pulse,
    /// Latencies of each worker.
    pub(crate) parked: Vec<Parked>,
    pub(crate) refused: Refused,
    /// What the workers answer to a balancer's check.
    pub(crate) unready: Arc<AtomicBool>,
}

impl Control {
    /// Looks after the other threads. The error names what the blade cannot do without.
    pub(crate) fn tick(&mut self) -> Result<(), &'static str> {
        self.pulse.beat();
        injected::panic_if_asked("control");
        if let Some(given_up) = self.workers.look_after(&self.kernel) {
            let _ = self.blade.broken.set(given_up);
        }
        if self.sequencer.as_ref().is_some_and(SequencerHandle::is_finished) {
            return Err("the sequencer has panicked");
        }
        self.unready.store(!self.blade.is_ready(), Relaxed);
        for (index, (parked, stats)) in self.parked.iter_mut().zip(self.workers.stats()).enumerate() {
            parked.look(index, stats);
        }
        self.refused.look();
        self.kernel.publish_load(&self.blade);
        if self.history.last().is_none_or(|(then, _)| then.elapsed() >= HISTORY_STEP) {
            self.kernel.refresh(&self.blade);
            self.remember_latencies();
        }
        Ok(())
    }

    fn remember_latencies(&mut self) {
        let now = Recent {
            feed_to_publish: self.blade.sequencer.latency.snapshot(),
            publish_to_send: self.blade.workers.iter().map(|worker| worker.stats.latency.snapshot()).collect(),
        };
        if let Some((_, then)) = self.history.first() {
            let since = now.publish_to_send.iter().zip(&then.publish_to_send).map(|(now, then)| now.since(then));
            self.blade.recent.store(Arc::new(Recent {
                feed_to_publish: now.feed_to_publish.since(&then.feed_to_publish),
                publish_to_send: since.collect(),
            }));
        }
        self.history.push((Instant::now(), now));
        if self.history.len() > HISTORY_LEN_MAX {
            self.history.remove(0);
        }
    }

    /// Passes on what a reload has changed, unless the thread that reloads has given up waiting for it.
    pub(crate) fn apply(&mut self, applying: &Applying) {
        if applying.done.send(()).is_ok() {
            self.workers.take_limits(&applying.changes.limits);
        }
    }

    /// Begins to stop: the blade serves on, but is not ready, so that a balancer sends no new clients. Returns when the
    /// delay is over.
    pub(crate) fn begin_end(&self, delay: Duration) -> Instant {
        self.blade.stopping.store(true, Relaxed);
        self.unready.store(true, Relaxed);
        self.blade.supervisor.end_within(delay + END_TOLD);
        tracing::info!(
            "stopping: not ready any more; sessions are closed in {} ms, or at the next signal",
            delay.as_millis()
        );
        Instant::now() + delay
    }
}

/// Latencies are shown over the last `HISTORY_STEP` × `HISTORY_LEN_MAX`.
const HISTORY_STEP: Duration = Duration::from_secs(1);
const HISTORY_LEN_MAX: usize = 10;
