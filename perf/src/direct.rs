//! A bare io_uring over direct descriptors, for both ends of a measurement: the bare server sends through it as one
//! would without Fanblade, and the swarm of clients receives through it. Deliberately not `fanblade_net`: this is the
//! other side of the comparison.

#![expect(unsafe_code, reason = "io_uring's requests hold raw pointers")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, bail, ensure};
use io_uring::types::{BufRingEntry, Fixed};
use io_uring::{IoUring, cqueue, opcode};

/// A ring and its table of direct descriptors.
pub(crate) struct Direct {
    uring: IoUring,
    buffers: Option<Buffers>,
    /// Scratch: sockets whose receive has found no buffer.
    again: Vec<usize>,
}

/// What [`Direct::harvest`] found.
pub(crate) enum Received<'a> {
    Bytes(&'a [u8]),
    /// The connection has ended: 0, or an errno.
    End(i32),
}

impl Direct {
    /// A ring for `slots` sockets. One that shall receive has buffers.
    pub(crate) fn new(slots: usize, receives: bool) -> anyhow::Result<Direct> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_cqsize(COMPLETIONS);
        let uring =
            builder.build(SUBMISSIONS).context("cannot make an io_uring (Linux 6.1 or later has what it takes)")?;
        uring.submitter().register_files_sparse(slots as u32).context("no table of direct descriptors")?;
        let mut buffers = receives.then(Buffers::new);
        if let Some(buffers) = &mut buffers {
            let addr = buffers.shared.0.as_mut_ptr() as u64;
            // SAFETY: the ring is page-aligned and lives in `self`, after (and so longer than) the io_uring.
            unsafe { uring.submitter().register_buf_ring_with_flags(addr, BUFFERS as u16, 0, 0) }?;
            (0..BUFFERS as u16).for_each(|id| buffers.provide(id));
        }
        Ok(Direct { uring, buffers, again: Vec::new() })
    }

    /// Moves a socket into the table. The process holds no descriptor of it any more.
    pub(crate) fn install(&mut self, slot: usize, socket: OwnedFd) -> anyhow::Result<()> {
        let installed = self.uring.submitter().register_files_update(slot as u32, &[socket.as_raw_fd()])?;
        ensure!(installed == 1, "no slot {slot} in the table of direct descriptors");
        drop(socket);
        Ok(())
    }

    /// Receives from a socket from now on.
    pub(crate) fn receive(&mut self, slot: usize) -> anyhow::Result<()> {
        let entry = opcode::RecvMulti::new(Fixed(slot as u32), 0).build().user_data(slot as u64);
        if self.uring.submission().is_full() {
            self.uring.submit()?;
        }
        // SAFETY: the buffers that it receives into are owned by `self`.
        unsafe { self.uring.submission().push(&entry) }.ok().context("the submission queue stays full")
    }

    /// Sends something short that the socket has room for: [`Self::harvest`] fails if it was not taken whole.
    pub(crate) fn reply(&mut self, slot: usize, bytes: &'static [u8]) -> anyhow::Result<()> {
        let entry = opcode::Send::new(Fixed(slot as u32), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .user_data(REPLY | (bytes.len() as u64) << 32 | slot as u64);
        if self.uring.submission().is_full() {
            self.uring.submit()?;
        }
        // SAFETY: static bytes.
        unsafe { self.uring.submission().push(&entry) }.ok().context("the submission queue stays full")
    }

    /// Collects what has been received, without waiting.
    pub(crate) fn harvest(
        &mut self,
        mut sink: impl FnMut(usize, Received<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let submissions = self.uring.submission();
        let work = !submissions.is_empty() || submissions.taskrun() || submissions.cq_overflow();
        drop(submissions);
        if work {
            self.uring.submit()?;
        }
        let Some(buffers) = &mut self.buffers else { bail!("this ring does not receive") };
        for completion in self.uring.completion() {
            if completion.user_data() & REPLY != 0 {
                let len = (completion.user_data() & !REPLY) >> 32;
                ensure!(i64::from(completion.result()) == len as i64, "a reply failed: {}", completion.result());
                continue;
            }
            let slot = completion.user_data() as usize;
            if let Some(id) = cqueue::buffer_select(completion.flags()) {
                let len = usize::try_from(completion.result()).unwrap_or(0);
                sink(slot, Received::Bytes(&buffers.memory[usize::from(id) * BUFFER_LEN..][..len]))?;
                buffers.provide(id);
            }
            if !cqueue::more(completion.flags()) {
                match -completion.result() {
                    ..0 | libc::ENOBUFS => {
                        self.again.push(slot);
                    }
                    errno => sink(slot, Received::End(errno))?,
                }
            }
        }
        let mut again = std::mem::take(&mut self.again);
        let received = again.drain(..).try_for_each(|slot| self.receive(slot));
        self.again = again;
        received
    }

    /// Sends the same bytes to the first `count` sockets. All must be taken whole at once: nobody is behind in these
    /// measurements.
    pub(crate) fn send_all(&mut self, count: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let mut slot = 0;
        while slot < count {
            let batch = (count - slot).min(SUBMISSIONS as usize);
            let mut submissions = self.uring.submission();
            for slot in slot..slot + batch {
                let entry = opcode::Send::new(Fixed(slot as u32), bytes.as_ptr(), bytes.len() as u32)
                    .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data(slot as u64);
                // SAFETY: `bytes` outlives the request, which completes while it is submitted (MSG_DONTWAIT).
                unsafe { submissions.push(&entry) }.ok().context("the submission queue is not empty")?;
            }
            drop(submissions);
            // SAFETY: no argument is passed.
            let taken = unsafe { self.uring.submitter().enter::<libc::sigset_t>(batch as u32, 0, 0, None) }?;
            ensure!(taken == batch, "{taken} of {batch} requests taken");
            let mut done = 0;
            for completion in self.uring.completion() {
                let (slot, result) = (completion.user_data(), completion.result());
                ensure!(result == bytes.len() as i32, "socket {slot}: {result} for a send of {} bytes", bytes.len());
                done += 1;
            }
            ensure!(done == batch, "{done} of {batch} sends completed at once");
            slot += batch;
        }
        Ok(())
    }
}

/// `send` by the plain system call, for the bare server on descriptors.
pub(crate) fn send_whole(socket: &OwnedFd, bytes: &[u8]) -> anyhow::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length describe `bytes`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 {
        return Err(io::Error::last_os_error()).context("send");
    }
    ensure!(sent as usize == bytes.len(), "{sent} of {} bytes sent", bytes.len());
    Ok(())
}

