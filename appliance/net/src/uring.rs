//! The io_uring engine: sends in batches, sessions as direct descriptors.
//!
//! **Several rings.** A ring's table of direct descriptors has at most RLIMIT_NOFILE entries, but each ring has its
//! own, so that a process limited to 20,000 descriptors serves millions of sessions. A further ring is made when the
//! others are full: it costs some 600 KiB of memory. A session's id is ring × slots + slot.
//!
//! **Single issuer, deferred completion work.** Everything that happens to a session is handled when the worker asks,
//! in the worker's thread, and interrupts nothing.
//!
//! **Sends** are SEND (one slice) or SENDMSG with MSG_DONTWAIT, so that each completes while it is submitted and no
//! frame is read from memory after the pass.
//!
//! **Restrictions.** A ring accepts only the requests that the engine makes: what a thread asks of a ring passes no
//! filter of system calls.
//!
//! **Waiting** is done in ring 0. The others report to it by an eventfd, which is armed only while the thread sleeps.

mod accept;
mod buffers;
mod ring;
mod send;
mod sys;
mod word;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::accepting::Accepting;
use crate::engine::{Counters, Engine, EngineConfig, Event, FlushStats, IoSlices, SessionId, Unsent};
use crate::error::NetError;
use crate::limits::{ACCEPT_LOOK_MS, EVENTS_PER_POLL_MAX, POLL_RECEIVE_BYTES_MAX, URING_ACCEPTS_MAX, URING_SLOTS_MAX};
use crate::listen::Listener;
use crate::rlimit;
use ring::{Context, Ring};

/// Makes an io_uring engine that accepts from `listener`. Call it in the thread that will use the engine.
pub fn uring(listener: Listener, config: &EngineConfig<'_>) -> Result<Box<dyn Engine>, NetError> {
    if config.sessions_max == 0 || config.sessions_max > u32::MAX as usize / 2 {
        return Err(NetError::Config("sessions_max of an engine must lie between 1 and 2^31"));
    }
    let failed = |what| move |source| NetError::Uring { what, source };
    // Old kernels do not wait for a connection on a listener that does not block.
    fcntl(&listener, FcntlArg::F_SETFL(OFlag::empty())).map_err(|errno| failed("listener")(errno.into()))?;
    let waker = config.waker.map(|waker| waker.try_clone_to_owned()).transpose().map_err(failed("waker"))?;
    let mut engine = Uring {
        listener,
        waker,
        other_rings: None,
        rings: Vec::new(),
        slots_per_ring: slots_per_ring()?,
        sessions_max: config.sessions_max,
        accepting: Accepting::default(),
        listener_looked_at: Instant::now(),
        counters: Counters::default(),
    };
    engine.add_ring()?;
    if let Some(waker) = &engine.waker {
        engine.rings[0].watch_waker(waker.as_fd());
    }
    Ok(Box::new(engine))
}

/// Whether [`uring()`] would work here; if not, the error says why.
pub fn uring_probe() -> Result<(), NetError> {
    Ring::new(0, 1).map(drop)
}

/// User memory that the engine holds for each of `sessions_max` sessions when all of them are open, in bytes, where a
/// process may have `descriptors` descriptors ([`Engine::bytes_per_session`] of such an engine).
#[must_use]
pub fn uring_bytes_per_session(sessions_max: usize, descriptors: u64) -> usize {
    bytes_per_session(sessions_max.max(1), slots_within(descriptors))
}

fn bytes_per_session(sessions_max: usize, slots_per_ring: usize) -> usize {
    let (session, ring) = Ring::bytes();
    let rings = sessions_max.div_ceil(slots_per_ring);
    session + (rings * ring).div_ceil(sessions_max)
}

struct Uring {
    rings: Vec<Ring>,
    listener: Listener,
    waker: Option<OwnedFd>,
    /// Written when a ring other than the first has work and the thread sleeps in the first.
    other_rings: Option<EventFd>,
    /// A power of two.
    slots_per_ring: usize,
    sessions_max: usize,
    accepting: Accepting,
    listener_looked_at: Instant,
    counters: Counters,
}

