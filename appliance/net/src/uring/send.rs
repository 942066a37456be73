//! The sends of one batch: what has been queued since the last submission, and the message headers and lists of slices
//! that its requests point to.

use crate::engine::IoSlices;
use crate::limits::{URING_SLICES_MAX, URING_SUBMISSIONS};
use crate::sys::message_of;

/// A queued send.
#[derive(Clone, Copy)]
pub(super) struct Queued {
    pub(super) slot: u32,
    pub(super) len_total: usize,
}

/// Every vector has its capacity from the start and is never grown beyond it, so that the pointers in it stay good
/// until [`Self::clear`].
pub(super) struct Batch {
    sends: Vec<Queued>,
    slices: Vec<libc::iovec>,
    messages: Vec<libc::msghdr>,
    /// The stamp of the list that was copied last.
    stamp: u64,
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch {
            sends: Vec::with_capacity(URING_SUBMISSIONS as usize),
            slices: Vec::with_capacity(URING_SLICES_MAX),
            messages: Vec::with_capacity(URING_SUBMISSIONS as usize),
            stamp: 0,
        }
    }

    /// Would a message of these slices have to wait for a submission?
    pub(super) fn is_full_for(&self, slices: &IoSlices) -> bool {
        self.stamp != slices.stamp()
            && (self.slices.len() + slices.count() > self.slices.capacity()
                || self.messages.len() == self.messages.capacity())
    }

    /// Adds a send, and returns its position, which its completion names.
    pub(super) fn add(&mut self, queued: Queued) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a batch is no longer than the submission queue")]
        let position = self.sends.len() as u32;
        self.sends.push(queued);
        position
    }

    /// The header for a list of slices: one copy for all sends that follow each other with the same list.
    pub(super) fn message(&mut self, slices: &IoSlices) -> *const libc::msghdr {
        if self.stamp != slices.stamp() {
            let start = self.slices.len();
            self.slices.extend_from_slice(slices.iovecs());
            self.messages.push(message_of(&self.slices[start..]));
            self.stamp = slices.stamp();
        }
        self.messages.last().map_or(std::ptr::null(), std::ptr::from_ref)
    }

    /// The send at a position.
    pub(super) fn send(&self, position: u32) -> Option<Queued> {
        self.sends.get(position as usize).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }

    /// Forgets the sends, which have all completed.
    pub(super) fn clear(&mut self) {
        self.sends.clear();
        self.slices.clear();
        self.messages.clear();
        self.stamp = 0;
    }
}
