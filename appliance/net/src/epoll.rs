//! The epoll engine: one `send` or `sendmsg` per session, one descriptor per session. It serves where io_uring is
//! forbidden or old.
//!
//! Every socket is registered once, edge-triggered, for everything. Each edge is remembered in the session's flags
//! until it has been used up, so that none is lost by arriving early: before [`Engine::want_writable`], while reading
//! is paused, or when the session's share of a poll is used up.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::accepting::{AcceptError, Accepting};
use crate::engine::{Counters, Engine, EngineConfig, Event, FlushStats, IoSlices, SessionId, Unsent};
use crate::error::NetError;
use crate::limits::{
    ACCEPTS_PER_POLL_MAX, EPOLL_EVENTS_MAX, EVENTS_PER_POLL_MAX, POLL_RECEIVE_BYTES_MAX, RECEIVE_LEN_MAX,
};
use crate::listen::Listener;
use crate::sys;

/// Makes an epoll engine that accepts from `listener`.
pub fn epoll(listener: Listener, config: &EngineConfig<'_>) -> Result<Box<dyn Engine>, NetError> {
    if config.sessions_max == 0 || config.sessions_max > u32::MAX as usize / 2 {
        return Err(NetError::Config("sessions_max of an engine must lie between 1 and 2^31"));
    }
    let failed = |errno: nix::Error| NetError::Epoll(errno.into());
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
    // Level-triggered, so that what a poll's budget leaves over is reported again.
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).map_err(failed)?;
    let waker = config.waker.map(|waker| waker.try_clone_to_owned()).transpose().map_err(NetError::Epoll)?;
    if let Some(waker) = &waker {
        epoll.add(waker, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WAKER)).map_err(failed)?;
    }
    Ok(Box::new(EpollEngine {
        epoll,
        listener,
        listener_armed: true,
        accepting: Accepting::default(),
        _waker: waker,
        // Reserved, not touched: pages become resident as sessions come.
        slots: Vec::with_capacity(config.sessions_max),
        free: Vec::with_capacity(config.sessions_max),
        sessions_max: config.sessions_max,
        ready: VecDeque::new(),
        detached: Vec::new(),
        bytes_left: 0,
        unsent: Vec::new(),
        stats: FlushStats::default(),
        events: vec![EpollEvent::empty(); EPOLL_EVENTS_MAX],
        buffer: vec![0; RECEIVE_LEN_MAX].into_boxed_slice(),
        counters: Counters::default(),
    }))
}

struct EpollEngine {
    epoll: Epoll,
    listener: Listener,
    /// Whether the listener is registered for EPOLLIN.
    listener_armed: bool,
    accepting: Accepting,
    /// Held so that it stays in the epoll set.
    _waker: Option<OwnedFd>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    sessions_max: usize,
    /// Sessions that the next poll looks at even without an edge of their own.
    ready: VecDeque<(SessionId, u16)>,
    /// Sockets to report as given away.
    detached: Vec<(SessionId, io::Result<OwnedFd>)>,
    /// Bytes that this poll may still receive.
    bytes_left: usize,
    unsent: Vec<Unsent>,
    stats: FlushStats,
    events: Vec<EpollEvent>,
    buffer: Box<[u8]>,
    counters: Counters,
}

/// A session: 8 bytes.
struct Slot {
    fd: Option<OwnedFd>,
    /// Tells this session's events from those of the slot's previous one.
    generation: u16,
    flags: u8,
}

/// An edge says that the socket takes bytes, and no send has come back short since.
const WRITABLE: u8 = 1 << 0;
/// The worker waits for the socket to take bytes.
const WANTS_WRITABLE: u8 = 1 << 1;
/// An edge says that there is something to read, and no read has come back short since.
const READABLE: u8 = 1 << 2;
/// The end is in sight: a short read does not mean that the next would block.
const HANGUP: u8 = 1 << 3;
/// The worker wants nothing to read.
const PAUSED: u8 = 1 << 4;
/// The session is in `ready`.
const QUEUED: u8 = 1 << 5;
/// [`Event::Closed`] has been reported.
const ENDED: u8 = 1 << 6;
/// The session's socket has been given away, and the id is kept.
const DETACHED: u8 = 1 << 7;