impl Engine for Uring {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn may_make_rings(&self) -> bool {
        self.slots_per_ring < self.sessions_max
    }

    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        self.look_at_listener();
        self.accept_more();
        self.rings.iter_mut().for_each(Ring::begin_poll);
        let bytes_end = self.counters.received_bytes + POLL_RECEIVE_BYTES_MAX as u64;
        let Uring { rings, counters, .. } = self;
        let [first, others @ ..] = &mut rings[..] else { return Ok(()) };
        // Only the first ring is waited in. The others have their turn before the wait.
        for ring in &mut *others {
            ring.turn(Some(Duration::ZERO), counters)?;
        }
        // No wait while there is something to report. Else the others ring a bell that the first one hears.
        let mut timeout = self.accepting.cut(timeout);
        if first.has_pending() || others.iter_mut().any(Ring::has_work) {
            timeout = Some(Duration::ZERO);
        } else if timeout != Some(Duration::ZERO) && !others.is_empty() {
            others.iter_mut().for_each(|ring| ring.notify(true));
            // Either the kernel sees that it is to notify, or we see its work: each side writes before it reads.
            fence(Ordering::SeqCst);
            if others.iter_mut().any(Ring::has_work) {
                timeout = Some(Duration::ZERO);
            }
        }
        first.turn(timeout, counters)?;
        // After a wait the others may have work.
        if timeout != Some(Duration::ZERO) {
            for ring in others {
                ring.notify(false);
                ring.turn(Some(Duration::ZERO), counters)?;
            }
        }
        // Report until the poll's share is used up, and have more received as long as there is more.
        // The kernel runs some twenty receives of a ring and then returns. Sessions that were accepted together share a
        // ring, and may all say something at once.
        let mut left = EVENTS_PER_POLL_MAX;
        loop {
            left = left.saturating_sub(self.report(sink)?);
            if left == 0 || self.counters.received_bytes >= bytes_end {
                self.counters.polls_cut += u64::from(self.rings.iter_mut().any(Ring::has_received));
                return Ok(());
            }
            if !self.turn_what_is_left()? {
                return Ok(());
            }
        }
    }

    fn send(&mut self, session: SessionId, slices: &IoSlices) {
        if let Some(ring) = self.ring(session) {
            ring.send(session, slices);
        }
    }

    fn flush(&mut self, sink: &mut dyn FnMut(Unsent)) -> io::Result<FlushStats> {
        let mut stats = FlushStats::default();
        for ring in &mut self.rings {
            ring.flush(&mut stats, &mut self.counters, sink)?;
        }
        Ok(stats)
    }

    fn want_writable(&mut self, session: SessionId) {
        if let Some(ring) = self.ring(session) {
            ring.want_writable(session);
        }
    }

    fn pause_reading(&mut self, session: SessionId) {
        if let Some(ring) = self.ring(session) {
            ring.pause_reading(session);
        }
    }

    fn resume_reading(&mut self, session: SessionId) {
        if let Some(ring) = self.ring(session) {
            ring.resume_reading(session);
        }
    }

    fn shutdown_write(&mut self, session: SessionId) {
        if let Some(ring) = self.ring(session) {
            ring.shutdown_write(session);
        }
    }

    fn close(&mut self, session: SessionId) {
        if self.ring(session).is_some_and(|ring| ring.close(session)) {
            self.accepting.unpark();
        }
    }

    fn detach(&mut self, session: SessionId) {
        if let Some(ring) = self.ring(session) {
            ring.detach(session);
        }
    }

    fn attach(&mut self, session: SessionId, socket: OwnedFd) -> io::Result<()> {
        self.ring(session).ok_or(io::ErrorKind::InvalidInput)?.attach(session, socket.as_fd())
    }

    fn pause_accepting(&mut self) {
        self.accepting.pause();
        self.rings.iter_mut().for_each(Ring::cancel_accepts);
    }

    fn resume_accepting(&mut self) {
        self.accepting.resume();
    }

    fn capacity(&self) -> usize {
        self.sessions_max
    }

    fn sessions(&self) -> usize {
        self.rings.iter().map(Ring::sessions).sum()
    }

    fn bytes_per_session(&self) -> usize {
        bytes_per_session(self.sessions_max, self.slots_per_ring)
    }

    fn counters(&self) -> Counters {
        Counters { rings: self.rings.len() as u64, is_parked: self.accepting.is_parked(), ..self.counters }
    }
}

