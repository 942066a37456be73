//! The limits of this crate.

/// Bytes of one [`crate::Event::Received`]: the epoll engine's shared read buffer. A session that has more to say waits for
/// the next poll (`receive_requeued`).
pub const RECEIVE_LEN_MAX: usize = 64 * 1024;

/// Connections accepted in one poll of the epoll engine, and accepts outstanding in the io_uring engine, so that a storm
/// of new connections does not starve the established ones. The others wait in the backlog.
pub const ACCEPTS_PER_POLL_MAX: usize = 64;

/// Pause before accepting is tried again after it has failed for want of descriptors or memory (`accept_parked`), unless a
/// session of ours ends earlier.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Events that one `epoll_wait` returns; the rest comes with the next. 12 bytes each.
pub const EPOLL_EVENTS_MAX: usize = 1024;