/// What an event of the kernel's is about: one of these two, or a session.
const LISTENER: u64 = u64::MAX;
const WAKER: u64 = u64::MAX - 1;

/// A session in an event, with its slot's generation, so that an event of a predecessor is known.
fn join(session: SessionId, generation: u16) -> u64 {
    u64::from(generation) << 32 | u64::from(session.0)
}

fn split(data: u64) -> (SessionId, u16) {
    (SessionId((data & 0xffff_ffff) as u32), (data >> 32 & 0xffff) as u16)
}

impl Engine for EpollEngine {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        self.arm_listener()?;
        let is_idle = self.ready.is_empty() && self.detached.is_empty();
        let timeout = if is_idle { self.accepting.cut(timeout) } else { Some(Duration::ZERO) };
        let mut count = self.wait(timeout)?;
        for (session, socket) in self.detached.drain(..) {
            sink(Event::Detached { session, socket });
        }
        self.bytes_left = POLL_RECEIVE_BYTES_MAX;
        // What is queued from here on is for the next poll. A session for which no bytes are left keeps its place.
        for _ in 0..self.ready.len() {
            if self.bytes_left == 0 {
                break;
            }
            let Some((session, generation)) = self.ready.pop_front() else { break };
            self.advance(session, generation, 0, sink);
        }
        let (mut left, mut has_accepted) = (EVENTS_PER_POLL_MAX, false);
        loop {
            for at in 0..count {
                let event = self.events[at];
                match event.data() {
                    LISTENER if has_accepted => {}
                    LISTENER => {
                        self.accept(sink)?;
                        has_accepted = true;
                    }
                    WAKER => sink(Event::Woken),
                    data => {
                        let (session, generation) = split(data);
                        self.advance(session, generation, edges(event.events()), sink);
                    }
                }
            }
            left = left.saturating_sub(count);
            if count < self.events.len() || left == 0 {
                let is_cut = left == 0 || (self.bytes_left == 0 && !self.ready.is_empty());
                self.counters.polls_cut += u64::from(is_cut);
                return Ok(());
            }
            count = self.wait(Some(Duration::ZERO))?;
        }
    }

    fn send(&mut self, session: SessionId, slices: &IoSlices) {
        let Some(slot) = self.slots.get_mut(session.index()) else { return };
        let Some(fd) = &slot.fd else { return };
        if slices.is_empty() {
            return;
        }
        self.stats.sends += 1;
        let (sent, error) = match sys::send(fd.as_fd(), slices.iovecs()) {
            Ok(sent) if sent == slices.len_total() => {
                self.stats.bytes += sent as u64;
                return;
            }
            Ok(sent) => (sent, None),
            Err(libc::EAGAIN) => (0, None),
            Err(errno) => (0, Some(errno)),
        };
        // The edge that ends this has not been seen yet: edges are taken in `poll` only.
        slot.flags &= !WRITABLE;
        self.stats.bytes += sent as u64;
        self.stats.unsent += 1;
        self.unsent.push(Unsent { session, sent, error });
    }

    fn flush(&mut self, sink: &mut dyn FnMut(Unsent)) -> io::Result<FlushStats> {
        self.unsent.drain(..).for_each(sink);
        Ok(std::mem::take(&mut self.stats))
    }

    fn want_writable(&mut self, session: SessionId) {
        let Some(slot) = self.open_slot(session) else { return };
        slot.flags |= WANTS_WRITABLE;
        if slot.flags & WRITABLE != 0 {
            self.queue(session);
        }
    }

    fn pause_reading(&mut self, session: SessionId) {
        if let Some(slot) = self.open_slot(session) {
            slot.flags |= PAUSED;
        }
    }

    fn resume_reading(&mut self, session: SessionId) {
        let Some(slot) = self.open_slot(session) else { return };
        slot.flags &= !PAUSED;
        if slot.flags & READABLE != 0 {
            self.queue(session);
        }
    }

    fn shutdown_write(&mut self, session: SessionId) {
        if let Some(fd) = self.open_slot(session).and_then(|slot| slot.fd.as_ref()) {
            sys::shutdown_write(fd.as_fd());
        }
    }

    fn detach(&mut self, session: SessionId) {
        let Some(slot) = self.slots.get_mut(session.index()).filter(|slot| slot.flags & ENDED == 0) else { return };
        let Some(fd) = slot.fd.take() else { return };
        match self.epoll.delete(&fd) {
            Ok(()) => {
                // What epoll has reported of it already, and the next poll's look, are of a predecessor now.
                slot.generation = slot.generation.wrapping_add(1);
                slot.flags = DETACHED;
                self.detached.push((session, Ok(fd)));
            }
            Err(errno) => {
                slot.fd = Some(fd);
                self.detached.push((session, Err(errno.into())));
            }
        }
    }

    fn attach(&mut self, session: SessionId, socket: OwnedFd) -> io::Result<()> {
        let slot = self.slots.get_mut(session.index()).filter(|slot| slot.flags & DETACHED != 0);
        let slot = slot.ok_or(io::ErrorKind::InvalidInput)?;
        self.epoll.add(&socket, EpollEvent::new(SESSION_EVENTS, join(session, slot.generation)))?;
        (slot.fd, slot.flags) = (Some(socket), 0);
        Ok(())
    }

    fn close(&mut self, session: SessionId) {
        let is_open = |slot: &&mut Slot| slot.fd.is_some() || slot.flags & DETACHED != 0;
        let Some(slot) = self.slots.get_mut(session.index()).filter(is_open) else { return };
        (slot.fd, slot.flags) = (None, 0);
        self.detached.retain(|(other, _)| *other != session);
        let slot = &mut self.slots[session.index()];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(session.0);
        self.accepting.unpark();
    }

    fn pause_accepting(&mut self) {
        self.accepting.pause();
    }

    fn resume_accepting(&mut self) {
        self.accepting.resume();
    }

    fn capacity(&self) -> usize {
        self.sessions_max
    }

    fn sessions(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn bytes_per_session(&self) -> usize {
        let shared = self.buffer.len() + size_of_val(&self.events[..]);
        size_of::<Slot>() + size_of::<u32>() + size_of::<(SessionId, u16)>() + shared.div_ceil(self.sessions_max)
    }

    fn counters(&self) -> Counters {
        Counters { is_parked: self.accepting.is_parked(), ..self.counters }
    }
}

