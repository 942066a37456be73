//! One subscriber connection, and the slab of them.
//!
//! A session is an index. What every session needs lies in [`Session`]; what only some need, for a while, hangs off it
//! in an [`Extra`], so that a session that is subscribed and owes nothing costs [`bytes_per_idle_session`] and no more.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use fanblade_ring::Lane;
use fanblade_wire::Inbound;
use fanblade_wire::frame;

use crate::directory::{Asked, Preparation, Set};
use crate::limits::{EXTRA_BYTES_KEPT, EXTRAS_POOLED_MAX, HELD_BYTES_FREE, PIECE_LEN};
use crate::protocol::Request;
use crate::selection::Selection;
use crate::timers::{Linked, Links};

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
    /// They have gone out; the peer's end is awaited.
    Lingering,
}

/// The part of a session that exists always.
pub(crate) struct Session {
    pub(crate) inbound: Inbound,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) links: Links,
    /// Its set of subscriptions.
    pub(crate) set: Set,
    /// Its place among its group's members. With a list of its own: its place in the worker's `Arena` while it is owed
    /// something there, else [`IDLE`]. [`NOT_MEMBER`] while it has no subscriptions or is behind.
    pub(crate) member: u32,
    /// Worker milliseconds of the last bytes received.
    pub(crate) received_ms: u64,
    /// Second, of some eighteen hours, in which `requests` and `pieces` were counted.
    counted_second: u16,
    requests: u16,
    pub(crate) pieces: u16,
    peer_port: u16,
    peer_ip: [u8; 16],
    pub(crate) state: State,
    pub(crate) lane: Lane,
    /// A ping is out and nothing came since.
    pub(crate) pinged: bool,
    /// It has subscribed to something at some time.
    pub(crate) subscribed_once: bool,
    /// The kernel would take nothing more; a `Writable` event is awaited.
    pub(crate) blocked: bool,
    /// It is in the worker's list of sessions with control bytes to send.
    pub(crate) dirty: bool,
    /// Its client has ended its own side: nothing more will be asked.
    pub(crate) has_ended: bool,
}

/// What a session owes or waits for. Boxed, pooled, and present only while needed.
#[derive(Default)]
pub(crate) struct Extra {
    /// The PROXY header or the upgrade request so far.
    pub(crate) head: Vec<u8>,
    /// Bytes of a PROXY header's end that have not come, and are not looked at.
    pub(crate) head_skip: usize,
    /// Bytes of `head` that were searched for its end.
    pub(crate) head_scanned: usize,
    /// The rest of a torn frame, replies, notices, replayed frames: owed before any frame of the ring.
    pub(crate) out: Vec<u8>,
    /// Bytes of `out` that the kernel has taken.
    pub(crate) out_sent: usize,
    pub(crate) behind: Option<Behind>,
    pub(crate) replay: Option<Box<Replay>>,
    /// The first place in `out` that is known to be between two frames: behind the rest of a torn one, or a handshake's
    /// answer.
    pub(crate) out_whole: usize,
    /// Requests that came while the session was behind, or that a pass has not done yet.
    pub(crate) deferred: VecDeque<Request>,
    /// Memory of these.
    pub(crate) deferred_bytes: usize,
    /// What `Sessions::held` has of it.
    counted: usize,
    /// The work ahead of the first of them, while it is under way.
    pub(crate) preparation: Option<Preparation>,
    /// It is in the worker's list of sessions whose requests wait for a later pass.
    pub(crate) is_waiting: bool,
    /// Close with this once everything owed is out (graceful stop, or the client asks nothing more).
    pub(crate) close_when_current: Option<(u16, &'static str)>,
}

/// A session that has not been given everything up to its worker's cursor.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    /// Ring index of the first update that it has not been given.
    pub(crate) next: u64,
    /// Conflatable frames of its set up to which it has been served; what came since is what it is owed. With a group:
    /// as `Group::frames_conflatable` counts them. With a list of its own: as `came` does.
    pub(crate) served: u64,
    /// Conflatable frames that it was not given, by what the fan-out meets it with.
    pub(crate) came: u64,
    /// Ring index after the last frame in `came`: two filters may lead to one frame.
    pub(crate) came_until: u64,
    /// Sequence number of the newest update that it was given before it fell behind: where a gap begins.
    pub(crate) after_seq: u64,
    /// Stretches of the ring that it never got and that have left the ring's history.
    pub(crate) lost: Vec<Lost>,
    /// Up to here the ring may hold what it has kept of them: copies of newest frames.
    pub(crate) kept_until: u64,
    /// Frames that a newer one replaced, not told yet (sessions with both modes; the others count by `served`).
    pub(crate) dropped: u64,
    /// The generation of the epoch that its client knows.
    pub(crate) generation: u32,
    /// The kernel once did not take all that was offered.
    pub(crate) is_slow: bool,
    /// Worker milliseconds when the kernel last took a byte.
    pub(crate) progress_ms: u64,
}

