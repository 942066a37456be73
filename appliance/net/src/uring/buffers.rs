//! Provided buffers: received bytes need memory only while they are looked at, not per session. The kernel takes a
//! buffer from this ring for each piece that it receives, and gets it back after
//! [`Event::Received`](crate::Event::Received).

#![expect(unsafe_code, reason = "the ring is shared with the kernel")]

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::limits::{URING_BUFFER_LEN, URING_BUFFERS};

/// The same for the kernel.
#[expect(clippy::cast_possible_truncation, reason = "at most 256, as the limit says")]
const BUFFERS: u16 = URING_BUFFERS as u16;
#[expect(clippy::cast_possible_truncation, reason = "part of RECEIVE_LEN_MAX")]
const BUFFER_LEN: u32 = URING_BUFFER_LEN as u32;

/// The only group of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// The ring as the kernel reads it: one page, in which the unused field of the first entry is the tail.
#[repr(C, align(4096))]
struct Shared([Entry; URING_BUFFERS]);

/// `struct io_uring_buf`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    /// In entry 0: the tail, written by us, read by the kernel. Elsewhere unused.
    tail: u16,
}

const _: () = assert!(size_of::<Entry>() == size_of::<BufRingEntry>() && URING_BUFFERS.is_power_of_two());

pub(super) struct Buffers {
    shared: Box<Shared>,
    memory: Box<[u8]>,
    tail: u16,
}

impl Buffers {
    pub(super) fn new() -> Buffers {
        let entry = Entry { addr: 0, len: 0, id: 0, tail: 0 };
        Buffers {
            shared: Box::new(Shared([entry; URING_BUFFERS])),
            memory: vec![0; URING_BUFFERS * URING_BUFFER_LEN].into_boxed_slice(),
            tail: 0,
        }
    }

    pub(super) const fn bytes() -> usize {
        size_of::<Shared>() + URING_BUFFERS * URING_BUFFER_LEN
    }

    /// The ring's address and number of entries, for its registration.
    pub(super) fn ring(&mut self) -> (*mut u8, u16) {
        ((&raw mut *self.shared).cast(), BUFFERS)
    }

    /// Gives the kernel all buffers, once.
    pub(super) fn provide_all(&mut self) {
        (0..BUFFERS).for_each(|id| self.provide(id));
    }

    /// The first `len` bytes of a buffer that the kernel has filled. Empty if there is no such buffer.
    pub(super) fn filled(&mut self, id: u16, len: usize) -> &mut [u8] {
        let start = usize::from(id) * URING_BUFFER_LEN;
        self.memory.get_mut(start..start + len.min(URING_BUFFER_LEN)).unwrap_or_default()
    }

    /// Gives a buffer (back) to the kernel.
    pub(super) fn provide(&mut self, id: u16) {
        let Some(buffer) = self.memory.get_mut(usize::from(id) * URING_BUFFER_LEN..) else { return };
        let addr = buffer.as_mut_ptr() as u64;
        let at = usize::from(self.tail) & (URING_BUFFERS - 1);
        let entry = &raw mut self.shared.0[at];
        // This writes field by field, because the tail lies in entry 0.
        // SAFETY: `entry` is in bounds; the kernel reads only entries before the tail, which this one is not yet.
        unsafe {
            (&raw mut (*entry).addr).write_volatile(addr);
            (&raw mut (*entry).len).write_volatile(BUFFER_LEN);
            (&raw mut (*entry).id).write_volatile(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: in bounds and aligned; all accesses by us are atomic. The release pairs with the kernel's acquire of
        // the tail, so that it sees the entry.
        unsafe { AtomicU16::from_ptr(&raw mut self.shared.0[0].tail) }.store(self.tail, Ordering::Release);
    }
}
