//! Detects stalled threads: a thread counts the turns of its loop, and [`crate::Watch`] looks at the counts.
//!
//! A thread that sleeps moves, too: no sleep of a loop is longer than a second. A thread counts as still if it waits
//! within a turn: for a lock, a file, a name look-up, or for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use fanblade_feed::Pulse;
use fanblade_worker::WorkerStats;
use serde::{Deserialize, Serialize};

/// Where a thread's turns are counted.
#[derive(Debug)]
pub(crate) enum Turns {
    Pulse(Pulse),
    Worker(Arc<WorkerStats>),
}

/// A thread, and what the watch has seen of it.
#[derive(Debug)]
pub struct Vital {
    pub(crate) name: String,
    turns: Turns,
    /// Time since the thread was last seen to move.
    pub(crate) age_ms: AtomicU64,
    pub(crate) is_still: AtomicBool,
    pub(crate) stalls: AtomicU64,
}

/// The same as plain values, for `/v1/status`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// The thread's name.
    pub name: String,
    /// Time since the thread was last seen to move.
    pub heartbeat_age_ms: u64,
    /// Whether it has stood still for too long.
    pub stalled: bool,
    /// How often it has stood still for too long.
    pub stalls: u64,
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

    /// The values last seen.
    #[must_use]
    pub fn seen(&self) -> Thread {
        Thread {
            name: self.name.clone(),
            heartbeat_age_ms: self.age_ms.load(Relaxed),
            stalled: self.is_still.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
        }
    }

    pub(crate) fn turns(&self) -> u64 {
        match &self.turns {
            Turns::Pulse(pulse) => pulse.turns(),
            Turns::Worker(stats) => stats.turns.value(),
        }
    }
}