impl EpollEngine {
    /// Waits, and returns how many events there are.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self.epoll.wait(&mut self.events, to_epoll(timeout)) {
            Ok(count) => Ok(count),
            Err(nix::Error::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_slot(&mut self, session: SessionId) -> Option<&mut Slot> {
        self.slots.get_mut(session.index()).filter(|slot| slot.fd.is_some())
    }

    /// Has the next poll look at a session.
    fn queue(&mut self, session: SessionId) {
        let slot = &mut self.slots[session.index()];
        if slot.flags & QUEUED == 0 {
            slot.flags |= QUEUED;
            self.ready.push_back((session, slot.generation));
        }
    }

    /// Takes note of new edges, and reports what the flags then allow: at most one Writable and one Received.
    fn advance(&mut self, session: SessionId, generation: u16, edges: u8, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(slot) = self.slots.get_mut(session.index()) else { return };
        let Some(fd) = slot.fd.as_ref().filter(|_| slot.generation == generation) else { return };
        // Without an edge it comes from the queue, and has left it.
        if edges == 0 {
            slot.flags &= !QUEUED;
        }
        slot.flags |= edges;
        // Room is told once, to who asked for it.
        if slot.flags & (WRITABLE | WANTS_WRITABLE) == WRITABLE | WANTS_WRITABLE {
            slot.flags &= !WANTS_WRITABLE;
            sink(Event::Writable { session });
        }
        // A queued session has had its share of this poll, or has its turn in the next.
        if slot.flags & READABLE == 0 || slot.flags & (PAUSED | ENDED | QUEUED) != 0 {
            return;
        }
        if self.bytes_left == 0 {
            return self.queue(session);
        }
        // One receive. A full one, or an end in sight, means that there may be more: the next poll looks again.
        match sys::receive(fd.as_fd(), &mut self.buffer) {
            Ok(0) => {
                slot.flags |= ENDED;
                sink(Event::Closed { session, error: None });
            }
            Ok(len) => {
                let is_full = len == self.buffer.len();
                let more = is_full || slot.flags & HANGUP != 0;
                self.counters.received_bytes += len as u64;
                self.counters.receive_requeued += u64::from(is_full);
                self.bytes_left = self.bytes_left.saturating_sub(len);
                sink(Event::Received { session, bytes: &mut self.buffer[..len] });
                if more {
                    self.queue(session);
                } else {
                    slot.flags &= !READABLE;
                }
            }
            Err(libc::EAGAIN) => slot.flags &= !READABLE,
            Err(libc::EINTR) => self.queue(session),
            Err(errno) => {
                slot.flags |= ENDED;
                sink(Event::Closed { session, error: Some(errno) });
            }
        }
    }

    fn accept(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_POLL_MAX {
            if self.sessions() == self.sessions_max || !self.accepting.is_open() {
                break;
            }
            let (fd, peer) = match sys::accept(self.listener.as_fd()) {
                Ok(accepted) => accepted,
                Err(error) => match AcceptError::of(error.raw_os_error().unwrap_or(libc::EIO)) {
                    AcceptError::Empty => break,
                    AcceptError::Connection => {
                        self.counters.accept_failed += 1;
                        continue;
                    }
                    AcceptError::Resources => {
                        self.counters.accept_parked += 1;
                        self.accepting.park();
                        break;
                    }
                    AcceptError::Listener => return Err(error),
                },
            };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "fewer than `sessions_max`, which `epoll` has looked at"
            )]
            let session = SessionId(self.free.pop().unwrap_or(self.slots.len() as u32));
            if session.index() == self.slots.len() {
                self.slots.push(Slot { fd: None, generation: 0, flags: 0 });
            }
            let slot = &mut self.slots[session.index()];
            let data = join(session, slot.generation);
            // Fails only where the kernel has no memory for the item, or no watch left (fs.epoll.max_user_watches).
            if self.epoll.add(&fd, EpollEvent::new(SESSION_EVENTS, data)).is_err() {
                self.free.push(session.0);
                self.counters.accept_failed += 1;
                continue;
            }
            slot.fd = Some(fd);
            slot.flags = 0;
            self.counters.accepted += 1;
            sink(Event::Accepted { session, peer });
        }
        Ok(())
    }

    /// Registers the listener if and only if a connection could be taken.
    fn arm_listener(&mut self) -> io::Result<()> {
        let arm = self.accepting.is_open() && self.sessions() < self.sessions_max;
        if arm != self.listener_armed {
            let events = if arm { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            self.epoll.modify(&self.listener, &mut EpollEvent::new(events, LISTENER))?;
            self.listener_armed = arm;
        }
        Ok(())
    }
}

const SESSION_EVENTS: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLOUT).union(EpollFlags::EPOLLRDHUP).union(EpollFlags::EPOLLET);

/// The flags that an edge sets.
fn edges(events: EpollFlags) -> u8 {
    let mut flags = 0;
    if events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
        flags |= READABLE | HANGUP;
    }
    if events.contains(EpollFlags::EPOLLIN) {
        flags |= READABLE;
    }
    // A failed socket is writable too: the send then says what has failed.
    if events.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
        flags |= WRITABLE;
    }
    flags
}

/// In milliseconds, rounded up so that a timer is due when the wait for it ends.
fn to_epoll(timeout: Option<Duration>) -> EpollTimeout {
    timeout.map_or(EpollTimeout::NONE, |timeout| {
        let ms = timeout.as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_8_bytes() {
        assert_eq!(size_of::<Slot>(), 8);
    }

    #[test]
    fn timeouts_are_rounded_up() {
        assert_eq!(to_epoll(Some(Duration::ZERO)), EpollTimeout::ZERO);
        assert_eq!(to_epoll(Some(Duration::from_micros(1001))), EpollTimeout::from(2u16));
        assert_eq!(to_epoll(None), EpollTimeout::NONE);
    }
}
