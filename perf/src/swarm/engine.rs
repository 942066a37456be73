//! What carries the subscribers: kernel sockets here; in place of them, whatever answers packets by itself.

use std::time::Duration;

use serde_json::Value;

use super::subscribers::Window;
use super::tally::{Latency, Tally};

/// A swarm of subscribers on one way of talking TCP.
pub(crate) trait Engine {
    /// Connects and subscribes everybody; returns when the last has heard the preamble. Whoever cannot is an error.
    fn open(&mut self) -> anyhow::Result<Opened>;

    /// From now on the slow clients read slowly, and the stalled ones not at all.
    fn fall_into_habits(&mut self) -> anyhow::Result<()>;

    /// Counts the messages that are published in the window, from now on.
    fn begin(&mut self, window: Window) -> anyhow::Result<()>;

    /// Returns when the window is over and no more of its messages come.
    fn finish(&mut self) -> anyhow::Result<Measured>;

    /// Closes everybody; returns when the last is closed.
    fn close(&mut self) -> anyhow::Result<()>;

    /// User memory of a connection, as the code says.
    fn bytes_per_connection(&self) -> usize;
}

/// How the opening went.
pub(crate) struct Opened {
    /// From the first connection's first step to the last one's preamble.
    pub(crate) time: Duration,
    /// To the last answer to an upgrade.
    pub(crate) upgrade_time: Duration,
    /// From a connection's first step to the answer to its upgrade.
    pub(crate) handshakes: Latency,
}

impl Opened {
    /// Adds what was opened at the same time by another thread.
    pub(crate) fn merge(&mut self, other: &Opened) {
        self.time = self.time.max(other.time);
        self.upgrade_time = self.upgrade_time.max(other.upgrade_time);
        self.handshakes.merge(&other.handshakes);
    }
}

/// What was counted, and how busy the counting kept us: latencies of a swarm that cannot keep up are its own.
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// Of the busiest thread.
    pub(crate) busy_percent: f64,
    /// Longest time between two looks at all sockets.
    pub(crate) pass_max: Duration,
    /// What an engine that sees the segments has counted of them.
    pub(crate) transport: Value,
}
