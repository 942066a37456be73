//! Whether each thread moves. A thread counts the turns of its loop; the admin port's thread, which waits for no other,
//! looks at the counts, and says which one has stood still for too long: in the log once, in `/healthz` for as long as
//! it lasts.
//!
//! A thread that sleeps moves, too: no sleep of a loop is longer than a second. What is called still is one that waits
//! within a turn: for a lock, a file, a name, or for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fanblade_feed::Pulse;
use fanblade_worker::WorkerStats;
use serde::{Deserialize, Serialize};

use crate::blade::Blade;

/// Where a thread's turns are counted.
#[derive(Debug)]
pub(crate) enum Turns {
    Pulse(Pulse),
    Worker(Arc<WorkerStats>),
}

/// A thread, and what the watch has seen of it.
#[derive(Debug)]
pub(crate) struct Vital {
    name: String,
    turns: Turns,
    /// Since it was last seen to have moved.
    age_ms: AtomicU64,
    is_still: AtomicBool,
    stalls: AtomicU64,
}

/// The same, for those who ask.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Thread {
    pub(crate) name: String,
    pub(crate) heartbeat_age_ms: u64,
    /// It has stood still for too long.
    pub(crate) stalled: bool,
    /// How often it has.
    pub(crate) stalls: u64,
}

impl Vital {
    pub(crate) fn new(name: impl Into<String>, turns: Turns) -> Vital {
        Vital {
            name: name.into(),
            turns,
            age_ms: AtomicU64::new(0),
            is_still: AtomicBool::new(false),
            stalls: AtomicU64::new(0),
        }
    }

    pub(crate) fn seen(&self) -> Thread {
        Thread {
            name: self.name.clone(),
            heartbeat_age_ms: self.age_ms.load(Relaxed),
            stalled: self.is_still.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
        }
    }

    fn turns(&self) -> u64 {
        match &self.turns {
            Turns::Pulse(pulse) => pulse.turns(),
            Turns::Worker(stats) => stats.turns.value(),
        }
    }
}

/// Looks at all of them, again and again.
pub(crate) struct Watch {
    blade: Arc<Blade>,
    stalled: Duration,
    last: Instant,
    /// What each of them was seen to have counted, and since when it has not moved.
    seen: Vec<(u64, Duration)>,
}

impl Watch {
    /// `stalled`: how long a thread may stand still.
    pub(crate) fn new(blade: Arc<Blade>, stalled: Duration) -> Watch {
        let seen = blade.vitals.iter().map(|vital| (vital.turns(), Duration::ZERO)).collect();
        Watch { blade, stalled, last: Instant::now(), seen }
    }

    pub(crate) async fn run(mut self) {
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
