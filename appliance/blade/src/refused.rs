//! Logs when a worker's thread was refused a system call.

use fanblade_sandbox::refusals;

/// What was logged so far.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    count: u64,
}

impl Refused {
    /// Looks at the process's count, and logs what is new.
    pub(crate) fn look(&mut self) {
        let refusals = refusals();
        if refusals.count == self.count {
            return;
        }
        let news = refusals.count - self.count;
        self.count = refusals.count;
        tracing::error!(
            "workers were refused {news} system calls, the newest: {}. No worker needs it: this is an attack or a fault of \
             the blade; please report it (SECURITY.md). If it does harm: sandbox = false under [data]",
            refusals.newest_name().unwrap_or_default()
        );
    }
}
