//! Every limit of publishing that is not a configuration key, with its reason. docs/fanblade.example.toml has the
//! limits that are keys.

/// Numbers that are reserved at a time: a crash loses at most so many, and the state file is written once in so many
/// records. At a million records a second it is written every second.
pub(super) const RESERVE_NUMBERS: u64 = 1 << 20;

/// The last number, which is the largest that the state file can hold (TOML). At a million records a second, reaching
/// it takes 292,000 years; a file with a number close to it was not written by a blade, and is refused.
pub(super) const SEQ_END_MAX: u64 = i64::MAX as u64;

/// How long a stopping blade waits for the state to be written, in milliseconds. After that it gives up: the next
/// start skips the reserved numbers, and the log says so.
pub(super) const STATE_WRITE_MS_MAX: u64 = 2_000;

/// How long a stopping blade waits for the publishers' thread, in milliseconds: the farewell, the state, and a margin.
pub(super) const END_MS_MAX: u64 = FAREWELL_MS_MAX + STATE_WRITE_MS_MAX + 1_000;

/// Connections whose greeting is not over, for which each has `handshake_ms_max`. More wait in the kernel's queue.
pub(super) const GREETINGS_MAX: usize = 64;

/// Replies that may wait for one publisher. While there are more, its connection is not read, so that a publisher which
/// causes errors and does not read them stalls itself.
pub(super) const REPLIES_MAX: usize = 256;

/// How long a publisher may leave a reply unread in its socket, in milliseconds. After that it is disconnected, which
/// counts as the trouble `not_reading`.
pub(super) const REPLY_MS_MAX: u64 = 10_000;

/// So many records in a row may be refused. One more ends the connection, as `too_many_errors`: each refusal costs a
/// reply and a log line, and a publisher with so many faults is unlikely to recover.
pub(super) const REFUSED_IN_A_ROW_MAX: u32 = 1_000;

/// The longest WebSocket message, in bytes, unless `data_len_max` asks for more: a batch of records. A longer message
/// closes the connection with 1009.
pub(super) const MESSAGE_LEN_MAX: usize = 1 << 20;

/// How long publishers may take to read that the blade stops, in milliseconds; and how long a refused publisher may go
/// on sending before its connection is cut, so that a reset does not destroy the refusal.
pub(super) const FAREWELL_MS_MAX: u64 = 1_000;

/// Bytes of a frame beside its data: the JSON around it with the longest subject, every character of it escaped, and
/// three numbers; the frame header.
const FRAME_HEAD_LEN_MAX: usize = 2 * fanblade_ring::subject::SUBJECT_LEN_MAX + 3 * 20 + 64;

/// The most bytes of data that fit a ring's frame of `frame_len_max`, base64 included.
pub(super) const fn data_len_possible(frame_len_max: usize) -> usize {
    frame_len_max.saturating_sub(FRAME_HEAD_LEN_MAX) / 4 * 3
}
