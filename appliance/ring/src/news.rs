//! What the writer has to say beside frames: whether its source is current, and what it could not take.
//!
//! States, not messages: they cannot be lost, a reader that comes late finds them, and however often they change, they
//! take no more room. A reader looks at one word; only when that has moved does it look further.

use crate::sync::{Ordering, Word, load_acquire};

/// Is what the writer publishes the present?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Currency {
    /// How often that has changed.
    pub changes: u64,
    /// It is not the present.
    pub is_stale: bool,
}

/// Updates of subjects that have no place in the ring's table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unplaced {
    /// The number before the first of them in this epoch.
    pub after: u64,
    /// The number of the newest; 0 if there was none.
    pub newest: u64,
}

/// The words in shared memory.
#[derive(Clone, Copy)]
pub(crate) struct News<'a>(pub(crate) &'a [Word]);

impl News<'_> {
    /// Writer: counts a change. Who sees the count sees what was stored before it.
    fn tell(&self) {
        self.0[COUNT].store(self.0[COUNT].load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Writer: returns whether that is news.
    pub(crate) fn set_stale(&self, is_stale: bool) -> bool {
        let Currency { changes, is_stale: was_stale } = self.currency();
        if was_stale != is_stale {
            self.0[CURRENCY].store((changes + 1) << 1 | u64::from(is_stale), Ordering::Relaxed);
            self.tell();
        }
        was_stale != is_stale
    }

    /// Writer: an update of a subject was refused, which has been noted in the subject table.
    pub(crate) fn note_refused(&self) {
        self.0[REFUSED].store(self.0[REFUSED].load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.tell();
    }

    /// Writer: one of a subject without a place.
    pub(crate) fn note_unplaced(&self, seq: u64) {
        if self.0[UNPLACED].load(Ordering::Relaxed) == 0 {
            self.0[UNPLACED_AFTER].store(seq.saturating_sub(1), Ordering::Relaxed);
        }
        self.0[UNPLACED].store(seq, Ordering::Relaxed);
        self.note_refused();
    }

    /// Writer: numbers begin anew.
    pub(crate) fn forget_unplaced(&self) {
        self.0[UNPLACED].store(0, Ordering::Relaxed);
    }

    /// Changes whenever anything else here does.
    pub(crate) fn count(&self) -> u64 {
        load_acquire(&self.0[COUNT])
    }

    pub(crate) fn currency(&self) -> Currency {
        let word = self.0[CURRENCY].load(Ordering::Relaxed);
        Currency { changes: word >> 1, is_stale: word & 1 != 0 }
    }

    pub(crate) fn refused(&self) -> u64 {
        self.0[REFUSED].load(Ordering::Relaxed)
    }

    pub(crate) fn unplaced(&self) -> Unplaced {
        let newest = self.0[UNPLACED].load(Ordering::Relaxed);
        Unplaced { after: self.0[UNPLACED_AFTER].load(Ordering::Relaxed), newest }
    }
}

const COUNT: usize = 0;
const CURRENCY: usize = 1;
const REFUSED: usize = 2;
const UNPLACED: usize = 3;
const UNPLACED_AFTER: usize = 4;
/// Words of the header page that the news take.
pub(crate) const NEWS_WORDS: usize = 5;
