//! When a message arrived, and counts of elements that were not passed on.

use std::time::Instant;

use fanblade_feed::UnixNs;

/// When a message arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) unix_ns: UnixNs,
    pub(super) at: Instant,
}

/// Total counts of elements that were not passed on, by the reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Their numbers had come before.
    pub(super) duplicates: u64,
    /// They are changes of a book that has no snapshot.
    pub(super) without_book: u64,
    /// They are changes that found no place to wait for their book's snapshot.
    pub(super) dropped: u64,
    /// Their names make no valid subject.
    pub(super) bad_names: u64,
}
