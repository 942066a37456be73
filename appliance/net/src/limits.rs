//! The limits of this crate.

/// Bytes that one session is received in one poll, and so of one [`crate::Event::Received`]: the epoll engine's shared
/// read buffer. A session that has more to say waits for the next poll (`receive_requeued`), so that a flood costs the
/// others its share and no more.
pub const RECEIVE_LEN_MAX: usize = 32 * 1024;

/// Receives of one session in one poll of the io_uring engine: its buffers are small. What the kernel has received by
/// then is reported still, which is less than a ring's buffers hold.
pub const SESSION_RECEIVES_MAX: u8 = 16;
const _: () = assert!(SESSION_RECEIVES_MAX as usize * URING_BUFFER_LEN == RECEIVE_LEN_MAX);

/// Bytes that all sessions are received in one poll, give or take a ring's buffers: so much is parsed within a few
/// milliseconds. Who comes too late for it is first in the next poll, which comes after the sends (`polls_cut`).
pub const POLL_RECEIVE_BYTES_MAX: usize = 1024 * 1024;

/// Connections accepted in one poll of the epoll engine, and accepts outstanding in the io_uring engine, so that a
/// storm of new connections does not starve the established ones. The others wait in the backlog.
pub const ACCEPTS_PER_POLL_MAX: usize = 64;

/// Pause before accepting is tried again after it has failed for want of descriptors or memory (`accept_parked`),
/// unless a session of ours ends earlier.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// How often the io_uring engine looks whether connections wait although accepts are under way: the kernel may have
/// told an engine that is gone of them.
pub const ACCEPT_LOOK_MS: u64 = 500;

/// Events of one poll, give or take a round of the kernel's: the answers of a million sessions to their pings come
/// thousands at a time, and a poll between two long fan-outs must keep up with them. What is left over is reported by
/// the next poll, which then does not wait.
pub const EVENTS_PER_POLL_MAX: usize = 16_384;

/// Events that one `epoll_wait` returns. 12 bytes each.
pub const EPOLL_EVENTS_MAX: usize = 1024;

/// Entries of a ring's submission queue, and so the most sends of one system call: from 64 on the call's own cost no
/// longer shows, and 256 entries (16 KiB) stay in the first-level cache.
pub const URING_SUBMISSIONS: u32 = 256;

/// Entries of a ring's completion queue, 16 bytes each. It is emptied before every submission; 8,192 also gives the
/// kernel's table of cancellable requests its full 256 buckets. What finds it full takes the kernel's slow way and is
/// counted (`completions_overflowed`).
pub const URING_COMPLETIONS: u32 = 8192;

/// Entries of a ring's table of direct descriptors, at most; a power of two. A further ring begins where it is full.
/// RLIMIT_NOFILE limits it as well.
pub const URING_SLOTS_MAX: usize = 16_384;

/// Accepts outstanding per ring and engine: connections accepted in one poll.
pub const URING_ACCEPTS_MAX: usize = ACCEPTS_PER_POLL_MAX;

/// Buffers for received bytes per ring; a power of two, at most 256 (one page of the kernel's ring). A receive that
/// finds none is started again after the poll that gives them back (`receive_starved`).
pub const URING_BUFFERS: usize = 128;

/// Bytes of each buffer, and so at most of one [`crate::Event::Received`].
pub const URING_BUFFER_LEN: usize = 2048;

/// Slices that a batch of vectored sends holds in all its lists; when they are used up the batch is submitted. At least
/// [`crate::IoSlices::SLICES_MAX`].
pub const URING_SLICES_MAX: usize = 4096;
const _: () = assert!(URING_SLICES_MAX >= crate::IoSlices::SLICES_MAX);

/// Packets of one `recvmmsg`: enough that the call's own cost no longer shows, few enough that what a poll of a feed
/// does with them takes well below a millisecond. The next call takes the rest.
pub const DATAGRAM_BATCH_LEN: usize = 32;

/// The longest packet that is taken, in bytes of payload: what fits a jumbo frame of 9,216 bytes. Longer ones are
/// dropped (`truncated`).
pub const DATAGRAM_LEN_MAX: usize = 9_216;

/// Sockets that one [`crate::datagram::wait`] looks at; those beyond wake nobody.
pub const WAIT_SOCKETS_MAX: usize = 32;

/// Addresses of a name that one attempt to connect tries, a quarter of a second apart. Those beyond have their turn in
/// later attempts.
pub const DIAL_ADDRESSES_MAX: usize = 16;

/// How long an address is waited for before the next has its turn, too, in milliseconds: RFC 8305's recommendation
/// (section 8).
pub const DIAL_STAGGER_MS: u64 = 250;
