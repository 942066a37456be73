//! One ring with the sessions in its table of direct descriptors.
//!
//! A session is one word. Its slot is free again when the session has been closed AND every request of it has
//! completed: the close itself, the final completion of its receive, a wait for room, a half close. A slot that is free
//! has therefore nothing under way, and the generation in each request's user data only confirms it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use super::accept::Accepts;
use super::send::{Batch, Queued};
use super::sys::{Completion, Queue};
use super::word::{
    CLOSING, DETACHED, ENDED, FLAGS, INSTALLING, LEAVING, OPEN, PAUSED, RECEIVE, RECEIVES, RECEIVING, REQUESTS,
    RESTING, SHUTTING, WAITING, Word,
};
use crate::accepting::AcceptError;
use crate::engine::{Counters, Event, FlushStats, IoSlices, SessionId, Unsent};
use crate::error::NetError;
use crate::limits::{SESSION_RECEIVES_MAX, URING_SLOTS_MAX};
use crate::sys::UNSPECIFIED;

pub(super) struct Ring {
    queue: Queue,
    /// The id of the session in slot 0.
    first_id: u32,
    sessions: Vec<Word>,
    free: Vec<u16>,
    /// Slots that have received something in this poll.
    heard: Vec<u16>,
    /// A receive has found no buffer and waits to be submitted again, now that there are some.
    is_starved: bool,
    accepts: Accepts,
    batch: Batch,
    /// Completions other than those of sends; the next poll looks at them.
    pending: Vec<Completion>,
    unsent: Vec<Unsent>,
    stats: FlushStats,
    /// Sockets to report as given away, once the ring has closed its own descriptors of them.
    leaving: Vec<(u16, io::Result<OwnedFd>)>,
    /// An error of a submission that could not return it; the next call that can does.
    failure: Option<io::Error>,
}

/// What a request was for: the top byte of its user data. Below: 8 bits unused, 16 of generation, 32 of slot, number of
/// the accept, or position in the batch of sends.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Send,
    Receive,
    Accept,
    Writable,
    Shutdown,
    Close,
    Cancel,
    Waker,
    OtherRings,
    Install,
}

const KINDS: [Kind; 10] = [
    Kind::Send,
    Kind::Receive,
    Kind::Accept,
    Kind::Writable,
    Kind::Shutdown,
    Kind::Close,
    Kind::Cancel,
    Kind::Waker,
    Kind::OtherRings,
    Kind::Install,
];

fn user_data(kind: Kind, generation: u16, index: u32) -> u64 {
    (kind as u64) << 56 | u64::from(generation) << 32 | u64::from(index)
}

fn kind_of(user_data: u64) -> Option<Kind> {
    KINDS.get(usize::from(user_data.to_be_bytes()[0])).copied()
}

fn generation_of(user_data: u64) -> u16 {
    (user_data >> 32 & 0xffff) as u16
}

/// The slot, the number of the accept, or the position of the send.
fn index_of(user_data: u64) -> u32 {
    (user_data & 0xffff_ffff) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "accepts are numbered below URING_ACCEPTS_MAX")]
fn accept_data(accept: usize) -> u64 {
    user_data(Kind::Accept, 0, accept as u32)
}

/// A slot, as lists of slots hold it.
#[expect(clippy::cast_possible_truncation, reason = "below URING_SLOTS_MAX")]
fn short(slot: u32) -> u16 {
    slot as u16
}

const _: () = assert!(URING_SLOTS_MAX <= 1 << u16::BITS);

/// What the engine lends a ring for a poll.
pub(super) struct Context<'a, 'b> {
    pub(super) sink: &'a mut dyn FnMut(Event<'_>),
    pub(super) counters: &'a mut Counters,
    pub(super) waker: Option<BorrowedFd<'b>>,
    pub(super) other_rings: Option<BorrowedFd<'b>>,
    /// Set when an accept has failed for want of resources.
    pub(super) park: bool,
}

impl Ring {
    /// A ring for the sessions `first_id..first_id + slots`.
    pub(super) fn new(first_id: u32, slots: usize) -> Result<Ring, NetError> {
        // Taken from the end: the lowest slots first.
        let mut free: Vec<u16> = (0..).take(slots).collect();
        free.reverse();
        Ok(Ring {
            queue: Queue::new(slots)?,
            first_id,
            sessions: vec![Word::default(); slots],
            free,
            heard: Vec::with_capacity(slots),
            is_starved: false,
            accepts: Accepts::new(),
            batch: Batch::new(),
            pending: Vec::new(),
            unsent: Vec::new(),
            stats: FlushStats::default(),
            leaving: Vec::new(),
            failure: None,
        })
    }

