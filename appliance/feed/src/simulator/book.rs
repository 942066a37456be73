//! One side of a simulated order book.

use crate::limits::SIMULATOR_ORDERS_PER_SIDE_MAX;

/// The live orders of one side, sorted; the best is the last, and of two with the same price the older.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) buying: bool,
    orders: Vec<Order>,
}

/// A live order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) reference: u64,
    /// The price, turned round where selling, so that the better order has the higher rank on either side.
    rank: u32,
    pub(super) shares: u32,
}

impl Side {
    /// An empty side, with room for all that it may hold.
    pub(super) fn new(buying: bool) -> Self {
        Self { buying, orders: Vec::with_capacity(SIMULATOR_ORDERS_PER_SIDE_MAX) }
    }

    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.orders.len() >= SIMULATOR_ORDERS_PER_SIDE_MAX
    }

    /// Inserts behind all that are as good. The caller looks at `is_full` first.
    pub(super) fn insert(&mut self, reference: u64, price: u32, shares: u32) {
        let rank = self.rank(price);
        let place = self.orders.partition_point(|order| order.rank < rank);
        self.orders.insert(place, Order { reference, rank, shares });
    }

    pub(super) fn best(&mut self) -> Option<&mut Order> {
        self.orders.last_mut()
    }

    pub(super) fn best_price(&self) -> Option<u32> {
        self.orders.last().map(|order| self.price(order))
    }

    pub(super) fn nth(&mut self, index: usize) -> Option<&mut Order> {
        self.orders.get_mut(index)
    }

    /// Takes an order out; `index` counts from the worst.
    pub(super) fn remove(&mut self, index: usize) -> Option<Order> {
        (index < self.orders.len()).then(|| self.orders.remove(index))
    }

    pub(super) fn price(&self, order: &Order) -> u32 {
        self.rank(order.rank)
    }

    /// From price to rank, and back.
    fn rank(&self, price: u32) -> u32 {
        if self.buying { price } else { !price }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn price_then_time() {
        for (buying, best_first) in [(true, [3, 1, 4, 2]), (false, [2, 1, 4, 3])] {
            let mut side = Side::new(buying);
            for (reference, price) in [(1, 20), (2, 10), (3, 30), (4, 20)] {
                side.insert(reference, price, 100);
            }
            assert_eq!(side.best_price(), Some(if buying { 30 } else { 10 }));
            let order: Vec<u64> =
                std::iter::from_fn(|| side.remove(side.len().checked_sub(1)?)).map(|order| order.reference).collect();
            assert_eq!(order, best_first);
            assert!(side.remove(0).is_none());
        }
    }
}
