//! The live orders: one flat table from order reference to order.
//!
//! Open addressing with linear probing in a table of fixed size, at most half full. Removing moves later entries
//! back instead of leaving a mark, so the table never wears out, is never rebuilt, and never allocates: the standard
//! map does both when it pleases, in the middle of a burst. The hash is keyed at random per table, so that nobody
//! can choose references that collide.

use std::hash::{BuildHasher, RandomState};

use zerocopy::FromZeros;

use crate::counters::Skipped;
use crate::image::Side;
use crate::limits::ORDER_PROBES_MAX;

/// A live order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) locate: u16,
    pub(crate) side: Side,
    pub(crate) price: u32,
    pub(crate) shares: u32,
}

/// Where an order lies until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(usize);

#[derive(Debug)]
pub(crate) struct Orders {
    entries: Vec<Entry>,
    len: usize,
    orders_max: usize,
    keys: [u64; 2],
}

#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C)]
struct Entry {
    reference: u64,
    price: u32,
    shares: u32,
    locate: u16,
    /// `B`, `S`, or 0 where the entry is free.
    side: u8,
}

impl Orders {
    pub(crate) fn new(orders_max: usize) -> Orders {
        let random = RandomState::new();
        Orders {
            entries: zeroed(orders_max.max(1).next_power_of_two() * 2),
            len: 0,
            orders_max,
            keys: [random.hash_one(0), random.hash_one(1) | 1],
        }
    }

    /// Number of live orders.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn find(&self, reference: u64) -> Option<(Slot, Order)> {
        let home = self.home(reference);
        for step in 0..ORDER_PROBES_MAX {
            let index = self.wrap(home + step);
            let entry = &self.entries[index];
            let side = Side::from_code(entry.side)?;
            if entry.reference == reference {
                let order = Order { locate: entry.locate, side, price: entry.price, shares: entry.shares };
                return Some((Slot(index), order));
            }
        }
        None
    }

    /// Fails where the reference is taken or the table full; nothing changes then.
    pub(crate) fn insert(&mut self, reference: u64, order: Order) -> Result<Slot, Skipped> {
        let home = self.home(reference);
        for step in 0..ORDER_PROBES_MAX {
            let index = self.wrap(home + step);
            let entry = &mut self.entries[index];
            if entry.side == 0 {
                if self.len >= self.orders_max {
                    return Err(Skipped::OrdersFull);
                }
                let Order { locate, side, price, shares } = order;
                *entry = Entry { reference, price, shares, locate, side: side as u8 };
                self.len += 1;
                return Ok(Slot(index));
            }
            if entry.reference == reference {
                return Err(Skipped::DuplicateReference);
            }
        }
        Err(Skipped::OrdersFull)
    }

    pub(crate) fn set_shares(&mut self, slot: Slot, shares: u32) {
        self.entries[slot.0].shares = shares;
    }

    /// Frees the slot and closes the hole, so that each order stays reachable from its home without a gap.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let mut hole = slot.0;
        let mut index = hole;
        // Ends at the next free entry, of which at least half of all are.
        loop {
            index = self.wrap(index + 1);
            let entry = self.entries[index];
            if entry.side == 0 {
                break;
            }
            // It may move back into the hole if its home does not lie behind the hole.
            let from_home = self.wrap(index.wrapping_sub(self.home(entry.reference)));
            let from_hole = self.wrap(index.wrapping_sub(hole));
            if from_home >= from_hole {
                self.entries[hole] = entry;
                hole = index;
            }
        }
        self.entries[hole].side = 0;
        self.len -= 1;
    }

    /// Forgets all orders.
    pub(crate) fn clear(&mut self) {
        // A new table, since clearing the old one would touch all its pages.
        let len = std::mem::take(&mut self.entries).len();
        self.entries = zeroed(len);
        self.len = 0;
    }

    fn home(&self, reference: u64) -> usize {
        let [a, b] = self.keys;
        let product = u128::from(reference ^ a) * u128::from(b);
        self.wrap((product ^ (product >> 64)) as usize)
    }

    /// The table's length is a power of two.
    fn wrap(&self, index: usize) -> usize {
        index & (self.entries.len() - 1)
    }
}

/// Zeroed by the allocator, so that a page costs memory only once it is used.
fn zeroed(len: usize) -> Vec<Entry> {
    Entry::new_vec_zeroed(len).unwrap_or_else(|_| vec![Entry::new_zeroed(); len])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const ORDER: Order = Order { locate: 7, side: Side::Buy, price: 100, shares: 10 };

    #[test]
    fn refuses_what_it_cannot_hold() {
        let mut orders = Orders::new(3);
        for reference in [0, 1, u64::MAX] {
            assert!(orders.insert(reference, ORDER).is_ok());
        }
        assert_eq!(orders.insert(1, ORDER), Err(Skipped::DuplicateReference));
        assert_eq!(orders.insert(2, ORDER), Err(Skipped::OrdersFull));
        let (slot, order) = orders.find(u64::MAX).expect("inserted");
        assert_eq!(order, ORDER);
        orders.remove(slot);
        assert_eq!((orders.find(u64::MAX), orders.len()), (None, 2));
        assert!(orders.insert(2, ORDER).is_ok());
        orders.clear();
        assert_eq!((orders.find(2), orders.len()), (None, 0));
    }

    proptest! {
        /// A small table and few references: collisions, runs over its end and holes are the rule.
        #[test]
        fn behaves_like_the_standard_map(steps in prop::collection::vec((0..40u64, 0..3u8, 1..1000u32), 0..400)) {
            let (mut orders, mut model) = (Orders::new(16), HashMap::new());
            for (reference, action, shares) in steps {
                match (action, orders.find(reference)) {
                    (0, found) => {
                        let full = model.len() == 16;
                        let expected = match found {
                            Some(_) => Err(Skipped::DuplicateReference),
                            None if full => Err(Skipped::OrdersFull),
                            None => Ok(()),
                        };
                        let order = Order { shares, ..ORDER };
                        prop_assert_eq!(orders.insert(reference, order).map(drop), expected);
                        if expected.is_ok() {
                            model.insert(reference, order);
                        }
                    }
                    (1, Some((slot, order))) => {
                        orders.set_shares(slot, shares);
                        model.insert(reference, Order { shares, ..order });
                    }
                    (_, Some((slot, _))) => {
                        orders.remove(slot);
                        model.remove(&reference);
                    }
                    (_, None) => prop_assert!(!model.contains_key(&reference)),
                }
                prop_assert_eq!(orders.len(), model.len());
                for reference in 0..40 {
                    prop_assert_eq!(orders.find(reference).map(|(_, order)| order), model.get(&reference).copied());
                }
            }
        }
    }
}
