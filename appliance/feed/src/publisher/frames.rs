//! Bytes into frames, however they arrive.

use super::LENGTH_LEN;

/// A frame's length field says more than is allowed. What follows it cannot be told from other bytes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {len} bytes; at most {len_max} are taken")]
pub struct FrameTooLong {
    /// The length that its length field says.
    pub len: u32,
    /// The length that is allowed.
    pub len_max: usize,
}

/// A frame without its length field, and what follows it.
pub type FrameAndRest<'a> = (&'a [u8], &'a [u8]);

/// The first frame in `bytes` without its length field, and what follows it; none while it is incomplete.
///
/// # Errors
/// It is longer than `len_max`.
pub fn split(bytes: &[u8], len_max: usize) -> Result<Option<FrameAndRest<'_>>, FrameTooLong> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_LEN>() else { return Ok(None) };
    let len = u32::from_le_bytes(*length);
    if len as usize > len_max {
        return Err(FrameTooLong { len, len_max });
    }
    Ok(rest.split_at_checked(len as usize))
}

/// What has arrived and not been looked at yet. It grows to two of the longest frames and stays there.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    len_max: usize,
}

impl Frames {
    /// For frames of at most `len_max` bytes behind their length field.
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, len_max }
    }

    /// From here on frames may be as long as that.
    pub fn set_len_max(&mut self, len_max: usize) {
        self.len_max = len_max;
    }

    /// Where to put what arrives next: never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // There is room for the rest of the frame that has begun, and for as much again.
        let len = (2 * (self.len_max + LENGTH_LEN)).max(SPACE_LEN_MIN);
        if self.buffer.len() < len {
            self.buffer.resize(len, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Takes note of the bytes that have been put there.
    pub fn note_filled(&mut self, len: usize) {
        self.end = self.buffer.len().min(self.end + len);
    }

    /// The next frame that is complete, without its length field.
    ///
    /// # Errors
    /// It is too long.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameTooLong> {
        // Always in range; see `space` and `note_filled`.
        let arrived = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some((frame, _)) = split(arrived, self.len_max)? else { return Ok(None) };
        self.start += LENGTH_LEN + frame.len();
        Ok(Some(frame))
    }

    /// What has arrived and was not taken.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }
}

/// Begins a frame in `out`; `end` must follow.
pub(super) fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_LEN]);
    out.push(kind);
    start
}

/// Fills in the length of the frame that began at `start`.
pub(super) fn end(out: &mut [u8], start: usize) {
    if let Some((length, rest)) = out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut::<LENGTH_LEN>) {
        *length = u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes();
    }
}

/// What a length field of one byte can hold, and the length.
pub(super) fn short(bytes: &[u8]) -> (u8, &[u8]) {
    let short = bytes.get(..usize::from(u8::MAX)).unwrap_or(bytes);
    (u8::try_from(short.len()).unwrap_or(u8::MAX), short)
}

/// Short frames are read many at a time.
const SPACE_LEN_MIN: usize = 64 << 10;
