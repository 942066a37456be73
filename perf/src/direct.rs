//! A bare io_uring over direct descriptors: the bare server sends through it as one would without Fanblade.
//! Deliberately not `fanblade_net`: this is the other side of the comparison.

#![expect(unsafe_code, reason = "io_uring's requests hold raw pointers")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use io_uring::types::Fixed;
use io_uring::{IoUring, opcode};

/// A ring and its table of direct descriptors.
pub(crate) struct Direct {
    uring: IoUring,
}

impl Direct {
    /// A ring for `slots` sockets.
    pub(crate) fn new(slots: usize) -> anyhow::Result<Direct> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        let uring = builder.build(SUBMISSIONS).context("cannot make an io_uring (Linux 6.1 or later is needed)")?;
        uring
            .submitter()
            .register_files_sparse(slots_of(slots)?)
            .context("cannot register a table of direct descriptors")?;
        Ok(Direct { uring })
    }

    /// Moves a socket into the table. After that the process holds no descriptor of the socket.
    pub(crate) fn install(&mut self, slot: usize, socket: OwnedFd) -> anyhow::Result<()> {
        let installed = self.uring.submitter().register_files_update(slots_of(slot)?, &[socket.as_raw_fd()])?;
        ensure!(installed == 1, "the table of direct descriptors has no slot {slot}");
        drop(socket);
        Ok(())
    }

    /// Sends the same bytes to the first `count` sockets.
    pub(crate) fn send_all(&mut self, count: usize, bytes: &[u8]) -> anyhow::Result<()> {
        self.send((0..slots_of(count)?).map(|slot| (slot, bytes)))
    }

    /// Sends bytes to sockets. The kernel must take each send whole at once: no client is behind in these measurements.
    pub(crate) fn send<'a>(&mut self, sends: impl IntoIterator<Item = (u32, &'a [u8])>) -> anyhow::Result<()> {
        let mut sends = sends.into_iter();
        loop {
            let mut submissions = self.uring.submission();
            let mut batch = 0_u32;
            for (slot, bytes) in sends.by_ref().take(SUBMISSIONS as usize) {
                let len = u32::try_from(bytes.len()).context("a send has less than 4 GiB")?;
                let entry = opcode::Send::new(Fixed(slot), bytes.as_ptr(), len)
                    .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data(u64::from(len) << 32 | u64::from(slot));
                // SAFETY: `bytes` outlives the request, which completes while it is submitted (MSG_DONTWAIT).
                unsafe { submissions.push(&entry) }.ok().context("the submission queue is not empty")?;
                batch += 1;
            }
            drop(submissions);
            if batch == 0 {
                return Ok(());
            }
            // SAFETY: no argument is passed.
            let taken = unsafe { self.uring.submitter().enter::<libc::sigset_t>(batch, 0, 0, None) }?;
            ensure!(taken == batch as usize, "the kernel took only {taken} of {batch} requests");
            let mut done = 0;
            for completion in self.uring.completion() {
                let (slot, len, result) =
                    (slot_of(completion.user_data()), completion.user_data() >> 32, completion.result());
                ensure!(i64::from(result) == len as i64, "socket {slot}: a send of {len} bytes returned {result}");
                done += 1;
            }
            ensure!(done == batch, "only {done} of {batch} sends completed at once");
        }
    }
}

fn slots_of(count: usize) -> anyhow::Result<u32> {
    u32::try_from(count).context("too many sockets for one table")
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the slot")]
fn slot_of(user_data: u64) -> u32 {
    user_data as u32
}

/// Like `send`, but by the plain system call, for the bare server on descriptors.
pub(crate) fn send_whole(socket: &OwnedFd, bytes: &[u8]) -> anyhow::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length describe `bytes`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 {
        return Err(io::Error::last_os_error()).context("cannot send");
    }
    ensure!(sent as usize == bytes.len(), "the kernel took only {sent} of {} bytes", bytes.len());
    Ok(())
}

const SUBMISSIONS: u32 = 256;
