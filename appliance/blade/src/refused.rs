//! Logs when workers' threads were refused system calls: at once, and then at most every ten seconds.

use std::time::{Duration, Instant};

use fanblade_sandbox::refusals;

/// What was logged so far.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    count: u64,
    logged: Option<Instant>,
}

impl Refused {
    /// Looks at the process's count, and logs what is new.
    pub(crate) fn look(&mut self) {
        let refusals = refusals();
        if refusals.count == self.count || self.logged.is_some_and(|logged| logged.elapsed() < PAUSE) {
            return;
        }
        let news = refusals.count - self.count;
        (self.count, self.logged) = (refusals.count, Some(Instant::now()));
        tracing::error!(
            "workers were refused {news} system calls, the newest: {}. No worker needs it: this is an attack or a fault of \
             the blade; please report it (SECURITY.md). If it does harm: sandbox = false under [data]",
            refusals.newest_name().unwrap_or_default()
        );
    }
}

/// A thread that makes such calls without end does not fill the log.
const PAUSE: Duration = Duration::from_secs(10);
