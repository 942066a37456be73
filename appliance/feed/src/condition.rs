//! How current a feed is, and how its lines do.

use std::fmt;

/// Is what a feed passes on the present?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It replays what it missed. A blade is not ready meanwhile.
    CatchingUp,
    /// It passes on the present.
    Live,
    /// It may not be. What was passed on stays served, and subscribers are told.
    Stale(Stale),
}

/// Why a feed may not be current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Upstream says nothing, not even that nothing happens.
    Silent,
    /// What comes was there before, or is not believed.
    Unproven,
    /// There is no connection to upstream.
    Disconnected,
    /// Messages were lost for good: books may be wrong until they are made anew.
    Incomplete,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::CatchingUp => "catching up",
            Condition::Live => "live",
            Condition::Stale(Stale::Silent) => "stale: upstream is silent",
            Condition::Stale(Stale::Unproven) => "stale: what comes is not new, or not proven",
            Condition::Stale(Stale::Disconnected) => "stale: no connection to upstream",
            Condition::Stale(Stale::Incomplete) => "stale: messages were lost for good",
        })
    }
}

/// A line: one way by which packets come, and what came by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `A`, `B`, or an address.
    pub name: String,
    /// Packets taken.
    pub packets: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Packets that brought something new: no other line had been faster.
    pub wins: u64,
    /// Runs of messages that are missing on this line, whether or not another had them.
    pub gaps: u64,
    /// Packets that the kernel dropped because its buffer was full.
    pub kernel_drops: u64,
    /// By how much this line was ahead of the next, as a mean over its wins that another line confirmed later,
    /// nanoseconds.
    pub lead_ns_mean: u64,
    /// The most that it was ahead, nanoseconds.
    pub lead_ns_max: u64,
    /// Nothing has come by it for so long, nanoseconds; none before the first packet.
    pub silent_ns: Option<u64>,
}
