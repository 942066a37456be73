//! The fan-out: sessions, subjects, slow consumers, timers.
//!
//! A [`Worker`](spawn) is one thread that owns an [`Engine`](fanblade_net::Engine) with its listener, a read-only view
//! of the ring, and every session that its listener accepts. It shares nothing with other workers but the ring.
//!
//! The files, by what they are about:
//!
//! - the loop: `worker`, `config`, `handle` (from other threads), `clock`, `last_words` (after a panic);
//! - from the ring to the sockets: `fanout` (ring → groups → sends), `alone` and `arena` (the same for sessions with
//!   lists of their own), `batching` (frames that wait for each other), `slices` (what the kernel is pointed at);
//! - who wants what: `directory` (subjects, filters, groups, lists of sessions alone), `holders`, `patterns`, `slim`;
//! - sessions: `session` and `slab`, `extra` and `behind` (what only some have), `events` (connections come, speak,
//!   end), `membership` (sessions join the fan-out, fall behind, become current), `deadlines` and `timers`, `closing`,
//!   `held` (memory that hangs off sessions);
//! - sessions that are owed something of their own: `catchup` (who is behind), `answer` (snapshots and history after a
//!   subscription, of the subjects of a `selection`), `saying` (notices), `news` (of the publisher);
//! - what clients ask: `upgrade` and `address` (opening handshake), `forwarded` and `networks` (behind proxies),
//!   `requests` (worked for in `steps`), `protocol` (their JSON);
//! - `stats`, `limits`, and the `allocator` of programs that serve.

mod address;
pub mod allocator;
mod alone;
mod answer;
mod arena;
mod batching;
mod behind;
mod catchup;
mod clock;
mod closing;
mod config;
mod deadlines;
mod directory;
mod events;
mod extra;
mod fanout;
mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod held;
mod holders;
mod ids;
mod last_words;
mod limits;
mod membership;
mod networks;
mod news;
mod patterns;
mod protocol;
mod requests;
mod saying;
mod selection;
mod session;
mod slab;
mod slices;
mod slim;
mod stats;
mod steps;
mod timers;
mod upgrade;
mod worker;

use fanblade_ring::subject;

pub use batching::Batching;
pub use config::{Command, WorkerConfig};
pub use directory::bytes_of_own_lists;
pub use forwarded::ClientHeader;
pub use handle::{WorkerEnd, WorkerHandle, spawn};
pub use limits::{Limits, PIECE_LEN, REQUEST_SKIPPED_LEN_MAX, deferred_bytes, request_len};
pub use networks::{Network, Networks};
pub use protocol::Mode;
pub use session::{bytes_in_group, bytes_in_slab, bytes_per_idle_session};
pub use stats::{Closes, Kind, LatencyHistogram, LatencySnapshot, Word, WorkerStats};

/// So that tests can say what memory something takes.
#[cfg(test)]
#[global_allocator]
static COUNTING: fanblade_testkit::allocations::Counting = fanblade_testkit::allocations::Counting;
