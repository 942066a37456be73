//! What can go wrong upstream without being the end of a feed.

use std::net::SocketAddr;

use crate::Session;
use crate::soupbintcp::Rejection;

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
    /// A server does not let us in.
    #[error("{address}: login refused: {rejection}; {}; again in {retry_ms} ms", advice(*rejection, session))]
    LoginRefused {
        /// The server.
        address: &'a str,
        /// The session that was asked for; blank: the current one.
        session: Session,
        /// What it said.
        rejection: Rejection,
        /// Until the next attempt.
        retry_ms: u64,
    },
    /// A server is in another session than the configured one.
    #[error(
        "{address}: the server is in session {:?}, where {:?} is configured; it is left; again in {retry_ms} ms",
        text(session),
        text(expected)
    )]
    OtherSession {
        /// The server.
        address: &'a str,
        /// Its session.
        session: Session,
        /// As configured.
        expected: Session,
        /// Until the next attempt.
        retry_ms: u64,
    },
    /// A server sends again what was had before.
    #[error(
        "{address}: it sends from message {sequence} on, where {expected} was asked for; what was here before is dropped"
    )]
    SequenceBack {
        /// The server.
        address: &'a str,
        /// What it sends first.
        sequence: u64,
        /// The message that comes next.
        expected: u64,
    },
    /// What another thread had to say, in its own words.
    #[error("{text}")]
    Told {
        /// What it is counted under.
        kind: &'static str,
        /// One line.
        text: &'a str,
    },
}

impl Trouble<'_> {
    /// Its name in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Trouble::WrongSession { .. } | Trouble::OtherSession { .. } => "wrong_session",
            Trouble::Disconnected { .. } => "disconnected",
            Trouble::LoginRefused { .. } => "login_refused",
            Trouble::SequenceBack { .. } => "sequence_back",
            Trouble::Told { kind, .. } => kind,
        }
    }
}

/// A session's name as people write it.
fn text(session: &Session) -> String {
    String::from_utf8_lossy(session).trim_end().to_owned()
}

/// What to look at when a login is refused.
fn advice(rejection: Rejection, session: &Session) -> String {
    match rejection {
        Rejection::NotAuthorized => "check username and password, and whether this address may log in".to_owned(),
        Rejection::SessionUnavailable if session.trim_ascii().is_empty() => "it has no session now".to_owned(),
        Rejection::SessionUnavailable => format!("check the session, {:?}", text(session)),
        Rejection::Other(_) => "ask whoever runs it what that means".to_owned(),
    }
}