impl Uring {
    fn ring(&mut self, session: SessionId) -> Option<&mut Ring> {
        self.rings.get_mut(session.index() / self.slots_per_ring)
    }

    /// Gives the rings that have received more one more turn; `false`: there are none.
    fn turn_what_is_left(&mut self) -> io::Result<bool> {
        let mut is_any = false;
        for ring in &mut self.rings {
            if ring.has_received() {
                ring.turn(Some(Duration::ZERO), &mut self.counters)?;
                is_any |= ring.has_pending();
            }
        }
        Ok(is_any)
    }

    /// Reports what has completed, and returns how many completions that were.
    fn report(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<usize> {
        let mut context = Context {
            sink,
            counters: &mut self.counters,
            waker: self.waker.as_ref().map(AsFd::as_fd),
            other_rings: self.other_rings.as_ref().map(AsFd::as_fd),
            park: false,
        };
        let mut count = 0;
        for ring in &mut self.rings {
            count += ring.report(&mut context)?;
        }
        if context.park {
            self.accepting.park();
        }
        Ok(count)
    }

    /// Begins the accepts anew if connections wait although accepts are under way.
    ///
    /// The kernel tells of a connection one of the accepts that wait at a listener, and an accept that is told tries
    /// again. If that was an accept of an engine that is gone (a worker has panicked, and this is the engine of its
    /// replacement), nobody would take the connection until the next one comes.
    fn look_at_listener(&mut self) {
        if self.listener_looked_at.elapsed() < Duration::from_millis(ACCEPT_LOOK_MS) {
            return;
        }
        self.listener_looked_at = Instant::now();
        let mut listener = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let waits = nix::poll::poll(&mut listener, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if waits && self.accepting.is_open() && self.rings.iter().any(|ring| ring.accepts_outstanding() > 0) {
            self.counters.accepts_renewed += 1;
            self.rings.iter_mut().for_each(Ring::cancel_accepts);
        }
    }

    /// Keeps accepts under way, in the lowest ring that has slots.
    fn accept_more(&mut self) {
        if !self.accepting.is_open() {
            return;
        }
        let outstanding: usize = self.rings.iter().map(Ring::accepts_outstanding).sum();
        for _ in outstanding..URING_ACCEPTS_MAX {
            let listener = self.listener.as_fd();
            if self.rings.iter_mut().any(|ring| ring.accept(listener)) {
                continue;
            }
            if self.rings.len() * self.slots_per_ring >= self.sessions_max {
                return;
            }
            if self.add_ring().is_err() {
                self.counters.accept_parked += 1;
                self.accepting.park();
                return;
            }
        }
    }

    fn add_ring(&mut self) -> Result<(), NetError> {
        let first_id = self.rings.len() * self.slots_per_ring;
        let slots = self.slots_per_ring.min(self.sessions_max - first_id);
        #[expect(clippy::cast_possible_truncation, reason = "below `sessions_max`, which `uring` has looked at")]
        let mut ring = Ring::new(first_id as u32, slots)?;
        if let Some(first) = self.rings.first_mut() {
            let failed = |source| NetError::Uring { what: "eventfd of a further ring", source };
            if self.other_rings.is_none() {
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let eventfd = EventFd::from_flags(flags).map_err(|errno| failed(errno.into()))?;
                first.watch_other_rings(self.other_rings.insert(eventfd).as_fd());
            }
            if let Some(eventfd) = &self.other_rings {
                ring.register_eventfd(eventfd.as_fd()).map_err(failed)?;
            }
        }
        self.rings.push(ring);
        Ok(())
    }
}

/// How large a table of direct descriptors RLIMIT_NOFILE permits.
fn slots_per_ring() -> Result<usize, NetError> {
    let limit = rlimit::descriptors().map_err(|source| NetError::Uring { what: "RLIMIT_NOFILE", source })?;
    if limit == 0 {
        return Err(NetError::Config("RLIMIT_NOFILE is 0"));
    }
    Ok(slots_within(limit))
}

/// A power of two.
fn slots_within(descriptors: u64) -> usize {
    let slots = usize::try_from(descriptors).unwrap_or(usize::MAX).clamp(1, URING_SLOTS_MAX);
    1 << slots.ilog2()
}
