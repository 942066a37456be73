//! What a worker asks of the kernel's sockets, whichever interface carries it out.
//!
//! An engine owns one listener and the sessions accepted from it, and belongs to the thread that made it (io_uring's
//! single-issuer rings insist, and [`IoSlices`] hold raw pointers; none of these types is `Send`).
//!
//! A pass of a worker is: [`Engine::poll`], then [`Engine::send`] for whoever is owed bytes, then [`Engine::flush`].
//! No request outlives `flush`, so the memory that the slices point into may be overwritten after it.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// A session's index in its engine's slab: below [`EngineConfig::sessions_max`], reused after [`Engine::close`], and
/// never a file descriptor, of which there may be far fewer than sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

impl SessionId {
    /// The same number, to index a slab with.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What [`Engine::poll`] reports.
#[derive(Debug)]
pub enum Event<'a> {
    /// A new connection.
    Accepted {
        /// Its id from now on.
        session: SessionId,
        /// The remote end.
        peer: SocketAddr,
    },
    /// Bytes have arrived. They are lent for the call only, and may be changed in place (unmasking).
    Received {
        /// The session that sent them.
        session: SessionId,
        /// At least one byte, at most [`crate::limits::RECEIVE_LEN_MAX`].
        bytes: &'a mut [u8],
    },
    /// After [`Engine::want_writable`]: the socket takes bytes again. May be spurious; then the send comes back
    /// unsent.
    Writable {
        /// The session.
        session: SessionId,
    },
    /// The peer has ended its side, or the connection has failed. Nothing more will be received, and all that was
    /// before has been reported. The caller must [`Engine::close`] the session: after an error at once; after an end
    /// without error when it has sent what it still owes, for which [`Engine::want_writable`] goes on to work.
    Closed {
        /// The session.
        session: SessionId,
        /// The errno, or `None` for an orderly end (FIN).
        error: Option<i32>,
    },
    /// After [`Engine::detach`]: the session's socket, which is nowhere else now. All that was received before has been
    /// reported. An error: the session keeps its socket, and goes on as if nothing had been asked.
    Detached {
        /// The session.
        session: SessionId,
        /// The socket, or why it stays.
        socket: io::Result<OwnedFd>,
    },
    /// The waker's eventfd was written. The engine does not read it: it looks for the edge only.
    Woken,
}

/// A send that was not taken whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// The session that it was for.
    pub session: SessionId,
    /// How many bytes the kernel took, possibly none.
    pub sent: usize,
    /// `None`: the socket's buffer is full (EAGAIN, or a short count). Otherwise the errno; the session is to be
    /// closed.
    pub error: Option<i32>,
}

/// What one [`Engine::flush`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushStats {
    /// Sends performed since the last flush.
    pub sends: usize,
    /// Bytes that the kernel took.
    pub bytes: u64,
    /// Sends reported as [`Unsent`].
    pub unsent: usize,
}

/// What an engine has done since it was made. Every parking or starving has its counter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Times that accepting was parked because the process or the machine was out of descriptors (EMFILE, ENFILE) or
    /// out of socket memory (ENOBUFS, ENOMEM).
    pub accept_parked: u64,
    /// Accepting is parked now.
    pub is_parked: bool,
    /// Connections that failed before they could be accepted (ECONNABORTED and the like).
    pub accept_failed: u64,
    /// Times that accepts were begun anew because connections waited although accepts were under way (io_uring only).
    pub accepts_renewed: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Times that a receive found no buffer and was started again (io_uring only).
    pub receive_starved: u64,
    /// Times that a session used up its share of a poll and had to wait for the next.
    pub receive_requeued: u64,
    /// Polls that ended at their limit of bytes or events, with more to be received.
    pub polls_cut: u64,
    /// Completions that found their queue full and took the kernel's slow way (io_uring only).
    pub completions_overflowed: u64,
    /// Rings in use (io_uring only).
    pub rings: u64,
}

