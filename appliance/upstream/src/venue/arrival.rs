//! When a message has come, and what is counted of those that change nothing.

use std::time::Instant;

/// When a message came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) unix_ns: u64,
    pub(super) at: Instant,
}

/// What became of elements that were not passed on, in totals.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Their numbers had been there.
    pub(super) duplicates: u64,
    /// Changes of a book whose whole is not known.
    pub(super) without_book: u64,
    /// Their names make no subject.
    pub(super) bad_names: u64,
}
