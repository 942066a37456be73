//! Figures of one contestant in one run with one payload.

use serde_json::Value;

use super::contestant::Contestant;

pub(super) struct Sample {
    pub(super) contestant: Contestant,
    pub(super) payload_bytes: u16,
    /// Microseconds per delivered message, for each of the backlogs.
    pub(super) cpu_us: Vec<f64>,
    /// User memory per idle session. None for the bare loop, which has no sessions.
    pub(super) session_bytes: Option<f64>,
    /// The same after all messages, with lists: includes what a server has kept of its work.
    pub(super) bytes_after_messages: Option<f64>,
    pub(super) configuration: Value,
}
