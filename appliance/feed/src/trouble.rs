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
        /// What is configured.
        expected: Session,
        /// Who sent it.
        source_address: SocketAddr,
    },
    /// Something that one packet alone says, and that would change everything.
    #[error(
        "a packet from {source_address} by line {line}: {}, where {expected} comes next in session {:?}; nothing is \
         believed of it until that is proven. If it is a stranger's, name the sender: ` from ADDRESS` after the line",
        claim_in_words(session, current, *sequence, *expected),
        text(current)
    )]
    Suspected {
        /// The line by which it came.
        line: &'a str,
        /// Who sent it.
        source_address: SocketAddr,
        /// What it says.
        session: Session,
        /// Its number.
        sequence: u64,
        /// The session under way.
        current: Session,
        /// The number that comes next in it.
        expected: u64,
    },
    /// Nothing came of a packet that was ahead of all others, while the feed went on below it.
    #[error("a packet said that messages {from} to {} exist, and all others contradict it; they are not waited for any more", to - 1)]
    TakenBack {
        /// The first that nobody else knows.
        from: u64,
        /// The one after the last that it named.
        to: u64,
    },
    /// A re-request server sends what it should not.
    #[error(
        "re-request server {server} cannot be right: it has sent {what}; that is dropped, where it is not too late"
    )]
    ServerContradicts {
        /// The server.
        server: SocketAddr,
        /// What is wrong, in words.
        what: &'a str,
    },
    /// A re-request server does not answer.
    #[error("re-request server {server} has not answered for {silent_ms} ms; {next} is asked next")]
    RequestServerSilent {
        /// The server.
        server: SocketAddr,
        /// The time since its oldest request without an answer.
        silent_ms: u64,
        /// Who is asked instead; the same where there is no other.
        next: SocketAddr,
    },
    /// It answers again.
    #[error("re-request server {server} answers again")]
    RequestServerBack {
        /// The server.
        server: SocketAddr,
    },
    /// Messages were not to be had.
    #[error("messages {from} to {} could not be recovered within {waited_ms} ms, and are given up", to - 1)]
    GaveUp {
        /// The first of them.
        from: u64,
        /// The first after them.
        to: u64,
        /// How long there was no progress.
        waited_ms: u64,
    },
    /// One line says nothing while others do.
    #[error("line {line} has been silent for {silent_ms} ms while packets came by another")]
    LineSilent {
        /// Its name.
        line: &'a str,
        /// The time since its last packet.
        silent_ms: u64,
    },
    /// It speaks again.
    #[error("line {line} has packets again")]
    LineBack {
        /// Its name.
        line: &'a str,
    },
    /// A line went back in its numbers.
    #[error(
        "line {line} has gone back from message {from_sequence} to {sequence} within its session; what was passed on \
         already is not repeated, and {expected} comes next"
    )]
    LineWentBack {
        /// Its name.
        line: &'a str,
        /// The number that it would have had next.
        from_sequence: u64,
        /// The number that it has next.
        sequence: u64,
        /// The number that the feed has next.
        expected: u64,
    },
    /// Packets ahead of a hole have no place to wait in any more.
    #[error(
        "the window of {window_bytes} bytes is full: packets ahead of what is missing are dropped, and asked for later"
    )]
    WindowFull {
        /// Its size.
        window_bytes: usize,
    },
    /// The kernel had to drop packets, because the feed did not take them soon enough.
    #[error(
        "line {line}: the kernel has dropped {dropped} packets at a receive buffer of {receive_buffer_bytes} bytes; raise \
         `receive_buffer`, or give the sequencer a CPU of its own"
    )]
    KernelDropped {
        /// Its name.
        line: &'a str,
        /// How many there were since this was last told.
        dropped: u64,
        /// The size of the buffer.
        receive_buffer_bytes: u32,
    },
    /// The kernel keeps less than was asked for.
    #[error(
        "line {line}: a receive buffer of {asked_bytes} bytes is wanted, but the kernel permits {got_bytes}; \
         `sysctl net.core.rmem_max={asked_bytes}` permits it, or CAP_NET_ADMIN"
    )]
    ReceiveBufferShort {
        /// Its name.
        line: &'a str,
        /// What is configured.
        asked_bytes: u32,
        /// What the kernel gave.
        got_bytes: u32,
    },
    /// Packets that are longer than any of MoldUDP64's.
    #[error("line {line}: {packets} packets of more than {} bytes are dropped", fanblade_net::limits::DATAGRAM_LEN_MAX)]
    PacketsTooLong {
        /// Its name.
        line: &'a str,
        /// How many there were since this was last told.
        packets: u64,
    },
    /// The socket of a line has an error.
    #[error("line {line}: {error}")]
    LineFailed {
        /// Its name.
        line: &'a str,
        /// The kernel's answer.
        error: &'a str,
    },
    /// A request could not be sent.
    #[error("a request to {server} was not sent: {error}")]
    RequestNotSent {
        /// The server.
        server: SocketAddr,
        /// The kernel's answer.
        error: &'a str,
    },
    /// Somebody who was not asked sends to the port of the replies.
    #[error("a packet from {source_address}, which is not a re-request server of ours; the packet is dropped")]
    Stranger {
        /// Who.
        source_address: SocketAddr,
    },
    /// Somebody has set the clock.
    #[error("the system's clock was set by {by_ms} ms; times of messages jump, the feed's own deadlines do not")]
    ClockStepped {
        /// Forwards, or backwards.
        by_ms: i64,
    },
    /// A snapshot could not be had.
    #[error("no snapshot from {server} at attempt {attempt}: {error}; again in {retry_ms} ms")]
    SnapshotFailed {
        /// The GLIMPSE server.
        server: &'a str,
        /// What happened.
        error: &'a str,
        /// How many there were in a row.
        attempt: u32,
        /// The time until the next attempt.
        retry_ms: u64,
    },
    /// It is not waited for any longer.
    #[error(
        "no snapshot from {server} after {attempts} attempts: the feed goes on with what comes, and books are incomplete \
         until there is one"
    )]
    NoSnapshot {
        /// The GLIMPSE server.
        server: &'a str,
        /// How many there were.
        attempts: u32,
    },
    /// A connection could not be made, or broke.
    #[error("{address}: {error}; again in {retry_ms} ms")]
    Disconnected {
        /// To whom.
        address: &'a str,
        /// What happened.
        error: &'a str,
        /// The time until the next attempt.
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
        /// The time until the next attempt.
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
        /// What is configured.
        expected: Session,
        /// The time until the next attempt.
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
        /// The kind that counts it.
        kind: &'static str,
        /// One line.
        text: &'a str,
    },
}