/// In the user data of a [`Direct::reply`], besides its length.
const REPLY: u64 = 1 << 63;
const SUBMISSIONS: u32 = 256;
const COMPLETIONS: u32 = 16_384;
/// One page of the shared ring.
const BUFFERS: usize = 256;
/// Sixteen messages of the floor bench.
const BUFFER_LEN: usize = 16 * 1024;

#[repr(C, align(4096))]
struct Shared([Entry; BUFFERS]);

/// `struct io_uring_buf`; the last field of the first one is the ring's tail.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    addr: u64,
    len: u32,
    id: u16,
    tail: u16,
}

const _: () = assert!(size_of::<Entry>() == size_of::<BufRingEntry>() && size_of::<Shared>() == 4096);

struct Buffers {
    shared: Box<Shared>,
    memory: Box<[u8]>,
    tail: u16,
}

impl Buffers {
    fn new() -> Buffers {
        let entry = Entry { addr: 0, len: 0, id: 0, tail: 0 };
        let memory = vec![0; BUFFERS * BUFFER_LEN].into_boxed_slice();
        Buffers { shared: Box::new(Shared([entry; BUFFERS])), memory, tail: 0 }
    }

    fn provide(&mut self, id: u16) {
        let addr = self.memory[usize::from(id) * BUFFER_LEN..].as_mut_ptr() as u64;
        let entry = &raw mut self.shared.0[usize::from(self.tail) % BUFFERS];
        // SAFETY: in bounds; the kernel reads only entries before the tail, which this one is not yet. Field by field,
        // because the tail lies in the first entry.
        unsafe {
            (&raw mut (*entry).addr).write_volatile(addr);
            (&raw mut (*entry).len).write_volatile(BUFFER_LEN as u32);
            (&raw mut (*entry).id).write_volatile(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: in bounds, aligned, and accessed atomically only. The release pairs with the kernel's acquire.
        unsafe { AtomicU16::from_ptr(&raw mut self.shared.0[0].tail) }.store(self.tail, Ordering::Release);
    }
}
