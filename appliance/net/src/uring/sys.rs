//! One io_uring: its two queues, and everything whose memory the kernel uses while a request is under way. What the
//! requests point to is owned here (or vouched for by [`IoSlices::push`](crate::IoSlices::push)), which makes the
//! methods safe.

#![expect(unsafe_code, reason = "io_uring's requests hold raw pointers")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use super::buffers::{BUFFER_GROUP, Buffers};
use crate::error::NetError;
use crate::limits::{URING_ACCEPTS_MAX, URING_COMPLETIONS, URING_SUBMISSIONS};
use crate::sys::{RawAddr, SEND_FLAGS};

/// A completion: what was asked, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    flags: u32,
}

impl Completion {
    /// Whether the request goes on (multishot).
    pub(super) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The descriptor that it made ([`Queue::install`]). To be called once.
    pub(super) fn descriptor(self) -> io::Result<OwnedFd> {
        if self.result < 0 {
            return Err(io::Error::from_raw_os_error(-self.result));
        }
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(self.result) })
    }

    /// The provided buffer that it used up.
    pub(super) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// An io_uring with a table of direct descriptors. The ring is declared, and so dropped, before the memory that its
/// requests use.
pub(super) struct Queue {
    uring: IoUring,
    pub(super) buffers: Buffers,
    /// Where the kernel writes the peers' addresses, one for each accept that may be outstanding.
    addrs: Box<[RawAddr]>,
    /// The kernel makes descriptors of direct ones (Linux 6.8).
    can_install: bool,
}

impl Queue {
    /// A ring whose table has `slots` entries, all empty.
    pub(super) fn new(slots: usize) -> Result<Queue, NetError> {
        let failed = |what| move |source| NetError::Uring { what, source };
        let uring = IoUring::builder()
            // Completion work runs when we ask for it, in our thread, and never interrupts it.
            .setup_single_issuer()
            .setup_defer_taskrun()
            // A flag tells without a system call whether there is such work.
            .setup_taskrun_flag()
            .setup_submit_all()
            // Until it is restricted.
            .setup_r_disabled()
            .setup_cqsize(URING_COMPLETIONS)
            .build(URING_SUBMISSIONS)
            .map_err(explain)?;
        let can_install = check_features(&uring)?;
        let slots = u32::try_from(slots).map_err(|_| NetError::Config("too many slots for one ring"))?;
        uring.submitter().register_files_sparse(slots).map_err(failed("table of direct descriptors"))?;
        let mut buffers = Buffers::new();
        let (addr, len) = buffers.ring();
        // SAFETY: the ring of buffers is page-aligned and, like the buffers, lives in `self` until after the io_uring
        // is gone.
        unsafe { uring.submitter().register_buf_ring_with_flags(addr as u64, len, BUFFER_GROUP, 0) }
            .map_err(failed("ring of provided buffers"))?;
        restrict(&uring, can_install).map_err(failed("restrictions of a ring"))?;
        buffers.provide_all();
        let addrs = (0..URING_ACCEPTS_MAX).map(|_| RawAddr::new()).collect();
        Ok(Queue { uring, buffers, addrs, can_install })
    }

    /// User memory besides the sessions' own: the queues, which the kernel shares with us, the buffers and the
    /// addresses.
    pub(super) const fn bytes() -> usize {
        let sqe = size_of::<squeue::Entry>() + size_of::<u32>();
        let cqe = size_of::<cqueue::Entry>();
        URING_SUBMISSIONS as usize * sqe
            + URING_COMPLETIONS as usize * cqe
            + Buffers::bytes()
            + URING_ACCEPTS_MAX * size_of::<RawAddr>()
    }

    /// Is the submission queue full?
    pub(super) fn is_full(&mut self) -> bool {
        self.uring.submission().is_full()
    }

