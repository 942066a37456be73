//! Looks at the turns that all threads count, and reports which thread has stood still for too long: once in the log,
//! and in `/healthz` for as long as it lasts. The service manager hears the same ([`crate::Supervisor`]): without its
//! `WATCHDOG=1` it starts the blade again. Run it on a thread that waits for no other; if that thread itself stands
//! still, the manager hears nothing, either.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::bulletins::Bulletins;
use crate::view::Blade;

/// Looks at all threads at intervals.
pub struct Watch {
    blade: Arc<Blade>,
    stalled: Duration,
    last: Instant,
    /// For each thread the turns last seen, and for how long they have not changed.
    seen: Vec<(u64, Duration)>,
    /// What the service manager has heard.
    bulletins: Bulletins,
}

impl Watch {
    /// `stalled`: how long a thread may stand still.
    #[must_use]
    pub fn new(blade: Arc<Blade>, stalled: Duration) -> Watch {
        let seen = blade.vitals.iter().map(|vital| (vital.turns(), Duration::ZERO)).collect();
        Watch { blade, stalled, last: Instant::now(), seen, bulletins: Bulletins::new() }
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let elapsed = self.last.elapsed();
            self.last += elapsed;
            // If this thread itself did not run for longer, the whole process did not (it was stopped, or starved), so
            // that time is not held against any thread.
            self.look(elapsed.min(LOOK_MAX));
            self.bulletins.send_due(&self.blade, LOOK_INTERVAL);
        }
    }

    fn look(&mut self, elapsed: Duration) {
        // While the blade stops, threads end one after the other; those waits have their own deadlines.
        let is_watched = !self.blade.stopping.load(Relaxed);
        for (vital, (turns, age)) in self.blade.vitals.iter().zip(&mut self.seen) {
            let before = std::mem::replace(turns, vital.turns());
            *age = if before == *turns && is_watched { *age + elapsed } else { Duration::ZERO };
            vital.age_ms.store(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), Relaxed);
            let is_still = *age >= self.stalled;
            if vital.is_still.swap(is_still, Relaxed) == is_still {
                continue;
            }
            let name = &vital.name;
            if is_still {
                vital.stalls.fetch_add(1, Relaxed);
                tracing::error!("the thread {name} has not moved for {} ms; /healthz says so", age.as_millis());
            } else if is_watched {
                tracing::warn!("the thread {name} moves again");
            }
        }
    }
}

/// Interval between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The most time that one look counts.
const LOOK_MAX: Duration = Duration::from_millis(500);
