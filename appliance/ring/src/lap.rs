//! How a reader that nobody waits for learns that it was overwritten.
//!
//! | word          | written by              | pairs with |
//! |---------------|-------------------------|------------|
//! | `tail`        | [`Lap::commit`]: Release, after the frame, its descriptor and its subject's `newest` | [`Lap::tail`]: Acquire |
//! | `intact`      | [`Lap::claim`]: Relaxed, then a Release **fence**, *before* anything is overwritten | [`Lap::is_intact`]: an Acquire **fence** *after* the bytes were used, then Relaxed |
//! | `oldest`      | [`Lap::retire`]: Release, after the refreshed copy of what it gives up | [`Lap::oldest`]: Acquire |
//! | `tail_intent` | with `intact`           | [`Lap::tail_intent`], for people: `tail + 1` for good means that the writer died within a publish |
//!
//! The fences are what makes it sound. Say a reader has loaded a word that the writer stored after its fence; that load
//! comes before the reader's fence, so the fences synchronize, and the reader then sees the `intact` that was stored
//! before: it cannot have used a byte of frame N + k in the place of frame N without also seeing that N is gone.

use crate::RingIndex;
use crate::sync::{Ordering, Word, fence, load_acquire};

/// The hot words of the header.
#[derive(Clone, Copy)]
pub(crate) struct Lap<'a> {
    pub(crate) intact: &'a Word,
    pub(crate) oldest: &'a Word,
    pub(crate) tail_intent: &'a Word,
    pub(crate) tail: &'a Word,
}

impl Lap<'_> {
    /// Writer: everything before index `intact` is about to be overwritten by the frame before index `tail_intent`.
    pub(crate) fn claim(&self, intact: RingIndex, tail_intent: RingIndex) {
        self.intact.store(intact.0, Ordering::Relaxed);
        self.tail_intent.store(tail_intent.0, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// Writer: the frame before index `tail` is complete.
    pub(crate) fn commit(&self, tail: RingIndex) {
        self.tail.store(tail.0, Ordering::Release);
    }

    /// Writer: nothing before index `oldest` is any subject's newest any more, and the writer will overwrite it soon.
    pub(crate) fn retire(&self, oldest: RingIndex) {
        self.oldest.store(oldest.0, Ordering::Release);
    }

    /// Reader: the index that the next frame will have.
    pub(crate) fn tail(&self) -> RingIndex {
        RingIndex(load_acquire(self.tail))
    }

    /// Reader: where retired frames end.
    pub(crate) fn oldest(&self) -> RingIndex {
        RingIndex(load_acquire(self.oldest))
    }

    /// Reader: the index after the frame that the writer works on.
    pub(crate) fn tail_intent(&self) -> RingIndex {
        RingIndex(self.tail_intent.load(Ordering::Relaxed))
    }

    /// Reader, after use: was everything that it read of frame `index` still that frame?
    pub(crate) fn is_intact(&self, index: RingIndex) -> bool {
        fence(Ordering::Acquire);
        index.0 >= self.intact.load(Ordering::Relaxed)
    }
}
