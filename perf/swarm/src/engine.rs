//! Engines, which carry the subscribers: by kernel sockets, or by a program that answers packets by itself.

use std::time::Duration;

use serde_json::Value;

use super::tally::{Latency, Tally};
use super::window::Window;

/// The kinds of engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum EngineKind {
    /// Kernel sockets, by io_uring
    #[default]
    Sockets,
    /// Subscribers in an XDP program on the client end of a veth pair: no sockets; needs root
    Xdp,
}

impl EngineKind {
    /// The name in options and results.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Sockets => "sockets",
            EngineKind::Xdp => "xdp",
        }
    }
}

/// A swarm of subscribers on one implementation of TCP.
pub(crate) trait Engine {
    /// Connects and subscribes everybody; returns when the last has received the preamble. A client that cannot is an
    /// error.
    fn open(&mut self) -> anyhow::Result<Opened>;

    /// From now on the slow clients read slowly, and the stalled ones not at all.
    fn fall_into_habits(&mut self) -> anyhow::Result<()>;

    /// Counts the messages that are published in the window, from now on.
    fn begin(&mut self, window: Window) -> anyhow::Result<()>;

    /// Returns when the window is over and no more of its messages come.
    fn finish(&mut self) -> anyhow::Result<Measured>;

    /// Closes everybody; returns when the last is closed.
    fn close(&mut self) -> anyhow::Result<()>;

    /// User memory of a connection, as the code predicts.
    fn bytes_per_connection(&self) -> usize;
}

/// How the opening went.
pub(crate) struct Opened {
    /// From the first connection's first step to the last one's preamble.
    pub(crate) time: Duration,
    /// From the first connection's first step to the last answer to an upgrade.
    pub(crate) upgrade_time: Duration,
    /// From a connection's first step to the answer to its upgrade.
    pub(crate) handshakes: Latency,
}

impl Opened {
    /// Adds what another thread opened at the same time.
    pub(crate) fn merge(&mut self, other: &Opened) {
        self.time = self.time.max(other.time);
        self.upgrade_time = self.upgrade_time.max(other.upgrade_time);
        self.handshakes.merge(&other.handshakes);
    }
}

/// What was counted, and how busy the swarm was: a swarm that cannot keep up measures latencies of its own.
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    /// How busy the busiest thread was.
    pub(crate) busy_percent: f64,
    /// Longest time between two looks at all sockets.
    pub(crate) pass_max: Duration,
    /// What an engine that sees the segments has counted of them.
    pub(crate) transport: Value,
}
