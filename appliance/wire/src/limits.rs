//! What a peer may make this crate hold or do. Each limit says what happens there; the worker counts the refusals.

/// Bytes of an opening handshake, request line to empty line. A browser sends about 600, with cookies and a token a few
/// thousand. Longer: refused with 431.
pub const HEAD_LEN_MAX: usize = 8 * 1024;

/// Empty lines before a request line. RFC 9112 section 2.2 asks for one at least, since some clients send it after a
/// body. More: refused with 400.
pub const LEADING_LINES_MAX: usize = 4;

/// Header fields of an opening handshake. More: refused with 431.
pub const HEADERS_MAX: usize = 64;

/// Bytes of a control frame's payload (RFC 6455 section 5.5). More: close 1002.
pub const CONTROL_LEN_MAX: usize = 125;

/// Bytes of a close frame's reason: a control frame less the two bytes of the code. A longer reason of ours is cut.
pub const CLOSE_REASON_LEN_MAX: usize = CONTROL_LEN_MAX - 2;

/// What one session may send as one message. The worker chooses; a request of 16 KiB in a few fragments is plenty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundLimits {
    /// Payload bytes of one message over all its fragments that are kept. A longer one is dropped as it comes, and told
    /// as [`TooLong`](crate::Event::TooLong) when it is over.
    pub message_len_max: usize,
    /// Payload bytes of one message that is dropped. More: close 1009, as soon as a frame header announces it.
    pub skipped_len_max: u64,
    /// Frames of one message. Empty fragments cost the sender 6 bytes and would never end otherwise. More: close 1008.
    pub fragments_max: u32,
}

/// How deep JSON that is passed on may be nested: subscribers' parsers must survive it. Venues' messages are 5 deep.
pub const JSON_DEPTH_MAX: usize = 64;

/// The most significant digits of a number that is kept: an IEEE double in full has at most 55 for a price of 0.1. More
/// is no number to us.
pub const DECIMAL_DIGITS_MAX: usize = 76;

/// The largest power of ten of such a number, either way, so that written out it is bounded, too. Doubles end at 308.
pub const DECIMAL_EXPONENT_MAX: i16 = 400;