/// How to make an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig<'a> {
    /// Most sessions at a time; further connections wait in the listener's backlog. Ids are below it.
    pub sessions_max: usize,
    /// An eventfd whose writing ends a [`Engine::poll`] with [`Event::Woken`]. The engine keeps a duplicate.
    pub waker: Option<BorrowedFd<'a>>,
}

/// One thread's sockets. See the module's description for the order of calls.
pub trait Engine {
    /// `"uring"` or `"epoll"`.
    fn name(&self) -> &'static str;

    /// Whether it may make further io_urings when more sessions come.
    fn may_make_rings(&self) -> bool {
        false
    }

    /// Waits until something happens or `timeout` passes (`None`: for ever), and reports what has happened. The work
    /// of one call is bounded; what is left over is reported by the next, which then does not wait. It may also
    /// return early with nothing to report.
    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()>;

    /// Queues one vectored send, which never blocks, to be performed by [`Engine::flush`] at the latest. At most one
    /// per session and flush. The slices themselves are not needed after the call; what they point to is (see
    /// [`IoSlices::push`]).
    fn send(&mut self, session: SessionId, slices: &IoSlices);

    /// Performs what has been queued, and calls `sink` for those sends ONLY that were not taken whole.
    fn flush(&mut self, sink: &mut dyn FnMut(Unsent)) -> io::Result<FlushStats>;

    /// Asks for one [`Event::Writable`], as soon as the socket takes bytes. If it does already, the next poll
    /// reports it.
    fn want_writable(&mut self, session: SessionId);

    /// Stops receiving from a session, so that its peer meets a closed window. Bytes that the kernel has already
    /// handed over may still be reported; the peer's end may go unnoticed until reading is resumed.
    fn pause_reading(&mut self, session: SessionId);

    /// Receives again.
    fn resume_reading(&mut self, session: SessionId);

    /// Sends FIN, and goes on receiving.
    fn shutdown_write(&mut self, session: SessionId);

    /// Ends a session. No event for this id follows until a later [`Event::Accepted`] reuses it.
    fn close(&mut self, session: SessionId);

    /// Asks for the session's socket, to be reported by one [`Event::Detached`], or by [`Event::Closed`] if the peer
    /// has ended it first. From now until [`Engine::attach`] nothing is sent, waited for or paused; the id stays taken.
    fn detach(&mut self, session: SessionId);

    /// Gives a session that has no socket one, and goes on: it receives, reading is not paused and nobody waits for
    /// room.
    ///
    /// # Errors
    /// The session has a socket, or is not open (EINVAL); or the system's reason. The session is as before, and the
    /// socket is closed.
    fn attach(&mut self, session: SessionId, socket: OwnedFd) -> io::Result<()>;

    /// Takes no more connections. One that the kernel has already handed over may still be reported.
    fn pause_accepting(&mut self);

    /// Takes connections again.
    fn resume_accepting(&mut self);

    /// The most sessions at a time.
    fn capacity(&self) -> usize;

    /// Sessions open now.
    fn sessions(&self) -> usize;

    /// User memory that the engine itself holds per session, when all of [`Engine::capacity`] are open; what is
    /// allocated once is spread over them.
    fn bytes_per_session(&self) -> usize;

    /// What it has done so far.
    fn counters(&self) -> Counters;
}

/// The memory of one vectored send: raw slices, made once for a group of sessions and shared by all its sends.
#[derive(Debug)]
pub struct IoSlices {
    iovecs: Vec<libc::iovec>,
    len_total: usize,
    /// Changes with the contents and is never the same for two contents in a thread: an engine recognises by it the
    /// list that it has seen last.
    stamp: u64,
}

impl IoSlices {
    /// The most slices of one send (the kernel's UIO_MAXIOV).
    pub const SLICES_MAX: usize = 1024;

    /// Begins without slices.
    pub fn new() -> IoSlices {
        IoSlices { iovecs: Vec::new(), len_total: 0, stamp: next_stamp() }
    }

