//! The subject table: what exists, and where each subject's newest frame lies.
//!
//! `newest` is released after the frame's descriptor is complete and before `tail` moves over it. A reader that has
//! seen `tail` therefore finds in the table either the last frame before it or a newer one, never an older one.

use std::ops::Deref;

use crate::ids::{LanePosition, RingIndex};
use crate::layout::{Layout, SUBJECT_WORDS, header, join, low_half, split};
use crate::limits::SUBJECT_LEN_MAX;
use crate::sync::{Ordering, Word, load_acquire};
use crate::words::{load_record, store_bytes};

/// A subject as a reader sees it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its name, copied out.
    pub name: SubjectName,
    /// The channel that it was made with.
    pub channel: u16,
    /// Ring index of its newest frame (possibly a refreshed copy); `None` before the first.
    pub newest: Option<RingIndex>,
    /// Frames published so far, refreshed copies not counted.
    pub frames: u64,
}

/// A name by value: reading the table needs no allocation.
#[derive(Clone, Copy)]
pub struct SubjectName {
    bytes: [u8; SUBJECT_LEN_MAX],
    len: usize,
}

impl Deref for SubjectName {
    type Target = str;

    fn deref(&self) -> &str {
        // What the writer stores is UTF-8; what another process scribbled is at least no panic.
        self.bytes.get(..self.len).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl std::fmt::Debug for SubjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        str::fmt(self, f)
    }
}

impl std::fmt::Display for SubjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

/// The table in shared memory.
#[derive(Clone, Copy)]
pub(crate) struct SubjectTable<'a> {
    pub(crate) count: &'a Word,
    pub(crate) entries: &'a [Word],
}

impl<'a> SubjectTable<'a> {
    pub(crate) fn new(words: &'a [Word], layout: &Layout) -> Self {
        let end = layout.subjects_at + layout.subjects_max as usize * SUBJECT_WORDS;
        Self { count: &words[header::SUBJECT_COUNT], entries: &words[layout.subjects_at..end] }
    }

    /// Writer: the name must have been checked, and the table have a place.
    pub(crate) fn create(&self, id: u32, name: &str, channel: u16) {
        let entry = self.entry(id);
        // Names do not wrap, but the words of a name are a power of two, as `store_bytes` wants.
        store_bytes(&entry[..NAME_WORDS], LanePosition::default(), name.as_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "at most SUBJECT_LEN_MAX")]
        let len = name.len() as u32;
        entry[KIND].store(join(len, u32::from(channel)), Ordering::Relaxed);
        self.count.store(u64::from(id) + 1, Ordering::Release);
    }

    /// Writer: puts the subject's newest frame at `index`. It is a Release for the descriptor, which is complete.
    pub(crate) fn set_newest(&self, id: u32, index: RingIndex) {
        self.entry(id)[NEWEST].store(index.stamp(), Ordering::Release);
    }

    /// Writer: counts a frame of the subject.
    pub(crate) fn count_frame(&self, id: u32) {
        let frames = &self.entry(id)[FRAMES];
        frames.store(frames.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Writer: update `seq` of the subject was refused; 0: none of this epoch.
    pub(crate) fn set_refused(&self, id: u32, seq: u64) {
        self.entry(id)[REFUSED].store(seq, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, id: u32) -> u64 {
        if id < self.count() { self.entry(id)[REFUSED].load(Ordering::Relaxed) } else { 0 }
    }

    pub(crate) fn count(&self) -> u32 {
        let places = (self.entries.len() / SUBJECT_WORDS) as u64;
        #[expect(clippy::cast_possible_truncation, reason = "the places are as many as `subjects_max`, a u32")]
        let count = load_acquire(self.count).min(places) as u32;
        count
    }

    pub(crate) fn newest(&self, id: u32) -> Option<RingIndex> {
        if id >= self.count() {
            return None;
        }
        RingIndex::of_stamp(load_acquire(&self.entry(id)[NEWEST]))
    }

    pub(crate) fn read(&self, id: u32) -> Option<Subject> {
        if id >= self.count() {
            return None;
        }
        let entry = self.entry(id);
        let (len, channel) = split(entry[KIND].load(Ordering::Relaxed));
        let mut bytes = [0; SUBJECT_LEN_MAX];
        for (target, word) in bytes.as_chunks_mut().0.iter_mut().zip(load_record::<NAME_WORDS>(entry)) {
            *target = word.to_ne_bytes();
        }
        let name = SubjectName { bytes, len: len as usize };
        let frames = entry[FRAMES].load(Ordering::Relaxed);
        let newest = RingIndex::of_stamp(load_acquire(&entry[NEWEST]));
        Some(Subject { name, channel: low_half(channel), newest, frames })
    }

    fn entry(&self, id: u32) -> &'a [Word] {
        &self.entries[id as usize * SUBJECT_WORDS..][..SUBJECT_WORDS]
    }
}

const NAME_WORDS: usize = SUBJECT_LEN_MAX / 8;
const NEWEST: usize = NAME_WORDS;
const KIND: usize = NAME_WORDS + 1;
const FRAMES: usize = NAME_WORDS + 2;
const REFUSED: usize = NAME_WORDS + 3;
