//! Every bound of the test exchange, with its reason.

use std::time::Duration;

/// Messages from one entry of the store's index to the next. An entry takes 8 bytes, so that a day of Nasdaq (270
/// million messages) needs 34 MB of memory. The answer to a request walks at most so many messages.
pub(super) const INDEX_STEP: u64 = 64;

/// The most bytes that the store writes to its temporary file, several days of Nasdaq. Beyond, the replay ends with an
/// error: what was published could not be asked for any more. (A plain BinaryFILE is its own store, whatever its size.)
pub(super) const STORE_LEN_MAX: u64 = 64 << 30;

/// How much of the store stays in memory before it is written, in bytes.
pub(super) const STORE_TAIL_LEN: usize = 256 << 10;

/// For how long an exchange gathers messages before it sends a packet that is not full; as in the simulator.
pub(super) const PACKET_SPAN_NS: u64 = 50_000;

/// The most packets that overtake one that is reordered, and the most that are held.
pub(super) const REORDER_DISTANCE_MAX: u32 = 3;

/// A publisher that is behind its rate by more than this (a process that was stopped) does not make up for it, since
/// that would be the flood that the rate is to prevent.
pub(super) const RATE_LAG_MAX: Duration = Duration::from_millis(10);

/// The time between two looks at whether to stop.
pub(super) const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How often one line reports a packet that could not be sent. All are counted.
pub(super) const SEND_ERRORS_SHOWN_MAX: u64 = 3;

/// The most live orders that snapshots hold; some 80 bytes each. One more is left out and counted.
pub(super) const STATE_ORDERS_MAX: usize = 1 << 24;

/// How much of the store the state behind snapshots reads at once, in bytes.
pub(super) const STATE_READ_LEN: usize = 256 << 10;

/// How often that state is brought up to date while nobody asks for a snapshot.
pub(super) const STATE_FOLLOW_INTERVAL: Duration = Duration::from_millis(20);

/// How much of the store a SoupBinTCP client is sent at once, in bytes.
pub(super) const STREAM_READ_LEN: usize = 32 << 10;

/// The most clients that each TCP server has at once. One more is disconnected and counted.
pub(super) const CLIENTS_MAX: usize = 256;

/// For how long a client may take to log in.
pub(super) const LOGIN_TIME_MAX: Duration = Duration::from_secs(15);
