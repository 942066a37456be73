//! What can go wrong upstream without being the end of a feed.

use std::net::SocketAddr;

use crate::Session;

/// One thing that is wrong. Its text is one line for the log; [`Trouble::kind`] is what it is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Trouble<'a> {
    /// Another session than the configured one.
    #[error(
        "a packet of session {:?} from {source_address}, where {:?} is configured; it is dropped",
        text(session),
        text(expected)
    )]
    WrongSession {
        /// Its session.
        session: Session,
        /// As configured.
        expected: Session,
        /// Who sent it.
        source_address: SocketAddr,
    },
    /// A connection could not be made, or broke.
    #[error("{address}: {error}; again in {retry_ms} ms")]
    Disconnected {
        /// To whom.
        address: &'a str,
        /// What happened.
        error: &'a str,
        /// Until the next attempt.
        retry_ms: u64,
    },
}

impl Trouble<'_> {
    /// Its name in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Trouble::WrongSession { .. } => "wrong_session",
            Trouble::Disconnected { .. } => "disconnected",
        }
    }
}

/// A session's name as people write it.
fn text(session: &Session) -> String {
    String::from_utf8_lossy(session).trim_end().to_owned()
}