    /// Accepts a connection into an empty `slot`; `accept` numbers the address buffer, which must not be in use.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, accept: usize, slot: u32, user_data: u64) {
        self.addrs[accept] = RawAddr::new();
        let addr = &mut self.addrs[accept];
        let slot = DestinationSlot::try_from_slot_target(slot).ok();
        let entry = opcode::Accept::new(Fd(listener.as_raw_fd()), addr.addr_ptr(), addr.len_ptr()).file_index(slot);
        self.push(&entry.build().user_data(user_data));
    }

    /// The address that a completed accept has left.
    pub(super) fn accepted_addr(&self, accept: usize) -> &RawAddr {
        &self.addrs[accept]
    }

    /// Receives into provided buffers until told otherwise.
    pub(super) fn receive(&mut self, slot: u32, user_data: u64) {
        self.push(&opcode::RecvMulti::new(Fixed(slot), BUFFER_GROUP).build().user_data(user_data));
    }

    /// Sends one slice; see [`crate::sys::send`] for why this is safe. Over-long slices are cut: a short count tells.
    pub(super) fn send(&mut self, slot: u32, slice: libc::iovec, user_data: u64) {
        let len = u32::try_from(slice.iov_len).unwrap_or(u32::MAX).min(SEND_LEN_MAX);
        let entry = opcode::Send::new(Fixed(slot), slice.iov_base.cast_const().cast(), len).flags(SEND_FLAGS);
        self.push(&entry.build().user_data(user_data));
    }

    /// Sends a message of several slices. The header and its list must stay where they are until [`Self::submit`].
    pub(super) fn send_message(&mut self, slot: u32, message: *const libc::msghdr, user_data: u64) {
        let entry = opcode::SendMsg::new(Fixed(slot), message).flags(SEND_FLAGS as u32);
        self.push(&entry.build().user_data(user_data));
    }

    /// Waits until the socket takes bytes.
    pub(super) fn poll_writable(&mut self, slot: u32, user_data: u64) {
        self.push(&opcode::PollAdd::new(Fixed(slot), libc::POLLOUT as u32).build().user_data(user_data));
    }

    /// Reports each writing of an eventfd. The caller keeps it open.
    pub(super) fn watch(&mut self, eventfd: BorrowedFd<'_>, user_data: u64) {
        let entry = opcode::PollAdd::new(Fd(eventfd.as_raw_fd()), libc::POLLIN as u32).multi(true);
        self.push(&entry.build().user_data(user_data));
    }

    /// Half close.
    pub(super) fn shutdown_write(&mut self, slot: u32, user_data: u64) {
        self.push(&opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build().user_data(user_data));
    }

    /// Empties a slot.
    pub(super) fn close(&mut self, slot: u32, user_data: u64) {
        self.push(&opcode::Close::new(Fixed(slot)).build().user_data(user_data));
    }

    /// Whether this kernel has [`Self::install`].
    pub(super) fn can_install(&self) -> bool {
        self.can_install
    }

    /// Makes an ordinary descriptor of the socket in a slot: the result.
    pub(super) fn install(&mut self, slot: u32, user_data: u64) {
        self.push(&opcode::FixedFdInstall::new(Fixed(slot), 0).build().user_data(user_data));
    }

    /// Puts a socket into an empty slot.
    pub(super) fn fill(&mut self, slot: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.uring.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(drop)
    }

    /// Cancels the request with user data `target`. By user data and not by descriptor, which would have the kernel
    /// walk all the ring's requests.
    pub(super) fn cancel(&mut self, target: u64, user_data: u64) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target)).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data));
    }

    /// Has the kernel write this eventfd when there is something to do for this ring, while [`Self::notify`] says so.
    pub(super) fn register_eventfd(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.uring.submitter().register_eventfd(eventfd.as_raw_fd())
    }

    /// Switches the writing of the eventfd. It is on only while the thread sleeps, as it would cost every batch of
    /// sends.
    pub(super) fn notify(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    /// Whether [`Self::enter`] or [`Self::take`] would find something to do.
    pub(super) fn has_work(&mut self) -> bool {
        !self.uring.submission().is_empty() || self.has_completed()
    }

    /// The same, less what waits to be submitted.
    pub(super) fn has_completed(&mut self) -> bool {
        let submissions = self.uring.submission();
        let has = submissions.taskrun() || submissions.cq_overflow();
        drop(submissions);
        has || !self.uring.completion().is_empty()
    }

    /// Have completions missed the queue for want of room?
    pub(super) fn has_overflowed(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// Hands the queued requests to the kernel, and runs no completion work: what completes are only those of the
    /// requests that do so at once. The queue is empty afterwards.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        for _ in 0..SUBMIT_TRIES_MAX {
            let queued = self.queued();
            if queued == 0 {
                return Ok(());
            }
            // SAFETY: no argument is passed.
            match unsafe { self.uring.submitter().enter::<libc::sigset_t>(queued, 0, 0, None) } {
                Ok(_) => {}
                // EAGAIN: no memory for a request at the moment.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the kernel does not take io_uring requests"))
    }

    /// Hands the queued requests to the kernel, runs completion work, and waits for a completion at most `timeout`
    /// (`None`: for ever).
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let wait = timeout != Some(Duration::ZERO);
        let timespec = timeout.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timespec) = timespec.as_ref().filter(|_| wait) {
            args = args.timespec(timespec);
        }
        let queued = self.queued();
        let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        // SAFETY: with EXT_ARG the argument is a SubmitArgs, and what it points to outlives the call.
        match unsafe { self.uring.submitter().enter(queued, u32::from(wait), flags, Some(&args)) } {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes what has completed, in order.
    pub(super) fn take(&mut self, mut sink: impl FnMut(Completion)) {
        for entry in self.uring.completion() {
            sink(Completion { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() });
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most URING_SUBMISSIONS")]
    fn queued(&mut self) -> u32 {
        self.uring.submission().len() as u32
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: whatever the entry points to is owned by `self` or guaranteed as its method says.
        let pushed = unsafe { self.uring.submission().push(entry) };
        // No peer can cause this: `Ring` submits whenever the queue is full.
        assert!(pushed.is_ok(), "a request for a full submission queue");
    }
}

/// Most bytes of one send: the kernel's MAX_RW_COUNT.
const SEND_LEN_MAX: u32 = 0x7fff_f000;
/// Each try takes at least one request unless memory is short.
const SUBMIT_TRIES_MAX: usize = 2 * URING_SUBMISSIONS as usize;
/// `io_uring_enter`'s flags, from `linux/io_uring.h`; the crate keeps them to itself.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;

/// Why a ring could not be made.
fn explain(source: io::Error) -> NetError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            NetError::UringForbidden { sysctl: sysctl.map_or("?".into(), |text| text.trim().into()), source }
        }
        Some(libc::ENOSYS) => NetError::UringTooOld { what: "io_uring_setup" },
        // The kernel does not know a setup flag; this is the newest of ours.
        Some(libc::EINVAL) => NetError::UringTooOld { what: "IORING_SETUP_DEFER_TASKRUN" },
        _ => NetError::Uring { what: "io_uring_setup", source },
    }
}

