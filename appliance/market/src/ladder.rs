//! One side of a book: its price levels, sorted.
//!
//! The best level is the last, since the best is where nearly everything happens: a change there moves nothing. Of
//! the levels that a book shows the text is kept, too: a message changes one of them, and is followed by an image of
//! twenty.

use crate::image::Side;
use crate::level::{Level, LevelText, Levels};
use crate::limits::{BOOK_LEVELS, LEVELS_PER_SIDE_MAX};

/// How many levels are better than the one that changed; 0 is the best itself.
pub(crate) type Depth = usize;

#[derive(Debug, Default)]
pub(crate) struct Ladder {
    levels: Vec<Level>,
    /// Of the levels that a book shows, best first; those beyond the last level mean nothing.
    texts: [LevelText; BOOK_LEVELS],
}

impl Ladder {
    /// Worst first.
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The best levels.
    pub(crate) fn best(&self) -> Levels<'_> {
        Levels::best_of(&self.levels, &self.texts)
    }

    /// An order enters. None: it would need a level too many.
    pub(crate) fn enter(&mut self, side: Side, price: u32, shares: u32) -> Option<Depth> {
        match self.position(side, price) {
            Ok(index) => {
                let level = &mut self.levels[index];
                level.orders += 1;
                level.shares += u64::from(shares);
                let depth = self.levels.len() - 1 - index;
                self.write(depth);
                Some(depth)
            }
            Err(_) if self.levels.len() >= LEVELS_PER_SIDE_MAX => None,
            Err(index) => {
                self.levels.insert(index, Level { price, orders: 1, shares: u64::from(shares) });
                let depth = self.levels.len() - 1 - index;
                if depth < BOOK_LEVELS {
                    self.texts.copy_within(depth..BOOK_LEVELS - 1, depth + 1);
                }
                self.write(depth);
                Some(depth)
            }
        }
    }

    /// An order shrinks, or leaves with the last of its shares.
    pub(crate) fn reduce(&mut self, side: Side, price: u32, shares: u32, leaves: bool) -> Depth {
        // Every live order stands in its level, so there is one; were there none, nothing would have changed.
        let Ok(index) = self.position(side, price) else { return Depth::MAX };
        let depth = self.levels.len() - 1 - index;
        let level = &mut self.levels[index];
        level.shares -= u64::from(shares);
        level.orders -= u32::from(leaves);
        if level.orders > 0 {
            self.write(depth);
        } else {
            self.levels.remove(index);
            if depth < BOOK_LEVELS {
                self.texts.copy_within(depth + 1.., depth);
                self.write(BOOK_LEVELS - 1);
            }
        }
        depth
    }

    /// Renews the text of the level at this depth, if a book shows it.
    fn write(&mut self, depth: Depth) {
        let index = self.levels.len().checked_sub(1 + depth);
        if let (Some(text), Some(index)) = (self.texts.get_mut(depth), index) {
            *text = LevelText::of(&self.levels[index]);
        }
    }

    /// Where the level lies, or where it would have to be put.
    fn position(&self, side: Side, price: u32) -> Result<usize, usize> {
        match side {
            Side::Buy => self.levels.binary_search_by(|level| level.price.cmp(&price)),
            Side::Sell => self.levels.binary_search_by(|level| price.cmp(&level.price)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(ladder: &Ladder) -> Vec<u32> {
        ladder.levels().iter().map(|level| level.price).collect()
    }

    #[test]
    fn the_best_is_last() {
        let (mut bids, mut asks) = (Ladder::default(), Ladder::default());
        for price in [20, 10, 30] {
            bids.enter(Side::Buy, price, 1);
            asks.enter(Side::Sell, price, 1);
        }
        assert_eq!((prices(&bids), prices(&asks)), (vec![10, 20, 30], vec![30, 20, 10]));
        assert_eq!(bids.enter(Side::Buy, 15, 1), Some(2));
        assert_eq!(asks.enter(Side::Sell, 5, 1), Some(0));
    }

    #[test]
    fn counts_orders_and_shares() {
        let mut bids = Ladder::default();
        assert_eq!(bids.enter(Side::Buy, 10, 100), Some(0));
        assert_eq!(bids.enter(Side::Buy, 10, u32::MAX), Some(0));
        assert_eq!(bids.levels(), [Level { price: 10, orders: 2, shares: 100 + u64::from(u32::MAX) }]);
        assert_eq!(bids.reduce(Side::Buy, 10, u32::MAX, true), 0);
        assert_eq!(bids.reduce(Side::Buy, 10, 60, false), 0);
        assert_eq!(bids.levels(), [Level { price: 10, orders: 1, shares: 40 }]);
        assert_eq!(bids.reduce(Side::Buy, 10, 40, true), 0);
        assert_eq!(bids.levels(), []);
    }

    #[test]
    fn refuses_a_level_too_many() {
        let mut bids = Ladder::default();
        for price in 1..=u32::try_from(LEVELS_PER_SIDE_MAX).expect("fits") {
            assert_eq!(bids.enter(Side::Buy, price, 1), Some(0));
        }
        assert_eq!(bids.enter(Side::Buy, 1 << 20, 1), None);
        assert_eq!(bids.enter(Side::Buy, 1, 1), Some(LEVELS_PER_SIDE_MAX - 1));
    }
}
