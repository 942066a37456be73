//! What a session is owed, or waits for: only sessions that are not done with something have it.

use std::collections::VecDeque;

use fanblade_wire::frame;

use crate::answer::Replay;
use crate::behind::Behind;
use crate::directory::Preparation;
use crate::limits::EXTRA_BYTES_KEPT;
use crate::protocol::Request;

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
    pub(crate) counted: usize,
    /// The work ahead of the first of them, while it is under way.
    pub(crate) preparation: Option<Preparation>,
    /// It is in the worker's list of sessions whose requests wait for a later pass.
    pub(crate) is_waiting: bool,
    /// Close with this once everything owed is out (graceful stop, or the client asks nothing more).
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
