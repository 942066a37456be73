//! Which numbering is current, since which frame, and by what name.
//!
//! Two places, used in turn: the writer fills the other one, then moves `generation`. A reader is disturbed only if a
//! second epoch begins while it reads the first, and sees that by `generation`, which it reads again afterwards.

use crate::ids::{LanePosition, RingIndex};
use crate::limits::EPOCH_LEN_MAX;
use crate::sync::{Ordering, Word, fence, load_acquire};
use crate::words::{load_bytes, store_bytes};

/// An epoch as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// 1 for the ring's first.
    pub(crate) generation: u32,
    /// Ring index of its first frame.
    pub(crate) start: RingIndex,
    pub(crate) name: String,
    /// The history is whole for numbers above this one; below it, frames may never have been made. Rises only.
    pub(crate) floor: u64,
}

/// The epochs in shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Epochs<'a> {
    pub(crate) generation: &'a Word,
    pub(crate) places: &'a [Word],
}

impl<'a> Epochs<'a> {
    /// Writer: the name must have been checked.
    pub(crate) fn begin(&self, epoch: &Epoch) {
        // Pairs with the fence in `read`: who sees any of the stores below also sees the generation before this one,
        // and so knows that the one before that, whose place they take, is over.
        fence(Ordering::Release);
        let place = self.place(epoch.generation);
        place[START].store(epoch.start.0, Ordering::Relaxed);
        place[NAME_LEN].store(epoch.name.len() as u64, Ordering::Relaxed);
        place[FLOOR].store(epoch.floor, Ordering::Relaxed);
        store_bytes(&place[NAME..FLOOR], LanePosition::default(), epoch.name.as_bytes());
        self.generation.store(u64::from(epoch.generation), Ordering::Release);
    }

    /// Writer: raises the floor of the current epoch. Release: who sees a later frame sees the floor below it.
    pub(crate) fn raise_floor(&self, floor: u64) {
        self.place(low_word(self.generation.load(Ordering::Relaxed)))[FLOOR].store(floor, Ordering::Release);
    }

    pub(crate) fn generation(&self) -> u32 {
        low_word(load_acquire(self.generation))
    }

    pub(crate) fn read(&self) -> Epoch {
        loop {
            let generation = self.generation();
            let place = self.place(generation);
            let start = RingIndex(place[START].load(Ordering::Relaxed));
            let len = place[NAME_LEN].load(Ordering::Relaxed);
            let floor = place[FLOOR].load(Ordering::Relaxed);
            let mut name = Vec::new();
            load_bytes(&place[NAME..FLOOR], LanePosition::default(), EPOCH_LEN_MAX, &mut name);
            fence(Ordering::Acquire);
            // Differs only if two epochs began meanwhile: each turn of this loop costs the writer two.
            if low_word(self.generation.load(Ordering::Relaxed)) == generation {
                name.truncate(usize::try_from(len).unwrap_or(0));
                return Epoch { generation, start, name: String::from_utf8_lossy(&name).into_owned(), floor };
            }
        }
    }

    fn place(&self, generation: u32) -> &'a [Word] {
        &self.places[(generation & 1) as usize * PLACE_WORDS..][..PLACE_WORDS]
    }
}

/// A generation, of the word that it is stored in.
fn low_word(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

/// Words of both places.
pub(crate) const EPOCHS_WORDS: usize = 2 * PLACE_WORDS;

const PLACE_WORDS: usize = 8;
const START: usize = 0;
const NAME_LEN: usize = 1;
/// Four words, a power of two as `store_bytes` wants.
const NAME: usize = 2;
const FLOOR: usize = 6;
