//! Whether to accept connections now: the policy that both engines share.

use std::time::{Duration, Instant};

use crate::limits::ACCEPT_RETRY_MS;

/// The reasons not to accept. Out of descriptors, an engine neither spins on a listener that stays readable nor forgets
/// it.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    paused: bool,
    parked_until: Option<Instant>,
}

impl Accepting {
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    /// Accepts nothing before [`ACCEPT_RETRY_MS`] have passed or [`Self::unpark`] is called.
    pub(crate) fn park(&mut self) {
        self.parked_until = Some(Instant::now() + Duration::from_millis(ACCEPT_RETRY_MS));
    }

    /// A descriptor was freed.
    pub(crate) fn unpark(&mut self) {
        self.parked_until = None;
    }

    /// Is accepting parked now? It may be parked again in a moment, when what was short still is.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked_until.is_some()
    }

    /// May connections be accepted now? Ends a parking whose time has come.
    pub(crate) fn is_open(&mut self) -> bool {
        if self.parked_until.is_some_and(|until| until <= Instant::now()) {
            self.parked_until = None;
        }
        !self.paused && self.parked_until.is_none()
    }

    /// Cuts a poll's timeout so that a parking ends in time.
    pub(crate) fn cut(&self, timeout: Option<Duration>) -> Option<Duration> {
        let Some(until) = self.parked_until.filter(|_| !self.paused) else { return timeout };
        let left = until.saturating_duration_since(Instant::now());
        Some(timeout.map_or(left, |timeout| timeout.min(left)))
    }
}

/// What an error of `accept` means.
pub(crate) enum AcceptError {
    /// This connection was lost before it could be accepted; the next may be fine.
    Connection,
    /// Descriptors or memory are short.
    Resources,
    /// Nothing to accept.
    Empty,
    /// The listener itself is broken.
    Listener,
}

impl AcceptError {
    /// Sorts an errno. accept(2) passes on pending network errors of the new socket, which are not the listener's.
    pub(crate) fn of(errno: i32) -> AcceptError {
        match errno {
            libc::EAGAIN | libc::EINTR | libc::ECANCELED => AcceptError::Empty,
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => AcceptError::Resources,
            libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT => AcceptError::Listener,
            _ => AcceptError::Connection,
        }
    }
}
