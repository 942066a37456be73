//! Looks at the turns that all threads count, and says which one has stood still for too long: in the log once, in
//! `/healthz` for as long as it lasts. Run it on a thread that waits for no other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::view::Blade;

/// Looks at all of them, again and again.
pub struct Watch {
    blade: Arc<Blade>,
    stalled: Duration,
    last: Instant,
    /// What each of them was seen to have counted, and since when it has not moved.
    seen: Vec<(u64, Duration)>,
}

impl Watch {
    /// `stalled`: how long a thread may stand still.
    #[must_use]
    pub fn new(blade: Arc<Blade>, stalled: Duration) -> Watch {
        let seen = blade.vitals.iter().map(|vital| (vital.turns(), Duration::ZERO)).collect();
        Watch { blade, stalled, last: Instant::now(), seen }
    }

    /// For ever.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let elapsed = self.last.elapsed();
            self.last += elapsed;
            // When this thread itself has not run for longer, nor has the process (it was stopped, or starved): that
            // time is held against nobody.
            self.look(elapsed.min(LOOK_MAX));
        }
    }

    fn look(&mut self, elapsed: Duration) {
        // At the end threads end one after the other; what is waited for then has deadlines of its own.
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

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What one look counts at most.
const LOOK_MAX: Duration = Duration::from_millis(500);
