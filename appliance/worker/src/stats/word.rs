//! One figure of a worker.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A word that its worker alone writes: a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets it: a level that is known elsewhere.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Takes `n` away.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
