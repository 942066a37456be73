//! The atomics of everything shared, in one place so that the model checker can put its own there.
//!
//! Readers map the memory read-only, where Rust promises only that a *relaxed* load is a plain load. An acquiring read
//! is therefore a relaxed load and a fence, which costs the same.

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// The only kind of thing in shared memory: eight bytes at an eight-byte boundary.
pub(crate) type Word = AtomicU64;

/// The size of a [`Word`].
pub(crate) const WORD_BYTES: usize = 8;

/// Reads a word that somebody else releases.
pub(crate) fn load_acquire(word: &Word) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}
