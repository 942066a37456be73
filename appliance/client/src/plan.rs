//! What a subscriber is to do.

use std::fmt::Arguments;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What each connection is to do.
#[derive(Debug)]
pub struct Plan {
    /// A whole one, `ws://` or `wss://`.
    pub url: String,
    /// Whom to trust; none: those that browsers trust.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Subjects and patterns.
    pub subjects: Vec<String>,
    /// What comes when it is behind.
    pub mode: Mode,
    /// The connection ends after this many data frames.
    pub count: Option<u64>,
    /// And after this long.
    pub deadline: Option<Duration>,
    /// And after this long without a data frame, once the first has come.
    pub idle: Option<Duration>,
    /// Data frames are looked at, not only counted.
    pub check: bool,
    /// Where words go.
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

/// Where words go.
#[derive(Debug, Clone, Copy)]
pub struct Outlet {
    /// Each message, as it came; none: they are not wanted.
    pub messages: Option<fn(&str) -> io::Result<()>>,
    /// Each second how many frames have come; none: nobody wants to know.
    pub rates: Option<fn(Arguments<'_>)>,
    /// How the blade has closed; none: it is only counted.
    pub closes: Option<fn(Arguments<'_>)>,
}
