//! Every limit of the ring.

use crate::Lane;

/// Bytes in a subject. PROTOCOL says so, and the subject table has a fixed field for it. Longer:
/// `RingError::SubjectName`.
pub const SUBJECT_LEN_MAX: usize = 128;

/// Segments of a subject, at the least and at the most. PROTOCOL says so. Others: `SubjectError::Segments`.
pub const SEGMENTS_MIN: usize = 2;
/// See [`SEGMENTS_MIN`].
pub const SEGMENTS_MAX: usize = 8;

/// Longest epoch name: it fits four words of the header page with its length. Longer: `RingError::Epoch`.
pub const EPOCH_LEN_MAX: usize = 31;

/// Fewest descriptors: room for two subjects, the writer's reserve and a margin. Fewer: `RingError::Config`.
pub const INDEX_LEN_MIN: usize = 16;

/// Most descriptors (8 GiB of them): keeps every size computation far from overflow. More: `RingError::Config`.
pub const INDEX_LEN_MAX: usize = 1 << 26;

/// Longest lane: the same reason. Longer: `RingError::Config`.
pub const LANE_LEN_MAX: usize = 1 << 36;

/// Longest frame, header included, in any lane; in small lanes it is an eighth of the lane (`frame_len_max`). As much
/// room stays free between the writer's head and the oldest frame, so that a refreshed frame never overwrites its own
/// source. Longer: the publish is refused (`RingError::FrameTooLong`, `WriterStats::refused`).
pub const FRAME_LEN_MAX_BYTES: usize = 1 << 20;

/// Descriptors that the writer retires per publish while there is no hurry. Retiring copies a frame that is still its
/// subject's newest, so this bounds what one publish may cost; eight keeps ahead even when half of a lane is live.
/// Only frames much longer than usual can need more: `WriterStats::retired_burst_max` shows it.
pub const RETIRE_PER_PUBLISH: u32 = 8;

/// Frames that are appended without a look at the sleepers (`Writer::append`); after the last of them the writer looks
/// by itself. A look costs a fence and a load per worker, so that once per packet is cheaper than once per frame; but
/// no worker shall sleep through a long burst. So many frames take some 30 µs, which is what waking takes as well.
pub const APPENDED_UNTOLD_MAX: u32 = 32;

/// The writer retires this part of the index and of each lane ahead of its head and of the reserve: what
/// `Reader::near_edge` warns of, and what it lives on while it carries a row of live frames along, eight a publish.
pub const MARGIN_DIVISOR: u64 = 8;

/// The longest frame that a lane of `lane_len` bytes takes.
#[must_use]
pub const fn frame_len_max(lane_len: usize) -> usize {
    let eighth = lane_len / 8;
    if eighth < FRAME_LEN_MAX_BYTES { eighth } else { FRAME_LEN_MAX_BYTES }
}

/// The most bytes that the newest frames of all subjects may take in a lane before a *new* subject's first frame is
/// refused (`RingError::LiveBytes`, `WriterStats::refused`): half of it, so that carrying them along costs at most
/// about twice the bytes that are published.
#[must_use]
pub const fn live_len_max(lane_len: usize) -> usize {
    lane_len / 2
}

/// The same for subjects that the ring already holds, whose frames may grow: five eighths. With the longest frame (an
/// eighth) and the reserve (an eighth) that still leaves the writer room to move, so that retiring always ends.
#[must_use]
pub const fn live_len_hard_max(lane_len: usize) -> usize {
    lane_len / 8 * 5
}

/// The lanes, for messages.
pub(crate) const LANE_NAMES: [&str; crate::LANES] = ["json", "binary", "deflate", "sse"];

impl Lane {
    /// The lane's name in messages and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        LANE_NAMES[self as usize]
    }
}
