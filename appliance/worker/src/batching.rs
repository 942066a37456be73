//! Windows: frames of some subjects may wait for more of their group, so that one send takes them all.
//!
//! A packet costs the same with one frame as with eight. Where subjects move fifty times a second and nobody looks that
//! often, a window of 100 ms saves four sends of five.

use crate::subject;

/// How long frames of some subjects may wait in the ring before they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// A subject or pattern, as in a subscription.
    pub subjects: String,
    /// From the moment that the worker sees a group's first frame until the group is sent all that has come.
    pub ms_max: u32,
    /// Bytes for one session; with so many, the group is sent them at once; `batches_filled`.
    pub bytes_max: u32,
}

impl Batching {
    /// Where nothing else is said.
    pub const BYTES_MAX: u32 = 64 * 1024;
}

/// What a subject's frames may wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    ms_max: u32,
    bytes_max: u32,
}

impl Window {
    /// Of the first entry that selects the subject. None: its frames do not wait.
    pub(crate) fn of(batching: &[Batching], name: &str) -> Window {
        let found = batching.iter().find(|it| subject::matches(&it.subjects, name));
        found.map_or(Window::default(), |it| Window { ms_max: it.ms_max, bytes_max: it.bytes_max })
    }

    /// Until when a frame may wait that has come now.
    pub(crate) fn end_us(self, now_us: u64) -> u64 {
        now_us + u64::from(self.ms_max) * 1_000
    }

    /// Is there one?
    pub(crate) fn is_open(self) -> bool {
        self.ms_max > 0
    }

    /// Are so many bytes enough for a send?
    pub(crate) fn is_filled_by(self, bytes: u64) -> bool {
        self.is_open() && bytes >= self.bytes_max.into()
    }
}
