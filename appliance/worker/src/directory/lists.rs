//! Lists of subscriptions that one session alone has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::set::Wish;
use crate::ids::ListId;
use crate::protocol::Mode;
use crate::slim;

/// The list of one session alone.
pub(super) struct Own {
    /// Sorted.
    pub(super) wishes: Vec<Wish>,
    /// The sum of the wishes' hashes, so that the cost of a change follows from what changes.
    pub(super) hash: u32,
    /// How many wishes are in [`Mode::All`].
    pub(super) alls: u32,
}

/// All lists of sessions alone.
pub(super) struct Lists {
    pub(super) slots: Vec<Own>,
    pub(super) free: Vec<ListId>,
    /// How many lists have each hash.
    pub(super) counts: HashMap<u32, u32>,
    /// Random, so that no client can choose sets whose hashes collide.
    pub(super) seed: u64,
    /// Wishes in all lists.
    pub(super) wishes: u64,
}

impl Default for Lists {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0);
        Self { slots: Vec::new(), free: Vec::new(), counts: HashMap::new(), seed, wishes: 0 }
    }
}

impl Lists {
    /// A bijection of 64 bits that looks random (the finaliser of splitmix64), cut to half.
    pub(super) fn mix(&self, word: u32) -> u32 {
        let mut mixed = self.seed ^ u64::from(word);
        for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
            mixed = (mixed ^ mixed >> 30).wrapping_mul(factor);
        }
        u32::try_from(mixed >> 32).unwrap_or(0)
    }

    pub(super) fn begin(&mut self, wishes: Vec<Wish>, hash: u32) -> ListId {
        let alls = wishes.iter().filter(|wish| wish.mode() == Mode::All).count();
        self.count(hash, true);
        self.wishes += wishes.len() as u64;
        let own = Own { wishes, hash, alls: u32::try_from(alls).unwrap_or(u32::MAX) };
        if let Some(place) = self.free.pop() {
            self.slots[place.index()] = own;
            return place;
        }
        slim::make_room(&mut self.slots);
        self.slots.push(own);
        ListId::of(self.slots.len() - 1)
    }

    pub(super) fn end(&mut self, list: ListId) -> Vec<Wish> {
        let own = &mut self.slots[list.index()];
        let wishes = std::mem::take(&mut own.wishes);
        let hash = own.hash;
        self.count(hash, false);
        self.wishes -= wishes.len() as u64;
        slim::make_room(&mut self.free);
        self.free.push(list);
        if self.free.len() == self.slots.len() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
        wishes
    }

    pub(super) fn rehash(&mut self, list: ListId, hash: u32) {
        let old = std::mem::replace(&mut self.slots[list.index()].hash, hash);
        self.count(old, false);
        self.count(hash, true);
    }

    fn count(&mut self, hash: u32, is_more: bool) {
        if is_more {
            *self.counts.entry(hash).or_insert(0) += 1;
            return;
        }
        if let Some(count) = self.counts.get_mut(&hash) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&hash);
            }
        }
        if self.counts.capacity() > COUNTS_KEPT && self.counts.capacity() / 4 > self.counts.len() {
            self.counts.shrink_to(self.counts.len() * 2);
        }
    }
}

impl Own {
    /// Adds a wish, or replaces the one for the same filter. `true`: there was none.
    pub(super) fn put(&mut self, wish: Wish) -> bool {
        self.alls += u32::from(wish.mode() == Mode::All);
        match self.wishes.binary_search_by_key(&wish.key(), |it| it.key()) {
            Ok(place) => {
                let old = std::mem::replace(&mut self.wishes[place], wish);
                self.alls -= u32::from(old.mode() == Mode::All);
                false
            }
            Err(place) => {
                slim::make_room(&mut self.wishes);
                self.wishes.insert(place, wish);
                true
            }
        }
    }

    pub(super) fn take(&mut self, wish: Wish) {
        if let Ok(place) = self.wishes.binary_search(&wish) {
            self.wishes.remove(place);
            self.alls -= u32::from(wish.mode() == Mode::All);
            slim::give_back(&mut self.wishes);
        }
    }
}

/// Counts of this many sets keep their memory.
const COUNTS_KEPT: usize = 64;