/// Updates `[from, to)` left the ring before this session took them.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Sequence number of the last update before `from`.
    pub(crate) after_seq: u64,
    /// Subjects of which a frame was given since: what they lost here has been told. Sorted.
    pub(crate) settled: Vec<u32>,
}

/// The answer to a subscription: told, and followed by snapshots or history, in steps.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The request's id, for the `subscribed` replies.
    pub(crate) id: Option<String>,
    pub(crate) asked: Asked,
    /// Of the subjects asked for, those below this number have been told.
    pub(crate) told_below: u32,
    /// How many of the filters that match nothing yet have been told.
    pub(crate) unmatched_told: usize,
    /// The last reply has been written.
    pub(crate) is_told: bool,
    /// Live frames begin here.
    pub(crate) until: u64,
    /// Send each subject's newest frame along with the reply.
    pub(crate) snapshot: bool,
    pub(crate) resumed: Option<Resumed>,
}

/// A subscription that goes on from a sequence number.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) seq: u64,
    /// Subjects of which nothing is missing.
    pub(crate) recovered: Selection,
    /// Ring index of the next frame of the history to be sent; the end when there is none to be sent.
    pub(crate) next: u64,
}

impl Replay {
    /// User memory that it is, in bytes; what it shares with others counts whole.
    fn bytes(&self) -> usize {
        let id = self.id.as_ref().map_or(0, String::capacity);
        let recovered = self.resumed.as_ref().map_or(0, |resumed| resumed.recovered.heap_bytes());
        size_of::<Self>() + id + self.asked.heap_bytes() + recovered
    }
}

impl Behind {
    fn heap_bytes(&self) -> usize {
        let settled: usize = self.lost.iter().map(|lost| lost.settled.capacity() * size_of::<u32>()).sum();
        self.lost.capacity() * size_of::<Lost>() + settled
    }

    /// The fan-out has met it with a frame that a newer one may replace.
    pub(crate) fn note_came(&mut self, index: u64) {
        if index >= self.came_until {
            self.came += 1;
            self.came_until = index + 1;
        }
    }
}

