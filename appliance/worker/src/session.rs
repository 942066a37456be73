//! One subscriber's connection.
//!
//! What every session needs lies in [`Session`]; what some need for a while hangs off it in an [`Extra`]. So a session
//! that is subscribed and owed nothing costs [`bytes_per_idle_session`] and no more.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use fanblade_ring::Lane;
use fanblade_wire::Inbound;

use crate::clock::WorkerMs;
use crate::directory::Set;
use crate::extra::Extra;
use crate::limits::PIECE_LEN;
use crate::timers::Links;

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No session here.
    Free,
    /// Its PROXY header has not come whole.
    Preface,
    /// Its upgrade request has not come whole.
    Handshake,
    /// A WebSocket session.
    Open,
    /// Our last bytes (a Close frame, an HTTP error) are on their way; what comes in is ignored.
    Closing,
    /// Our last bytes have gone out; the peer's end is awaited.
    Lingering,
}

/// What every session has.
pub(crate) struct Session {
    pub(crate) inbound: Inbound,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) links: Links,
    /// Its set of subscriptions.
    pub(crate) set: Set,
    /// Its place among its group's members. With a list of its own: its place in the worker's `Arena` while it is owed
    /// something there, else [`IDLE`]. [`NOT_MEMBER`] while it has no subscriptions or is behind.
    pub(crate) member: u32,
    /// When the last bytes came.
    pub(crate) received_ms: WorkerMs,
    /// The second in which `requests` and `pieces` were counted, modulo some eighteen hours.
    counted_second: u16,
    requests: u16,
    pub(crate) pieces: u16,
    peer_port: u16,
    peer_ip: [u8; 16],
    pub(crate) state: State,
    pub(crate) lane: Lane,
    /// A ping is out, and nothing has come since.
    pub(crate) pinged: bool,
    /// It has subscribed at least once.
    pub(crate) subscribed_once: bool,
    /// Its socket is full; a `Writable` event is awaited.
    pub(crate) blocked: bool,
    /// It is in the worker's list of sessions to be served (`Worker::ready`).
    pub(crate) dirty: bool,
    /// Its client has ended its own side: no request will follow.
    pub(crate) has_ended: bool,
}

impl Session {
    /// The state of an index without a session.
    pub(crate) fn new() -> Self {
        Self {
            inbound: Inbound::new(),
            extra: None,
            links: Links::UNLINKED,
            set: Set::NONE,
            member: NOT_MEMBER,
            received_ms: WorkerMs::default(),
            counted_second: 0,
            requests: 0,
            pieces: 0,
            peer_port: 0,
            peer_ip: [0; 16],
            state: State::Free,
            lane: Lane::Json,
            pinged: false,
            subscribed_once: false,
            blocked: false,
            dirty: false,
            has_ended: false,
        }
    }

    /// The client's address, or that of the nearest proxy which does not say whom it serves.
    pub(crate) fn peer(&self) -> SocketAddr {
        let ip = Ipv6Addr::from(self.peer_ip);
        SocketAddr::new(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4), self.peer_port)
    }

    /// A header has said who the client is.
    pub(crate) fn set_peer(&mut self, peer: SocketAddr) {
        self.peer_ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        self.peer_port = peer.port();
    }

    /// Is it behind its worker's cursor?
    pub(crate) fn is_behind(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.behind.is_some())
    }

    /// Is it current, and owed no bytes of its own?
    pub(crate) fn owes_nothing(&self) -> bool {
        self.member != NOT_MEMBER && self.extra.is_none()
    }

    /// Must a new request wait? So it must while the session is not done with what it has asked for.
    pub(crate) fn must_defer(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| extra.behind.is_some() || extra.replay.is_some() || !extra.deferred.is_empty())
    }

    /// Counts a request, ping or pong. Returns how many there were in this second.
    pub(crate) fn count_request(&mut self, now_ms: WorkerMs) -> u16 {
        self.begin_second(now_ms);
        self.requests = self.requests.saturating_add(1);
        self.requests
    }

    /// Counts the pieces of a receive. Returns how many there were in this second.
    pub(crate) fn count_pieces(&mut self, now_ms: WorkerMs, len: usize) -> u16 {
        self.begin_second(now_ms);
        let pieces = u16::try_from(len.div_ceil(PIECE_LEN)).unwrap_or(u16::MAX);
        self.pieces = self.pieces.saturating_add(pieces);
        self.pieces
    }

    fn begin_second(&mut self, now_ms: WorkerMs) {
        let second = u16::try_from(now_ms.0 / 1_000 % (1 << u16::BITS)).unwrap_or(0);
        if self.counted_second != second {
            (self.counted_second, self.requests, self.pieces) = (second, 0, 0);
        }
    }
}

/// User memory of a session that is subscribed, current and silent (invariant I7), in bytes. The engine adds its own
/// (`Engine::bytes_per_session`).
pub const fn bytes_per_idle_session() -> usize {
    bytes_in_slab() + bytes_in_group()
}

/// Its share of that in the slab.
pub const fn bytes_in_slab() -> usize {
    size_of::<Session>()
}

/// Its share of that in its group, whose list may have grown to twice what it holds.
pub const fn bytes_in_group() -> usize {
    2 * size_of::<u32>()
}

/// The session is no member: the fan-out skips it.
pub(crate) const NOT_MEMBER: u32 = u32::MAX;
/// The session is current, has a list of its own, and is owed nothing.
pub(crate) const IDLE: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(bytes_per_idle_session() <= 88, "{}", bytes_per_idle_session());
    }
}
