//! What a feed counts.

/// Totals since the feed began. Every message that arrived is in exactly one of `messages`, `duplicates`, `stale` and
/// `dropped`, unless it is held (messages of packets that were malformed from their header on excepted: their number
/// is unknown).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeedCounters {
    /// Packets taken, good or bad, heartbeats and ends of session included. A file has none.
    pub packets: u64,
    /// Packets that only said what comes next.
    pub heartbeats: u64,
    /// Bytes taken: packets with their headers; of a file, messages with their framing (inflated).
    pub bytes: u64,
    /// Messages passed on.
    pub messages: u64,
    /// Messages that had been passed on, or given up as a gap, before they came (again).
    pub duplicates: u64,
    /// Messages of another session, dropped: of the one before this, of one that is not configured, or that nothing
    /// proved; what a re-request server should not have sent; and changes of a venue's book that has no snapshot.
    pub stale: u64,
    /// Packets that were not believed when they came: of another session, far ahead, or back.
    pub suspected: u64,
    /// Messages that nobody asked for.
    pub unmatched: u64,
    /// Messages that found no place to wait in, dropped: those ahead of a hole, which are asked for again, and changes
    /// of a venue's book, which then needs a newer snapshot.
    pub dropped: u64,
    /// Messages that came as replies to requests, and were new.
    pub recovered: u64,
    /// Requests for missing messages.
    pub requests: u64,
    /// Runs of missing messages.
    pub gaps: u64,
    /// Messages in those runs.
    pub gap_messages: u64,
    /// Things that could not be read.
    pub malformed: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Times that a simulator skipped, because it had fallen too far behind the clock.
    pub clock_skips: u64,
}
