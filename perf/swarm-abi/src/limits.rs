//! The limits of the kernel program: sizes of maps and bounds of loops.

/// The beginning of a frame, header included, that is looked at: the markers must lie in it, and a ping or close frame
/// (127 bytes at most) lies in it as a whole. A power of two, so that an index is bounded by a mask.
pub const HEAD_LEN: usize = HEAD_END as usize;
/// The same, as a place in a message.
pub const HEAD_END: u32 = 256;

/// Room for the bytes that a segment may bring behind those that were kept.
pub const SCRATCH_LEN: usize = 2 * HEAD_LEN;

/// Beginnings of frames that are cut by the end of a segment and wait for the next: one per subscriber at most, and
/// hardly ever many at once. Beyond that the stream counts as torn: `heads_lost`.
pub const HEADS_MAX: usize = 16_384;

/// Subscribers, unless the loader sets another number.
pub const SUBSCRIBERS_MAX: usize = 1_024;
