//! Which blade is watched, and how often.

use std::time::Duration;

/// Which blade answers, for the threads that read its ring and maps on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) epoch: String,
    pub(super) port: u16,
    pub(super) is_local: bool,
    /// Why the kernel counts nothing; none where it does.
    pub(super) ebpf_lacks: Option<String>,
}

/// Interval between two requests to the blade, which renews its latencies as often.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
