//! A histogram of latencies.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Power-of-two histogram with four buckets to the octave (at most 19 % wide): fixed size, written by one thread.
#[derive(Debug)]
pub struct LatencyHistogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl LatencyHistogram {
    /// Counts one value, in nanoseconds. One thread only.
    pub fn record(&self, value_ns: u64) {
        let bucket = &self.buckets[bucket_of(value_ns)];
        bucket.store(bucket.load(Relaxed) + 1, Relaxed);
    }

    /// The counts, to be subtracted from later ones for a window.
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot { counts: std::array::from_fn(|index| self.buckets[index].load(Relaxed)) }
    }
}

/// Counts of a [`LatencyHistogram`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencySnapshot {
    counts: [u64; BUCKETS],
}

impl Default for LatencySnapshot {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl LatencySnapshot {
    /// Adds another worker's counts.
    pub fn merge(&mut self, other: &LatencySnapshot) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &LatencySnapshot) -> LatencySnapshot {
        LatencySnapshot {
            counts: std::array::from_fn(|index| self.counts[index].saturating_sub(earlier.counts[index])),
        }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper edge, in nanoseconds, of the bucket that holds the quantile `q` (0 to 1); 0 when empty.
    pub fn quantile(&self, q: f64) -> u64 {
        let total = self.count();
        if total == 0 {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "q is 0 to 1, so the rank is at most total"
        )]
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge(index);
            }
        }
        upper_edge(BUCKETS - 1)
    }

    /// `(upper edge in ns, values up to it)` for each non-empty bucket, cumulative.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(index, count)| {
            seen += count;
            (upper_edge(index), seen)
        })
    }
}

fn bucket_of(value: u64) -> usize {
    if value < 4 {
        return usize::try_from(value).unwrap_or(0);
    }
    let octave = 63 - value.leading_zeros();
    let quarter = (value >> (octave - 2)) & 3;
    (octave as usize - 1) * 4 + usize::try_from(quarter).unwrap_or(0)
}

fn upper_edge(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let octave = index / 4 + 1;
    let quarter = (index % 4) as u64;
    ((5 + quarter) << (octave - 2)) - 1
}

const BUCKETS: usize = 63 * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_numbers() {
        let mut previous = 0;
        for value in (0..10_000u64).chain((14..62).map(|shift| (1 << shift) + 12_345)) {
            let index = bucket_of(value);
            assert!(index >= previous || value >= 10_000);
            assert!(upper_edge(index) >= value, "{value} in {index}");
            assert!(index == 0 || upper_edge(index - 1) < value, "{value} in {index}");
            previous = index;
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let histogram = LatencyHistogram::default();
        for value in 1..=1_000 {
            histogram.record(value * 1_000);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 1_000);
        for (q, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let ratio = snapshot.quantile(q) as f64 / exact;
            assert!((1.0..1.26).contains(&ratio), "{q}: {ratio}");
        }
        histogram.record(5);
        assert_eq!(histogram.snapshot().since(&snapshot).count(), 1);
    }
}
