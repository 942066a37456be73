//! Dice. Integers throughout, or floating point operations that IEEE 754 defines to the last bit, so that a seed gives
//! the same market on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use fanblade_wire::float::whole;

/// A seeded source of chance.
#[derive(Debug)]
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One of `0..bound`. The bias is below `bound / 2^32`: no market notices.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// The same for an index. Lists are shorter than 2^32.
    pub(super) fn index_below(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    /// One of `low..high`; `low` where that is empty.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low))
    }

    pub(super) fn coin(&mut self) -> bool {
        self.0.next_u32() & 1 == 0
    }

    /// True once in `odds`.
    pub(super) fn one_in(&mut self, odds: u32) -> bool {
        self.below(odds) == 0
    }

    /// An element of a list that is not empty.
    pub(super) fn pick<T: Copy, const N: usize>(&mut self, list: &[T; N]) -> T {
        const { assert!(N > 0) };
        list[self.index_below(N)]
    }

    /// Exponentially distributed with this mean, as far as a straight line between powers of two is a logarithm.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        let bits = self.0.next_u64() | 1;
        let halvings = bits.leading_zeros();
        let fraction = (bits << halvings << 1) as f64 * 0.5_f64.powi(64);
        // −log2 of a uniform number, whose mean by this approximation is 1.5.
        mean * (f64::from(halvings) + 1.0 - fraction) * (1.0 / 1.5)
    }

    /// How often in a row something of probability one half succeeds, at most 32 times.
    pub(super) fn successes(&mut self) -> u32 {
        self.0.next_u32().leading_zeros()
    }
}

/// Draws from a power law in constant time (Walker's alias method): rank `r` has weight `1 / (r + FLATNESS)`, so that
/// the most active instrument of 2,000 has some 5 % of the activity and the busiest tenth two thirds.
#[derive(Debug)]
pub(super) struct PowerLaw(Box<[Column]>);

/// A column of the alias table: of 2^32 chances, `own` are the column's own, the others' are `alias`.
#[derive(Debug, Clone, Copy)]
struct Column {
    own: u32,
    alias: u32,
}

impl PowerLaw {
    /// For the ranks `0..count`; `count` is at least 1 and fits 32 bits.
    pub(super) fn new(count: usize) -> Self {
        let mut chances: Vec<f64> = (0..count).map(|rank| 1.0 / (rank as f64 + FLATNESS)).collect();
        let mean = chances.iter().sum::<f64>() / count as f64;
        for chance in &mut chances {
            *chance /= mean;
        }
        // Each column holds exactly one mean: what a small one lacks, a large one gives.
        let mut columns = vec![Column { own: u32::MAX, alias: 0 }; count];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..count).partition(|&rank| chances[rank] < 1.0);
        while let (Some(&lacking), Some(&giving)) = (small.last(), large.last()) {
            small.pop();
            let own = narrow(whole(chances[lacking] * 2_f64.powi(32)));
            columns[lacking] = Column { own, alias: narrow(giving as u64) };
            chances[giving] -= 1.0 - chances[lacking];
            if chances[giving] < 1.0 {
                large.pop();
                small.push(giving);
            }
        }
        Self(columns.into_boxed_slice())
    }

    /// A rank.
    pub(super) fn draw(&self, chance: &mut Chance) -> usize {
        let rank = chance.index_below(self.0.len());
        match self.0.get(rank) {
            Some(column) if chance.0.next_u32() > column.own => column.alias as usize,
            _ => rank,
        }
    }
}

/// Where a number does not fit, the largest that does.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const FLATNESS: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_what_they_should_be() {
        let mut chance = Chance::new(1);
        let sum: f64 = (0..200_000).map(|_| chance.exponential(40.0)).sum();
        assert!((39.0..41.0).contains(&(sum / 200_000.0)), "{}", sum / 200_000.0);
        let sum: u32 = (0..200_000).map(|_| chance.successes()).sum();
        assert!((195_000..205_000).contains(&sum), "{sum}");
        let sum: u32 = (0..200_000).map(|_| chance.between(10, 13)).sum();
        assert!((2_195_000..2_205_000).contains(&sum), "{sum}");
    }

    #[test]
    fn ranks_follow_the_power_law() {
        let (law, mut chance) = (PowerLaw::new(100), Chance::new(2));
        let mut drawn = [0_u32; 100];
        for _ in 0..1_000_000 {
            drawn[law.draw(&mut chance)] += 1;
        }
        let total: f64 = (0..100).map(|rank| 1.0 / (f64::from(rank) + FLATNESS)).sum();
        for (rank, &count) in (0..).zip(&drawn) {
            let expected = 1e6 / (f64::from(rank) + FLATNESS) / total;
            assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt(), "{rank}: {count}, not {expected}");
        }
        assert_eq!(PowerLaw::new(1).draw(&mut chance), 0);
    }
}