impl Session {
    fn new() -> Self {
        Self {
            inbound: Inbound::new(),
            extra: None,
            links: Links::UNLINKED,
            set: Set::NONE,
            member: NOT_MEMBER,
            received_ms: 0,
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

    /// It is known better now who the client is.
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

    /// Is it current, with nothing on its way to it but what the kernel has?
    pub(crate) fn owes_nothing(&self) -> bool {
        self.member != NOT_MEMBER && self.extra.is_none()
    }

    /// Must its requests wait until it is current? It is not done with what it has asked for.
    pub(crate) fn must_defer(&self) -> bool {
        self.extra
            .as_ref()
            .is_some_and(|extra| extra.behind.is_some() || extra.replay.is_some() || !extra.deferred.is_empty())
    }

    /// Counts a request, ping or pong; how many there were in this second.
    pub(crate) fn count_request(&mut self, now_ms: u64) -> u16 {
        self.begin_second(now_ms);
        self.requests = self.requests.saturating_add(1);
        self.requests
    }

    /// Counts a receive; how many pieces there were in this second.
    pub(crate) fn count_pieces(&mut self, now_ms: u64, len: usize) -> u16 {
        self.begin_second(now_ms);
        let pieces = u16::try_from(len.div_ceil(PIECE_LEN)).unwrap_or(u16::MAX);
        self.pieces = self.pieces.saturating_add(pieces);
        self.pieces
    }

    fn begin_second(&mut self, now_ms: u64) {
        let second = u16::try_from(now_ms / 1_000 % (1 << u16::BITS)).unwrap_or(0);
        if self.counted_second != second {
            (self.counted_second, self.requests, self.pieces) = (second, 0, 0);
        }
    }
}

impl Extra {
    /// Does it hold anything at all?
    fn is_idle(&self) -> bool {
        self.head.is_empty()
            && self.head_skip == 0
            && self.out.is_empty()
            && self.behind.is_none()
            && self.replay.is_none()
            && self.deferred.is_empty()
            && self.close_when_current.is_none()
    }

    /// Bytes owed before any frame of the ring.
    pub(crate) fn owed(&self) -> &[u8] {
        &self.out[self.out_sent..]
    }

    /// The kernel has taken `sent` bytes of what is owed first. Returns how many of them went beyond that.
    pub(crate) fn take_owed(&mut self, sent: usize) -> usize {
        let owed = self.owed().len();
        self.out_sent += sent.min(owed);
        if self.out_sent == self.out.len() {
            self.out.clear();
            (self.out_sent, self.out_whole) = (0, 0);
        }
        sent.saturating_sub(owed)
    }

    /// The rest of a frame that has begun to go, before anything else.
    pub(crate) fn owe_rest(&mut self, rest: &[u8]) {
        self.out.extend_from_slice(rest);
        self.out_whole = self.out.len();
    }

    /// A request waits.
    pub(crate) fn defer(&mut self, request: Request) {
        self.deferred_bytes += request.bytes();
        self.deferred.push_back(request);
    }

    /// The request that has waited longest.
    pub(crate) fn take_deferred(&mut self) -> Option<Request> {
        let request = self.deferred.pop_front()?;
        self.deferred_bytes -= request.bytes();
        Some(request)
    }

    /// Nothing that was asked for is answered any more.
    pub(crate) fn forget_requests(&mut self) {
        self.replay = None;
        self.deferred = VecDeque::new();
        self.deferred_bytes = 0;
    }

    /// The next place from `out_sent` on that is between two frames.
    fn next_boundary(&self) -> usize {
        let mut place = self.out_whole;
        while place < self.out_sent {
            place += frame::server_frame_len(&self.out[place..]).unwrap_or(self.out.len() - place);
        }
        place
    }

    /// Of what is owed, only the rest of the frame that has begun to go: the peer is to find the next one.
    pub(crate) fn forget_whole_frames(&mut self) {
        self.out.truncate(self.next_boundary());
        self.give_back();
    }

    /// What the kernel has taken goes, once it is half of the buffer; so does memory that is not needed.
    pub(crate) fn give_back(&mut self) {
        if self.out_sent > self.out.len() / 2 {
            self.out_whole = self.next_boundary() - self.out_sent;
            self.out.drain(..self.out_sent);
            self.out_sent = 0;
        }
        self.out.shrink_to((2 * self.out.len()).max(EXTRA_BYTES_KEPT));
    }

    /// User memory that it is, in bytes.
    fn bytes(&self) -> usize {
        let replay = self.replay.as_ref().map_or(0, |replay| replay.bytes());
        let lost = self.behind.as_ref().map_or(0, Behind::heap_bytes);
        let texts = self.head.capacity() + self.out.capacity();
        size_of::<Extra>() + texts + self.deferred_bytes + replay + lost
    }

    fn clear(&mut self) {
        self.head.clear();
        self.head.shrink_to(EXTRA_BYTES_KEPT);
        self.head_skip = 0;
        self.head_scanned = 0;
        self.out.clear();
        self.out.shrink_to(EXTRA_BYTES_KEPT);
        self.out_sent = 0;
        self.behind = None;
        self.counted = 0;
        self.out_whole = 0;
        self.forget_requests();
        debug_assert!(self.preparation.is_none(), "it holds filters");
        self.is_waiting = false;
        self.close_when_current = None;
    }
}

/// All sessions of a worker, found by index; memory grows by chunks and is never moved.
#[derive(Default)]
pub(crate) struct Sessions {
    chunks: Vec<Option<Box<[Session]>>>,
    #[expect(
        clippy::vec_box,
        reason = "a box moves between the pool and its session; unboxing would copy and allocate"
    )]
    pool: Vec<Box<Extra>>,
    open: u32,
    /// Bytes that hang off all of them, without the first [`HELD_BYTES_FREE`] of each.
    held: usize,
}

impl Sessions {
    /// How many sessions there are.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// Bytes that hang off all of them, as far as they are beyond what is free.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The same of one.
    pub(crate) fn held_by(&mut self, index: u32) -> usize {
        let Some(session) = self.find(index) else { return 0 };
        excess(session.inbound.heap_bytes()) + session.extra.as_ref().map_or(0, |extra| extra.counted)
    }

    /// Brings the count of what a session holds up to date. Whoever may have changed that calls it.
    pub(crate) fn weigh(&mut self, index: u32) {
        let Some(extra) = self.find(index).and_then(|session| session.extra.as_deref_mut()) else { return };
        let now = excess(extra.bytes());
        let before = std::mem::replace(&mut extra.counted, now);
        self.held = self.held + now - before;
    }

    /// Lends what is half here of a session's requests.
    pub(crate) fn take_inbound(&mut self, index: u32) -> Inbound {
        let inbound = self.find(index).map(|session| std::mem::take(&mut session.inbound)).unwrap_or_default();
        self.held -= excess(inbound.heap_bytes());
        inbound
    }

    /// Gives it back, if the session is still there.
    pub(crate) fn put_inbound(&mut self, index: u32, inbound: Inbound) {
        let bytes = excess(inbound.heap_bytes());
        if let Some(session) = self.find(index) {
            session.inbound = inbound;
            self.held += bytes;
        }
    }