    /// User memory of a session, and of a ring besides its sessions.
    pub(super) const fn bytes() -> (usize, usize) {
        let completions = crate::limits::URING_COMPLETIONS as usize * size_of::<Completion>();
        (size_of::<Word>() + 2 * size_of::<u16>(), Queue::bytes() + size_of::<Ring>() + completions)
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions.len() - self.free.len() - self.accepts.outstanding()
    }

    pub(super) fn accepts_outstanding(&self) -> usize {
        self.accepts.outstanding()
    }

    // ---- Requests ----

    /// Gives every session a whole share again, and receives again from those that had used theirs up.
    pub(super) fn begin_poll(&mut self) {
        for at in 0..self.heard.len() {
            let slot = u32::from(self.heard[at]);
            let word = &mut self.sessions[slot as usize];
            let was_resting = word.has(RESTING);
            word.clear(RESTING | RECEIVES);
            if was_resting {
                self.receive(slot);
            }
        }
        self.heard.clear();
    }

    /// Begins one more accept, if there is a slot and a number for it.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>) -> bool {
        let Some(&slot) = self.free.last() else { return false };
        let Some(accept) = self.accepts.begin(u32::from(slot)) else { return false };
        self.free.pop();
        self.make_room();
        self.queue.accept(listener, accept, u32::from(slot), accept_data(accept));
        true
    }

    pub(super) fn cancel_accepts(&mut self) {
        let numbers: Vec<usize> = self.accepts.numbers().collect();
        for accept in numbers {
            self.cancel(accept_data(accept));
        }
    }

    pub(super) fn send(&mut self, session: SessionId, slices: &IoSlices) {
        let slot = session.0 - self.first_id;
        if !self.word(slot).is_attached() || slices.is_empty() {
            return;
        }
        self.make_room();
        let queued = Queued { slot, len_total: slices.len_total() };
        if let [slice] = slices.iovecs() {
            let position = self.batch.add(queued);
            self.queue.send(slot, *slice, user_data(Kind::Send, 0, position));
        } else {
            if self.batch.is_full_for(slices) {
                self.submit_or_keep_failure();
            }
            let message = self.batch.message(slices);
            let position = self.batch.add(queued);
            self.queue.send_message(slot, message, user_data(Kind::Send, 0, position));
        }
    }

    pub(super) fn want_writable(&mut self, session: SessionId) {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if word.is_attached() && !word.has(WAITING) {
            self.sessions[slot as usize].set(WAITING);
            self.make_room();
            self.queue.poll_writable(slot, user_data(Kind::Writable, word.generation(), slot));
        }
    }

    pub(super) fn pause_reading(&mut self, session: SessionId) {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if !word.is_attached() || word.has(PAUSED) {
            return;
        }
        self.sessions[slot as usize].set(PAUSED);
        if word.has(RECEIVING) {
            self.cancel(user_data(Kind::Receive, word.generation(), slot));
        }
    }

    pub(super) fn resume_reading(&mut self, session: SessionId) {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if word.is_attached() && word.has(PAUSED) {
            self.sessions[slot as usize].clear(PAUSED);
            self.receive(slot);
        }
    }

    pub(super) fn shutdown_write(&mut self, session: SessionId) {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if word.is_attached() && !word.has(SHUTTING) {
            self.sessions[slot as usize].set(SHUTTING);
            self.make_room();
            self.queue.shutdown_write(slot, user_data(Kind::Shutdown, word.generation(), slot));
        }
    }

    pub(super) fn close(&mut self, session: SessionId) -> bool {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if !word.has(OPEN) {
            return false;
        }
        for (flag, kind) in [(RECEIVING, Kind::Receive), (WAITING, Kind::Writable)] {
            if word.has(flag) {
                self.cancel(user_data(kind, word.generation(), slot));
            }
        }
        self.sessions[slot as usize].clear(OPEN);
        self.leaving.retain(|(other, _)| *other != short(slot));
        if word.has(DETACHED) {
            // Frees the slot, unless its close is under way.
            self.completed(slot, 0);
        } else {
            self.empty(slot);
        }
        true
    }

    /// Closes what is in a slot.
    fn empty(&mut self, slot: u32) {
        let word = &mut self.sessions[slot as usize];
        word.set(CLOSING);
        let data = user_data(Kind::Close, word.generation(), slot);
        self.make_room();
        self.queue.close(slot, data);
    }

    pub(super) fn detach(&mut self, session: SessionId) {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if !word.is_attached() || word.has(ENDED) {
            return;
        }
        self.sessions[slot as usize].set(LEAVING);
        if !self.queue.can_install() {
            self.leaving.push((short(slot), Err(io::ErrorKind::Unsupported.into())));
            return;
        }
        for (flag, kind) in [(RECEIVING, Kind::Receive), (WAITING, Kind::Writable)] {
            if word.has(flag) {
                self.cancel(user_data(kind, word.generation(), slot));
            }
        }
        self.leave_if_idle(slot);
    }

    /// Has a descriptor made of a socket that is to be given away, once no request of it is under way.
    fn leave_if_idle(&mut self, slot: u32) {
        let word = self.word(slot);
        let is_leaving = word.is_live() && word.has(LEAVING) && self.queue.can_install();
        if !is_leaving || word.0 & (REQUESTS | DETACHED) != 0 {
            return;
        }
        self.make_room();
        self.queue.install(slot, user_data(Kind::Install, word.generation(), slot));
        self.sessions[slot as usize].set(INSTALLING);
    }

    /// A descriptor has been made: the ring's own goes, and then the socket is the caller's alone.
    fn installed(&mut self, slot: u32, socket: io::Result<OwnedFd>) {
        let word = self.completed(slot, INSTALLING);
        if !word.is_live() {
            return;
        }
        if socket.is_ok() {
            self.sessions[slot as usize].set(DETACHED);
            self.empty(slot);
        }
        self.leaving.push((short(slot), socket));
    }

    /// Reports the sockets that are the callers' now.
    fn report_leaving(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut count = 0;
        for _ in 0..self.leaving.len() {
            let (slot, socket) = self.leaving.swap_remove(0);
            let at = u32::from(slot);
            if self.word(at).has(CLOSING) {
                self.leaving.push((slot, socket));
                continue;
            }
            let (session, has_failed) = (self.id(at), socket.is_err());
            if has_failed {
                self.sessions[usize::from(slot)].clear(LEAVING);
                self.receive(at);
            }
            count += 1;
            sink(Event::Detached { session, socket });
            if has_failed {
                // A wait for room may have been cancelled. Who still waits tries again.
                sink(Event::Writable { session });
            }
        }
        count
    }

    pub(super) fn attach(&mut self, session: SessionId, socket: BorrowedFd<'_>) -> io::Result<()> {
        let slot = session.0 - self.first_id;
        let word = self.word(slot);
        if !word.has(OPEN | DETACHED) || word.has(CLOSING) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.queue.fill(slot, socket)?;
        self.sessions[slot as usize].clear(LEAVING | DETACHED | PAUSED | RESTING);
        self.receive(slot);
        Ok(())
    }

    pub(super) fn watch_waker(&mut self, waker: BorrowedFd<'_>) {
        self.make_room();
        self.queue.watch(waker, user_data(Kind::Waker, 0, 0));
    }

    pub(super) fn watch_other_rings(&mut self, eventfd: BorrowedFd<'_>) {
        self.make_room();
        self.queue.watch(eventfd, user_data(Kind::OtherRings, 0, 0));
    }

    /// Has the kernel write the eventfd when this ring has work, once [`Self::notify`] asks for it.
    pub(super) fn register_eventfd(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.queue.register_eventfd(eventfd)?;
        self.queue.notify(false);
        Ok(())
    }

    pub(super) fn notify(&mut self, on: bool) {
        self.queue.notify(on);
    }

    /// Starts receiving, unless it is under way, unwanted or over.
    fn receive(&mut self, slot: u32) {
        let word = self.word(slot);
        if word.is_live() && word.0 & (PAUSED | RECEIVING | RESTING | LEAVING) == 0 {
            self.sessions[slot as usize].set(RECEIVING);
            self.make_room();
            self.queue.receive(slot, user_data(Kind::Receive, word.generation(), slot));
        }
    }

    fn receive_or_leave(&mut self, slot: u32) {
        self.receive(slot);
        self.leave_if_idle(slot);
    }

    fn cancel(&mut self, target: u64) {
        self.make_room();
        self.queue.cancel(target, user_data(Kind::Cancel, 0, 0));
    }

    fn make_room(&mut self) {
        if self.queue.is_full() {
            self.submit_or_keep_failure();
        }
    }

    fn word(&self, slot: u32) -> Word {
        self.sessions.get(slot as usize).copied().unwrap_or_default()
    }

    // ---- Submission and completion ----

    /// Performs what is queued. On return no send is under way: MSG_DONTWAIT has each complete while it is submitted.
    fn submit(&mut self, counters: Option<&mut Counters>) -> io::Result<()> {
        let mut outstanding = self.batch.len();
        // Room for the completions of all that is queued; there are more entries than submissions.
        outstanding -= self.harvest();
        self.queue.submit()?;
        outstanding -= self.harvest();
        if self.queue.has_overflowed() {
            if let Some(counters) = counters {
                counters.completions_overflowed += 1;
            }
            // Earlier overflow has kept the new completions out of the queue. Each call moves a queueful.
            while outstanding > 0 && self.queue.has_overflowed() {
                self.queue.enter(Some(Duration::ZERO))?;
                outstanding -= self.harvest();
            }
        }
        assert_eq!(outstanding, 0, "a send with MSG_DONTWAIT has outlived its submission");
        self.batch.clear();
        Ok(())
    }

    fn submit_or_keep_failure(&mut self) {
        if let Err(error) = self.submit(None) {
            self.failure.get_or_insert(error);
        }
    }

    /// Empties the completion queue: sends are settled, the rest is kept. Returns how many were sends.
    fn harvest(&mut self) -> usize {
        let Ring { queue, batch, pending, unsent, stats, first_id, .. } = self;
        let mut sends = 0;
        queue.take(|completion| {
            if kind_of(completion.user_data) != Some(Kind::Send) {
                pending.push(completion);
                return;
            }
            sends += 1;
            let Some(send) = batch.send(index_of(completion.user_data)) else { return };
            let sent = usize::try_from(completion.result).unwrap_or(0);
            stats.sends += 1;
            stats.bytes += sent as u64;
            if sent != send.len_total {
                let errno = -completion.result.min(0);
                let error = (errno != 0 && errno != libc::EAGAIN).then_some(errno);
                stats.unsent += 1;
                unsent.push(Unsent { session: SessionId(*first_id + send.slot), sent, error });
            }
        });
        sends
    }

    /// Performs the queued sends and reports.
    pub(super) fn flush(
        &mut self,
        total: &mut FlushStats,
        counters: &mut Counters,
        sink: &mut dyn FnMut(Unsent),
    ) -> io::Result<()> {
        if self.batch.len() > 0 {
            self.submit(Some(counters))?;
        }
        self.unsent.drain(..).for_each(sink);
        let stats = std::mem::take(&mut self.stats);
        total.sends += stats.sends;
        total.bytes += stats.bytes;
        total.unsent += stats.unsent;
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Is there something to report already? (Requests to submit are none: the wait submits them.)
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.leaving.is_empty()
    }

    /// Is there work that need not be waited for?
    pub(super) fn has_work(&mut self) -> bool {
        self.has_pending() || self.queue.has_work()
    }

    /// Is there work besides submissions, or a session that waited for a buffer?
    pub(super) fn has_received(&mut self) -> bool {
        self.is_starved || !self.pending.is_empty() || self.queue.has_completed()
    }

    /// Submits, runs completion work, waits at most `timeout`, and collects what has completed.
    pub(super) fn turn(&mut self, timeout: Option<Duration>, counters: &mut Counters) -> io::Result<()> {
        if self.batch.len() > 0 {
            // Callers should have flushed. But no send may be lost, or outlive the pass.
            self.submit(Some(&mut *counters))?;
        }
        self.is_starved = false;
        if timeout != Some(Duration::ZERO) || self.queue.has_work() {
            if self.queue.has_overflowed() {
                counters.completions_overflowed += 1;
            }
            self.queue.enter(timeout)?;
        }
        self.harvest();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Reports what has been collected, and returns how many completions that were. Those that come meanwhile are for
    /// the next call.
    pub(super) fn report(&mut self, context: &mut Context<'_, '_>) -> io::Result<usize> {
        let count = self.pending.len();
        for at in 0..count {
            let completion = self.pending[at];
            let index = index_of(completion.user_data);
            match kind_of(completion.user_data) {
                Some(Kind::Receive) => self.received(index, completion, context),
                Some(Kind::Accept) => self.accepted(index as usize, completion, context)?,
                Some(Kind::Writable) => {
                    // This holds also where the peer has ended its side: it may still be sent to.
                    let is_open = self.completed(index, WAITING).has(OPEN);
                    if is_open && completion.result != -libc::ECANCELED {
                        (context.sink)(Event::Writable { session: self.id(index) });
                    }
                    self.leave_if_idle(index);
                }
                Some(Kind::Shutdown) => {
                    self.completed(index, SHUTTING);
                    self.leave_if_idle(index);
                }
                Some(Kind::Close) => drop(self.completed(index, CLOSING)),
                Some(Kind::Install) => self.installed(index, completion.descriptor()),
                Some(Kind::Waker) => {
                    (context.sink)(Event::Woken);
                    if let Some(waker) = context.waker.filter(|_| !completion.more()) {
                        self.watch_waker(waker);
                    }
                }
                Some(Kind::OtherRings) => {
                    if let Some(eventfd) = context.other_rings.filter(|_| !completion.more()) {
                        self.watch_other_rings(eventfd);
                    }
                }
                // The cancel came too late. Sends have been settled.
                Some(Kind::Cancel | Kind::Send) | None => {}
            }
        }
        self.pending.drain(..count);
        Ok(count + self.report_leaving(context.sink))
    }

    fn received(&mut self, slot: u32, completion: Completion, context: &mut Context<'_, '_>) {
        let session = self.id(slot);
        let word = self.word(slot);
        debug_assert_eq!(word.generation(), generation_of(completion.user_data), "a receive has outlived its session");
        if let Some(buffer) = completion.buffer() {
            let len = usize::try_from(completion.result).unwrap_or(0);
            if len > 0 && word.is_live() {
                context.counters.received_bytes += len as u64;
                let bytes = self.queue.buffers.filled(buffer, len);
                (context.sink)(Event::Received { session, bytes });
                self.hear(slot, completion.more(), context.counters);
            }
            self.queue.buffers.provide(buffer);
        }
        if completion.more() {
            return;
        }
        let word = self.completed(slot, RECEIVING);
        if !word.is_live() {
            return;
        }
        let error = match -completion.result {
            // It ended early for want of room in the completion queue, or was cancelled by a pause that may be over.
            ..0 | libc::ECANCELED | libc::EINTR | libc::EAGAIN => return self.receive_or_leave(slot),
            libc::ENOBUFS => {
                context.counters.receive_starved += 1;
                self.is_starved = true;
                return self.receive_or_leave(slot);
            }
            0 => None,
            errno => Some(errno),
        };
        // A session that ends is not given away.
        let word = &mut self.sessions[slot as usize];
        word.set(ENDED);
        word.clear(LEAVING);
        (context.sink)(Event::Closed { session, error });
    }

    /// Counts a receive. A session that has used up its share is not received from any more in this poll, once the
    /// kernel has heard of it.
    fn hear(&mut self, slot: u32, more: bool, counters: &mut Counters) {
        let Some(word) = self.sessions.get_mut(slot as usize) else { return };
        if word.receives() == 0 {
            self.heard.push(short(slot));
        }
        if word.receives() < SESSION_RECEIVES_MAX {
            word.0 += RECEIVE;
        }
        if word.receives() == SESSION_RECEIVES_MAX && !word.has(RESTING) {
            word.set(RESTING);
            counters.receive_requeued += 1;
            let target = user_data(Kind::Receive, word.generation(), slot);
            if more {
                self.cancel(target);
            }
        }
    }

    fn accepted(&mut self, accept: usize, completion: Completion, context: &mut Context<'_, '_>) -> io::Result<()> {
        let Some(slot) = self.accepts.end(accept) else { return Ok(()) };
        if completion.result >= 0 {
            let word = &mut self.sessions[slot as usize];
            word.clear(FLAGS);
            word.set(OPEN);
            self.receive(slot);
            context.counters.accepted += 1;
            let peer = self.queue.accepted_addr(accept).get().unwrap_or(UNSPECIFIED);
            (context.sink)(Event::Accepted { session: self.id(slot), peer });
            return Ok(());
        }
        self.free.push(short(slot));
        match AcceptError::of(-completion.result) {
            AcceptError::Empty => {}
            AcceptError::Connection => context.counters.accept_failed += 1,
            AcceptError::Resources => {
                context.counters.accept_parked += u64::from(!context.park);
                context.park = true;
            }
            AcceptError::Listener => return Err(io::Error::from_raw_os_error(-completion.result)),
        }
        Ok(())
    }

    /// One of a session's requests is over; frees the slot if it was the last one of a closed session.
    fn completed(&mut self, slot: u32, flag: u32) -> Word {
        let Some(word) = self.sessions.get_mut(slot as usize) else { return Word::default() };
        word.clear(flag);
        if word.0 & (OPEN | REQUESTS) == 0 {
            *word = Word(u32::from(word.generation().wrapping_add(1)) << 16);
            self.free.push(short(slot));
        }
        *word
    }

    fn id(&self, slot: u32) -> SessionId {
        SessionId(self.first_id + slot)
    }
}
