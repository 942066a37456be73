//! The fan-out: sessions, subjects, slow consumers, timers.
//!
//! A [`Worker`](spawn) is one thread that owns an [`Engine`](fanblade_net::Engine) with its listener, a read-only view
//! of the ring, and every session that its listener accepts. It shares nothing with other workers but the ring.
//!
//! The files, in the order of the data path:
//! `fanout` (ring → groups → sends), `alone` and `arena` (the same for sessions with lists of their own), `batching`
//! (frames that wait for each other), `directory` (subjects, filters, groups), `directory/sets` and `holders` (lists of
//! one session alone, in lists that are `slim`), `patterns` (which select a subject, and which subjects they select),
//! `session` (the slab), `catchup` (sessions that are behind), `replay` (snapshots and history after a subscription, of
//! the subjects of a `selection`), `requests`, `preparation` and `protocol` (what clients ask, and the work for it in
//! `steps`), `held` (memory that hangs off sessions), `upgrade` and `address` (opening handshake), `forwarded` and
//! `networks` (clients behind proxies), `events` (connections come, speak, end), `membership` (sessions join the
//! fan-out, fall behind, become current), `deadlines` and `timers`, `saying` (what is told beside frames), `news` (of
//! the publisher), `closing` and `closes` (how sessions end), `last_words` (after a panic), `stats`, `limits`.

mod address;
mod alone;
mod arena;
mod batching;
mod catchup;
mod closes;
mod closing;
mod deadlines;
mod directory;
mod events;
mod fanout;
mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod held;
mod holders;
mod last_words;
mod limits;
mod membership;
mod networks;
mod news;
mod patterns;
mod preparation;
mod protocol;
mod replay;
mod requests;
mod saying;
mod selection;
mod session;
mod slices;
mod slim;
mod stats;
mod steps;
mod timers;
mod upgrade;
mod worker;

use fanblade_ring::subject;

pub use batching::Batching;
pub use closes::Closes;
pub use directory::bytes_of_own_lists;
pub use forwarded::ClientHeader;
pub use handle::{Command, WorkerConfig, WorkerEnd, WorkerHandle, spawn};
pub use limits::{Limits, PIECE_LEN, REQUEST_SKIPPED_LEN_MAX, deferred_bytes, request_len};
pub use networks::{Network, Networks};
pub use protocol::Mode;
pub use session::{bytes_in_group, bytes_in_slab, bytes_per_idle_session};
pub use stats::{Kind, LatencyHistogram, LatencySnapshot, Word, WorkerStats};

/// So that tests can say what memory something takes.
#[cfg(test)]
#[global_allocator]
static COUNTING: fanblade_testkit::allocations::Counting = fanblade_testkit::allocations::Counting;
