//! What a session is owed, or waits for: only sessions that are not done with something have it.

use std::collections::VecDeque;

use fanblade_wire::frame;

use crate::answer::Replay;
use crate::behind::Behind;
use crate::directory::Preparation;
use crate::limits::EXTRA_BYTES_KEPT;
use crate::protocol::Request;

/// What a session is owed or waits for. Boxed, pooled, and present only while needed.
#[derive(Default)]
pub(crate) struct Extra {
    /// The PROXY header or the upgrade request so far.
    pub(crate) head: Vec<u8>,
    /// Bytes at the end of a PROXY header that have not come; they are skipped.
    pub(crate) head_skip: usize,
    /// Bytes of `head` that have been searched for its end.
    pub(crate) head_scanned: usize,
    /// The rest of a cut frame, replies, notices, replayed frames: owed before any frame of the ring.
    pub(crate) out: Vec<u8>,
    /// Bytes of `out` that the kernel has taken.
    pub(crate) out_sent: usize,
    pub(crate) behind: Option<Behind>,
    pub(crate) replay: Option<Box<Replay>>,
    /// The first place in `out` that is known to lie between two frames: behind the rest of a cut frame, or behind the
    /// answer to a handshake.
    pub(crate) out_whole: usize,
    /// Requests that came while the session was behind, or that a pass has not done yet.
    pub(crate) deferred: VecDeque<Request>,
    /// Memory of the deferred requests, in bytes.
    pub(crate) deferred_bytes: usize,
    /// Its part of `Sessions::held`, in bytes.
    pub(crate) counted: usize,
    /// The preparation of the first deferred request, while it is under way.
    pub(crate) preparation: Option<Preparation>,
    /// It is in the worker's list of sessions whose requests wait for a later pass.
    pub(crate) is_waiting: bool,
    /// Close with this once everything owed has gone out (graceful stop, or the client has ended its side).
    pub(crate) close_when_current: Option<(u16, &'static str)>,
}

impl Extra {
    /// Does it hold anything at all?
    pub(crate) fn is_idle(&self) -> bool {
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

    /// Adds the rest of a frame that has begun to go.
    pub(crate) fn owe_rest(&mut self, rest: &[u8]) {
        self.out.extend_from_slice(rest);
        self.out_whole = self.out.len();
    }

    /// Adds a request that waits.
    pub(crate) fn defer(&mut self, request: Request) {
        self.deferred_bytes += request.bytes();
        self.deferred.push_back(request);
    }

    /// Takes out the request that has waited longest.
    pub(crate) fn take_deferred(&mut self) -> Option<Request> {
        let request = self.deferred.pop_front()?;
        self.deferred_bytes -= request.bytes();
        Some(request)
    }

    /// Drops what was asked for and is not answered.
    pub(crate) fn forget_requests(&mut self) {
        self.replay = None;
        self.deferred = VecDeque::new();
        self.deferred_bytes = 0;
    }

    /// The next place from `out_sent` on that lies between two frames.
    fn next_boundary(&self) -> usize {
        let mut place = self.out_whole;
        while place < self.out_sent {
            place += frame::server_frame_len(&self.out[place..]).unwrap_or(self.out.len() - place);
        }
        place
    }

    /// Drops what is owed except the rest of the frame that has begun to go, so that the peer can read the next frame.
    pub(crate) fn forget_whole_frames(&mut self) {
        self.out.truncate(self.next_boundary());
        self.give_back();
    }

    /// Frees what the kernel has taken, once that is half of the buffer, and memory that is not needed.
    pub(crate) fn give_back(&mut self) {
        if self.out_sent > self.out.len() / 2 {
            self.out_whole = self.next_boundary() - self.out_sent;
            self.out.drain(..self.out_sent);
            self.out_sent = 0;
        }
        self.out.shrink_to((2 * self.out.len()).max(EXTRA_BYTES_KEPT));
    }

    /// Its user memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let replay = self.replay.as_ref().map_or(0, |replay| replay.bytes());
        let lost = self.behind.as_ref().map_or(0, Behind::heap_bytes);
        let texts = self.head.capacity() + self.out.capacity();
        size_of::<Extra>() + texts + self.deferred_bytes + replay + lost
    }

    /// For the next session that uses the box.
    pub(crate) fn clear(&mut self) {
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
