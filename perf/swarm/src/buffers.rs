//! Provided buffers of an io_uring: received bytes take memory only while they are processed, not per connection.

#![expect(unsafe_code, reason = "the ring is shared with the kernel")]

use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context as _;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// When we let the kernel run its pending work, it completes some twenty receives before it returns, each into a buffer
/// of its own, or into several if much data has arrived.
const BUFFERS: u16 = 64;
/// Room for seven messages of 512 bytes.
const BUFFER_LEN: u32 = 4_096;

pub(crate) struct Buffers {
    shared: Box<Shared>,
    memory: Box<[u8]>,
    tail: u16,
}

#[repr(C, align(4096))]
struct Shared([Entry; BUFFERS as usize]);

/// `struct io_uring_buf`; the last field of the ring's first entry is the ring's tail.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    tail: u16,
}

const _: () = assert!(size_of::<Entry>() == size_of::<BufRingEntry>() && BUFFERS.is_power_of_two());

impl Buffers {
    /// Registers the buffers with a ring, which must not outlive them.
    pub(crate) fn new(uring: &IoUring) -> anyhow::Result<Buffers> {
        let entry = Entry { addr: 0, len: 0, id: 0, tail: 0 };
        let memory = vec![0; usize::from(BUFFERS) * BUFFER_LEN as usize].into_boxed_slice();
        let mut buffers = Buffers { shared: Box::new(Shared([entry; BUFFERS as usize])), memory, tail: 0 };
        let addr = buffers.shared.0.as_mut_ptr() as u64;
        // SAFETY: page-aligned, and the caller promises that the buffers live as long as the io_uring.
        unsafe { uring.submitter().register_buf_ring_with_flags(addr, BUFFERS, GROUP, 0) }
            .context("cannot register a ring of buffers")?;
        (0..BUFFERS).for_each(|id| buffers.provide(id));
        Ok(buffers)
    }

    pub(crate) const fn bytes() -> usize {
        size_of::<Shared>() + BUFFERS as usize * BUFFER_LEN as usize
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    pub(crate) fn filled(&self, id: u16, len: usize) -> &[u8] {
        let start = usize::from(id) * BUFFER_LEN as usize;
        self.memory.get(start..start + len.min(BUFFER_LEN as usize)).unwrap_or_default()
    }

    /// Gives a buffer (back) to the kernel.
    pub(crate) fn provide(&mut self, id: u16) {
        let addr = self.memory[usize::from(id) * BUFFER_LEN as usize..].as_mut_ptr() as u64;
        let entry = &raw mut self.shared.0[usize::from(self.tail % BUFFERS)];
        // SAFETY: in bounds; the kernel reads only entries before the tail, and this entry is not before it yet.
        // Written field by field, because the tail lies in the first entry.
        unsafe {
            (&raw mut (*entry).addr).write_volatile(addr);
            (&raw mut (*entry).len).write_volatile(BUFFER_LEN);
            (&raw mut (*entry).id).write_volatile(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: in bounds, aligned, and accessed atomically only. The release pairs with the kernel's acquire.
        unsafe { AtomicU16::from_ptr(&raw mut self.shared.0[0].tail) }.store(self.tail, Ordering::Release);
    }
}
