//! Every bound of publishing that is not a configuration key, with its reason. docs/fanblade.example.toml has the
//! others.

/// Numbers that are reserved at a time: so many may be lost by a crash, and once in so many records a file is written.
/// At a million records a second it is written every second.
pub(super) const RESERVE_NUMBERS: u64 = 1 << 20;

/// Numbers end here: it is the largest that the state file can hold (TOML). At a million records a second it takes
/// 292,000 years; a file that is nearly there was not written by a blade, and is refused.
pub(super) const SEQ_END_MAX: u64 = i64::MAX as u64;

/// How long the end waits for the state to be written, in milliseconds. Then the next start leaves out the numbers that
/// were reserved; it is told.
pub(super) const STATE_WRITE_MS_MAX: u64 = 2_000;

/// How long the end waits for the publishers' thread, in milliseconds: for its farewell, for the state, and a little.
pub(super) const END_MS_MAX: u64 = FAREWELL_MS_MAX + STATE_WRITE_MS_MAX + 1_000;

/// Connections that have not said yet who they are. More wait in the kernel's queue; each has `handshake_ms_max`.
pub(super) const GREETINGS_MAX: usize = 64;

/// Replies that wait for one publisher. It is not read from while there are more, so that one which causes errors and
/// does not read them stalls itself.
pub(super) const REPLIES_MAX: usize = 256;

/// How long a publisher may leave a reply in its socket, in milliseconds. Then it is let go, as the trouble
/// `not_reading`.
pub(super) const REPLY_MS_MAX: u64 = 10_000;

/// So many records in a row may be refused. One more ends the connection, as `too_many_errors`: each costs a reply and
/// a line of thought, and nothing good will come.
pub(super) const REFUSED_IN_A_ROW_MAX: u32 = 1_000;

/// The longest WebSocket message, in bytes, where `data_len_max` does not ask for more: a batch of records. Longer
/// closes with 1009.
pub(super) const MESSAGE_LEN_MAX: usize = 1 << 20;

/// How long publishers may take to hear that the blade stops, in milliseconds; and how long one that was refused may go
/// on sending before its connection is cut, so that the refusal is not lost to a reset.
pub(super) const FAREWELL_MS_MAX: u64 = 1_000;

/// Bytes of a frame beside its data: the JSON around it with the longest subject, every character of it escaped, and
/// three numbers; the frame header.
const FRAME_HEAD_LEN_MAX: usize = 2 * fanblade_ring::subject::SUBJECT_LEN_MAX + 3 * 20 + 64;

/// The most bytes of data that fit a ring's frame of `frame_len_max`, base64 included.
pub(super) const fn data_len_possible(frame_len_max: usize) -> usize {
    frame_len_max.saturating_sub(FRAME_HEAD_LEN_MAX) / 4 * 3
}
