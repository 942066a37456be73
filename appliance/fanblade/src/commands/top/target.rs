//! Which blade is looked at, and how often.

use std::time::Duration;

/// Which blade answers, for the threads that look at what it has on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) epoch: String,
    pub(super) port: u16,
    pub(super) is_local: bool,
    /// Why the kernel counts nothing; none where it does.
    pub(super) ebpf_lacks: Option<String>,
}

/// Between two looks at the blade. Its latencies are renewed as often.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