    /// Begins a session at the index that the engine chose.
    pub(crate) fn begin(&mut self, index: u32, peer: SocketAddr, now_ms: u64) -> &mut Session {
        let chunk = index as usize / CHUNK;
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let sessions =
            self.chunks[chunk].get_or_insert_with(|| (0..CHUNK).map(|_| Session::new()).collect::<Vec<_>>().into());
        let session = &mut sessions[index as usize % CHUNK];
        debug_assert_eq!(session.state, State::Free, "the engine gave an index that is in use");
        self.open += 1;
        session.state = State::Handshake;
        session.received_ms = now_ms;
        session.set_peer(peer);
        session
    }

    /// The session at `index`, if there is one.
    pub(crate) fn find(&mut self, index: u32) -> Option<&mut Session> {
        let session = self.chunks.get_mut(index as usize / CHUNK)?.as_mut()?.get_mut(index as usize % CHUNK)?;
        (session.state != State::Free).then_some(session)
    }

    /// Ends it. It must be out of its group and out of the wheel.
    pub(crate) fn end(&mut self, index: u32) {
        let Some(session) = self.find(index) else { return };
        debug_assert!(session.set == Set::NONE && session.links == Links::UNLINKED, "a session ended while listed");
        let Session { inbound, extra, .. } = std::mem::replace(session, Session::new());
        self.open -= 1;
        self.held -= excess(inbound.heap_bytes());
        if let Some(extra) = extra {
            self.recycle(extra);
        }
    }

    /// The session's extra, made if there is none.
    pub(crate) fn extra(&mut self, index: u32) -> Option<&mut Extra> {
        if self.find(index)?.extra.is_none() {
            let fresh = self.pool.pop().unwrap_or_default();
            self.find(index)?.extra = Some(fresh);
        }
        self.find(index)?.extra.as_deref_mut()
    }

    /// Takes the extra back if it holds nothing.
    pub(crate) fn tidy(&mut self, index: u32) {
        let Some(session) = self.find(index) else { return };
        if session.extra.as_ref().is_some_and(|extra| extra.is_idle())
            && let Some(extra) = session.extra.take()
        {
            self.recycle(extra);
        }
    }

    /// Indices of all sessions.
    pub(crate) fn indices(&self) -> Vec<u32> {
        let mut indices = Vec::with_capacity(self.open as usize);
        for (chunk, sessions) in self.chunks.iter().enumerate() {
            for (place, session) in sessions.iter().flatten().enumerate() {
                if session.state != State::Free {
                    indices.push(u32::try_from(chunk * CHUNK + place).unwrap_or(u32::MAX));
                }
            }
        }
        indices
    }

    fn recycle(&mut self, mut extra: Box<Extra>) {
        self.held -= extra.counted;
        if self.pool.len() < EXTRAS_POOLED_MAX {
            extra.clear();
            self.pool.push(extra);
        }
    }
}

impl Linked for Sessions {
    fn links(&mut self, index: u32) -> &mut Links {
        let session =
            self.chunks[index as usize / CHUNK].as_mut().map(|sessions| &mut sessions[index as usize % CHUNK]);
        &mut session.expect("the wheel holds sessions that exist").links
    }
}

/// What of it is not free.
fn excess(bytes: usize) -> usize {
    bytes.saturating_sub(HELD_BYTES_FREE)
}

/// User memory of a session that is subscribed, current and silent (invariant I7), in bytes. The engine adds its own
/// (`Engine::bytes_per_session`).
pub const fn bytes_per_idle_session() -> usize {
    bytes_in_slab() + bytes_in_group()
}

/// Its place in the slab.
pub const fn bytes_in_slab() -> usize {
    size_of::<Session>()
}

/// Its place in its group, whose list may have grown to twice what it holds.
pub const fn bytes_in_group() -> usize {
    2 * size_of::<u32>()
}

/// Not among its group's members.
pub(crate) const NOT_MEMBER: u32 = u32::MAX;
/// Current, with a list of its own, and owed nothing.
pub(crate) const IDLE: u32 = u32::MAX - 1;
/// Sessions in one chunk of the slab.
const CHUNK: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(bytes_per_idle_session() <= 88, "{}", bytes_per_idle_session());
    }

    #[test]
    fn extras_are_pooled() {
        let mut sessions = Sessions::default();
        sessions.begin(5_000, "127.0.0.1:80".parse().unwrap(), 0);
        assert_eq!(sessions.find(5_000).unwrap().peer().to_string(), "127.0.0.1:80");
        sessions.extra(5_000).unwrap().out.extend_from_slice(b"x");
        sessions.tidy(5_000);
        assert!(sessions.find(5_000).unwrap().extra.is_some());
        sessions.extra(5_000).unwrap().out.clear();
        sessions.tidy(5_000);
        assert!(sessions.find(5_000).unwrap().extra.is_none());
        assert_eq!(sessions.pool.len(), 1);
        sessions.end(5_000);
        assert_eq!(sessions.open(), 0);
        assert!(sessions.find(5_000).is_none());
    }
}