/// DEFER_TASKRUN is of 6.1, and multishot receive and rings of buffers are older, so that little is left to ask for.
/// From here on the ring takes the requests that an engine makes, and no others: nothing that opens, connects or reads
/// files. Whoever controls the thread gets no more from the ring (io_uring_register(2), IORING_REGISTER_RESTRICTIONS).
fn restrict(uring: &IoUring, can_install: bool) -> io::Result<()> {
    let flags = squeue::Flags::FIXED_FILE | squeue::Flags::BUFFER_SELECT | squeue::Flags::SKIP_SUCCESS;
    let mut allowed: Vec<Restriction> = NEEDED.iter().map(|(code, _)| Restriction::sqe_op(*code)).collect();
    allowed.push(Restriction::sqe_flags_allowed(flags.bits()));
    // A further ring's bell.
    allowed.push(Restriction::register_op(REGISTER_EVENTFD));
    // A session's socket leaves the ring, and comes back.
    if can_install {
        allowed.push(Restriction::sqe_op(opcode::FixedFdInstall::CODE));
        allowed.push(Restriction::register_op(REGISTER_FILES_UPDATE));
    }
    uring.submitter().register_restrictions(&mut allowed)?;
    uring.submitter().register_enable_rings()
}

/// Is all there that an engine needs? Returns whether it can give sockets away, too.
fn check_features(uring: &IoUring) -> Result<bool, NetError> {
    let params = uring.params();
    if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
        return Err(NetError::UringTooOld { what: "IORING_FEAT_EXT_ARG or IORING_FEAT_NODROP" });
    }
    let mut probe = Probe::new();
    uring
        .submitter()
        .register_probe(&mut probe)
        .map_err(|source| NetError::Uring { what: "IORING_REGISTER_PROBE", source })?;
    match NEEDED.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some(&(_, what)) => Err(NetError::UringTooOld { what }),
        None => Ok(probe.is_supported(opcode::FixedFdInstall::CODE)),
    }
}

/// The requests that an engine makes.
const NEEDED: [(u8, &str); 8] = [
    (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
    (opcode::RecvMulti::CODE, "IORING_OP_RECV"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
    (opcode::Shutdown::CODE, "IORING_OP_SHUTDOWN"),
    (opcode::Close::CODE, "IORING_OP_CLOSE"),
];
/// `IORING_REGISTER_EVENTFD` of linux/io_uring.h.
const REGISTER_EVENTFD: u8 = 4;
/// `IORING_REGISTER_FILES_UPDATE` of linux/io_uring.h.
const REGISTER_FILES_UPDATE: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_takes_no_requests_but_an_engine_s() {
        let mut queue = match Queue::new(1) {
            Ok(queue) => queue,
            Err(error) => return println!("skipped: a_ring_takes_no_requests_but_an_engine_s: {error}"),
        };
        let path = c"/etc/passwd";
        queue.push(&opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build().user_data(1));
        queue.push(&opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build().user_data(2));
        // One of an engine's, of an empty slot.
        queue.shutdown_write(0, 3);
        let mut results = Vec::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while results.len() < 3 && std::time::Instant::now() < deadline {
            queue.enter(Some(Duration::from_millis(10))).unwrap();
            queue.take(|completion| results.push((completion.user_data, completion.result)));
        }
        results.sort_unstable();
        assert_eq!(results, [(1, -libc::EACCES), (2, -libc::EACCES), (3, -libc::EBADF)]);
    }
}