impl Trouble<'_> {
    /// What troubles of this crate's feeds are counted under: each of them is nought at the start.
    pub const KINDS: &'static [&'static str] = &[
        "capture_skipped",
        "clock_stepped",
        "disconnected",
        "gave_up",
        "gzip_tail",
        "kernel_dropped",
        "line_back",
        "line_failed",
        "line_silent",
        "login_refused",
        "no_snapshot",
        "packets_too_long",
        "receive_buffer_short",
        "request_not_sent",
        "request_server_back",
        "request_server_silent",
        "sequence_back",
        "server_contradicts",
        "snapshot_failed",
        "stranger",
        "suspected",
        "window_full",
        "wrong_session",
    ];

    /// Its name in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Trouble::WrongSession { .. } | Trouble::OtherSession { .. } => "wrong_session",
            Trouble::Suspected { .. } | Trouble::TakenBack { .. } => "suspected",
            Trouble::ServerContradicts { .. } => "server_contradicts",
            Trouble::RequestServerSilent { .. } => "request_server_silent",
            Trouble::RequestServerBack { .. } => "request_server_back",
            Trouble::GaveUp { .. } => "gave_up",
            Trouble::LineSilent { .. } => "line_silent",
            Trouble::LineBack { .. } => "line_back",
            Trouble::WindowFull { .. } => "window_full",
            Trouble::KernelDropped { .. } => "kernel_dropped",
            Trouble::ReceiveBufferShort { .. } => "receive_buffer_short",
            Trouble::PacketsTooLong { .. } => "packets_too_long",
            Trouble::LineFailed { .. } => "line_failed",
            Trouble::RequestNotSent { .. } => "request_not_sent",
            Trouble::Stranger { .. } => "stranger",
            Trouble::ClockStepped { .. } => "clock_stepped",
            Trouble::SnapshotFailed { .. } => "snapshot_failed",
            Trouble::NoSnapshot { .. } => "no_snapshot",
            Trouble::Disconnected { .. } => "disconnected",
            Trouble::LoginRefused { .. } => "login_refused",
            Trouble::LineWentBack { .. } | Trouble::SequenceBack { .. } => "sequence_back",
            Trouble::Told { kind, .. } => kind,
        }
    }
}

/// A session's name as people write it.
fn text(session: &Session) -> String {
    String::from_utf8_lossy(session).trim_end().to_owned()
}

/// What a packet says that is not believed yet.
fn claim_in_words(session: &Session, current: &Session, sequence: u64, expected: u64) -> String {
    if session != current {
        format!("session {:?}, message {sequence}", text(session))
    } else if sequence > expected {
        format!("message {sequence}, far ahead")
    } else {
        format!("message {sequence}, back")
    }
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
