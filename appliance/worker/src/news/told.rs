//! What a worker has told its sessions of the publisher's news.

use fanblade_ring::Currency;

use crate::clock::WorkerMs;

/// What was told last, to be compared with what the ring says.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The ring's count of news that was looked at.
    pub(crate) seen: u64,
    pub(super) currency: Currency,
    pub(super) refused_count: u64,
    pub(super) unplaced: u64,
    /// When refusals are looked for next; `None` while there are none.
    pub(super) look_ms: Option<WorkerMs>,
    /// When they were looked for last.
    pub(super) looked_ms: WorkerMs,
}