    /// Forgets the slices, keeps the allocation.
    pub fn clear(&mut self) {
        self.iovecs.clear();
        self.len_total = 0;
        self.stamp = next_stamp();
    }

    /// Forgets the slices and begins with `len` bytes at `start`, for which there always is room.
    ///
    /// # Safety
    /// As for [`Self::push`].
    #[expect(unsafe_code, reason = "the promise about the pointers is the caller's to make")]
    pub unsafe fn begin(&mut self, start: *const u8, len: usize) {
        self.clear();
        // SAFETY: the caller's promise is the same.
        let fits = unsafe { self.push(start, len) };
        debug_assert!(fits, "no room in an empty list");
    }

    /// Adds `len` bytes at `start`; where they adjoin the last slice, that one grows. `false`: there are
    /// [`Self::SLICES_MAX`] already and nothing was added. The send will not have these bytes: the caller owes them
    /// still, and must not count them as sent.
    ///
    /// # Safety
    /// The bytes must stay readable until the [`Engine::flush`] that follows the last [`Engine::send`] of these
    /// slices has returned, or until the slices are cleared or dropped without having been sent. They may change
    /// meanwhile: nobody but the kernel reads them.
    #[expect(unsafe_code, reason = "the promise about the pointers is the caller's to make")]
    #[must_use = "bytes that were refused are not sent"]
    pub unsafe fn push(&mut self, start: *const u8, len: usize) -> bool {
        if len == 0 {
            return true;
        }
        let count = self.iovecs.len();
        match self.iovecs.last_mut() {
            Some(last) if last.iov_base as usize + last.iov_len == start as usize => last.iov_len += len,
            _ if count == Self::SLICES_MAX => return false,
            _ => self.iovecs.push(libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }),
        }
        self.len_total += len;
        self.stamp = next_stamp();
        true
    }

    /// The length of all slices together, in bytes.
    pub fn len_total(&self) -> usize {
        self.len_total
    }

    /// Slices, after merging those that adjoin.
    pub fn count(&self) -> usize {
        self.iovecs.len()
    }

    /// Is there nothing to send?
    pub fn is_empty(&self) -> bool {
        self.len_total == 0
    }

    pub(crate) fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs
    }

    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }
}

impl Default for IoSlices {
    fn default() -> Self {
        Self::new()
    }
}

/// Numbers that are unique in a thread are enough, since the slices (raw pointers) cannot leave it.
fn next_stamp() -> u64 {
    thread_local!(static STAMP: Cell<u64> = const { Cell::new(0) });
    STAMP.with(|stamp| {
        stamp.set(stamp.get() + 1);
        stamp.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "pushes slices of a local array")]
    fn adjoining_slices_become_one() {
        let bytes = [0u8; 64];
        let mut slices = IoSlices::new();
        // SAFETY: never sent.
        unsafe {
            assert!(slices.push(bytes.as_ptr(), 16));
            assert!(slices.push(bytes[16..].as_ptr(), 16));
            assert!(slices.push(bytes[40..].as_ptr(), 8));
            assert!(slices.push(bytes.as_ptr(), 0));
        }
        assert_eq!((slices.count(), slices.len_total()), (2, 40));
        let stamp = slices.stamp();
        slices.clear();
        assert!(slices.is_empty() && slices.stamp() != stamp);
    }

    #[test]
    #[expect(unsafe_code, reason = "pushes slices of a local array")]
    fn the_kernels_limit_is_kept() {
        let bytes = [0u8; 4 * IoSlices::SLICES_MAX];
        let mut slices = IoSlices::new();
        for at in 0..IoSlices::SLICES_MAX {
            // SAFETY: never sent.
            assert!(unsafe { slices.push(bytes[2 * at..].as_ptr(), 1) });
        }
        // SAFETY: never sent.
        assert!(!unsafe { slices.push(bytes[2 * IoSlices::SLICES_MAX..].as_ptr(), 1) });
        assert_eq!(slices.len_total(), IoSlices::SLICES_MAX);
    }
}
