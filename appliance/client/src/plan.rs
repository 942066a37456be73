//! What a subscriber does.

use std::fmt::Arguments;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What each connection does.
#[derive(Debug)]
pub struct Plan {
    /// A complete URL, `ws://` or `wss://`.
    pub url: String,
    /// Which issuers to trust; none: those that browsers trust.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Subjects and patterns.
    pub subjects: Vec<String>,
    /// What a session gets when it is behind.
    pub mode: Mode,
    /// The connection ends after this many data frames.
    pub count: Option<u64>,
    /// The connection ends after this time.
    pub deadline: Option<Duration>,
    /// The connection ends after this long without a data frame, counted from the first one.
    pub idle: Option<Duration>,
    /// Data frames are checked also while they are printed; without this, printed frames are only counted.
    pub check: bool,
    /// Where output goes.
    pub outlet: Outlet,
}

/// What a session gets when it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every frame, from the ring's history.
    All,
    /// Only the newest of each subject.
    Conflate,
}

/// Where output goes.
#[derive(Debug, Clone, Copy)]
pub struct Outlet {
    /// Called with each message as it came; none: messages are not printed.
    pub messages: Option<fn(&str) -> io::Result<()>>,
    /// Called each second with the number of frames; none: rates are not printed.
    pub rates: Option<fn(Arguments<'_>)>,
    /// Called with the blade's close code and reason; none: closes are only counted.
    pub closes: Option<fn(Arguments<'_>)>,
}
