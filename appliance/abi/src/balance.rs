//! Which worker gets a new connection.
//!
//! Two candidates are drawn by weight from the connection's hash, and the one that holds fewer connections for its
//! weight gets it ("the power of two choices"). While no loads are published, or the loads are level, the shares follow
//! the weights exactly; as soon as the loads differ, the choice levels them. A slightly old load figure does no harm,
//! since no worker is the first choice of all connections. A worker of weight 0 is never drawn.

use crate::WorkerSlot;
use crate::limits::WEIGHT_MAX;

/// The choice for one connection, in two rounds over the workers: [`weigh`](Self::weigh) each, [`draw`](Self::draw),
/// [`offer`](Self::offer) each, [`index`](Self::index).
///
/// The caller walks over the workers: [`choose`] over a slice, `steer` by `bpf_loop`, because the kernel's verifier
/// checks the body of `bpf_loop` once instead of once for every path through all workers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    hash: u32,
    total: u32,
    first_at: u32,
    second_at: u32,
    end: u32,
    first: Candidate,
    second: Candidate,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Candidate {
    index: u32,
    weight: u32,
    connections: u32,
}

impl Choice {
    /// A choice for a connection with this hash.
    #[inline(always)]
    #[must_use]
    pub const fn new(hash: u32) -> Self {
        let nobody = Candidate { index: 0, weight: 0, connections: 0 };
        Self { hash, total: 0, first_at: 0, second_at: 0, end: 0, first: nobody, second: nobody }
    }

    /// First round: adds a worker's weight to the sum.
    #[inline(always)]
    pub const fn weigh(&mut self, worker: WorkerSlot) {
        self.total = self.total.wrapping_add(weight(worker));
    }

    /// Between the rounds: draws the two candidates.
    #[inline(always)]
    pub const fn draw(&mut self) {
        self.first_at = scale(self.hash ^ FIRST_SEED, self.total);
        self.second_at = scale(self.hash ^ SECOND_SEED, self.total);
    }

    /// Second round: the worker whose share of the sum holds a draw is its candidate.
    ///
    /// Weights may have changed since the first round. If a draw then lies beyond the sum of all weights, the last
    /// worker with a weight takes it; a worker of weight 0 never takes one.
    #[inline(always)]
    pub const fn offer(&mut self, index: u32, worker: WorkerSlot) {
        let weight = weight(worker);
        if weight == 0 {
            return;
        }
        let start = self.end;
        self.end = start.wrapping_add(weight);
        let candidate = Candidate { index, weight, connections: worker.connections };
        if self.first_at >= start {
            self.first = candidate;
        }
        if self.second_at >= start {
            self.second = candidate;
        }
    }

    /// The less loaded of the two, the first if they are level; `None` if no worker has a weight.
    #[inline(always)]
    #[must_use]
    pub const fn index(&self) -> Option<u32> {
        if self.first.weight == 0 {
            return None;
        }
        // Connections for each unit of weight, without a division: a/wa < b/wb is a*wb < b*wa.
        let second_load = self.second.connections as u64 * self.first.weight as u64;
        let first_load = self.first.connections as u64 * self.second.weight as u64;
        Some(if second_load < first_load { self.second.index } else { self.first.index })
    }
}

/// Index of the worker for a connection with this hash; `None` if none has a weight.
#[must_use]
pub fn choose(hash: u32, workers: &[WorkerSlot]) -> Option<u32> {
    let mut choice = Choice::new(hash);
    for worker in workers {
        choice.weigh(*worker);
    }
    choice.draw();
    for (index, worker) in (0..).zip(workers) {
        choice.offer(index, *worker);
    }
    choice.index()
}

#[inline(always)]
const fn weight(worker: WorkerSlot) -> u32 {
    if worker.weight < WEIGHT_MAX { worker.weight } else { WEIGHT_MAX }
}

/// An evenly spread number below `below`. The kernel's hash is good, but both draws come from it: each is mixed with
/// its own seed (the finalizer of MurmurHash3), and scaled by multiplication instead of a remainder.
#[inline(always)]
const fn scale(seeded: u32, below: u32) -> u32 {
    let mut mixed = seeded;
    mixed ^= mixed >> 16;
    mixed = mixed.wrapping_mul(0x85eb_ca6b);
    mixed ^= mixed >> 13;
    mixed = mixed.wrapping_mul(0xc2b2_ae35);
    mixed ^= mixed >> 16;
    ((mixed as u64 * below as u64) >> 32) as u32
}

const FIRST_SEED: u32 = 0x9e37_79b9;
const SECOND_SEED: u32 = 0x7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WORKERS_MAX;

    const HASHES: u32 = 100_000;

    /// Shares of many connections over the whole range of the hash; `held` adds each given connection to the load.
    fn shares<const N: usize>(mut slots: [WorkerSlot; N], held: bool) -> [u32; N] {
        let mut shares = [0; N];
        for n in 0..HASHES {
            let hash = n.wrapping_mul(0x9e37_79b1);
            let index = choose(hash, &slots).unwrap() as usize;
            shares[index] += 1;
            if held {
                slots[index].connections += 1;
            }
        }
        shares
    }

    fn weighted(weight: u32) -> WorkerSlot {
        WorkerSlot { weight, ..WorkerSlot::default() }
    }

    #[test]
    fn shares_follow_the_weights() {
        let shares = shares([weighted(100), weighted(300), weighted(0), weighted(600)], false);
        assert_eq!(shares[2], 0, "a worker of weight 0 got connections: {shares:?}");
        for (share, expected) in [(shares[0], 10_000), (shares[1], 30_000), (shares[3], 60_000)] {
            assert!(share.abs_diff(expected) < 600, "{shares:?}");
        }
    }

    #[test]
    fn published_load_levels_the_shares_further() {
        let slots = [weighted(1), weighted(2), weighted(3), weighted(4)];
        let shares = shares(slots, true);
        for (index, share) in shares.into_iter().enumerate() {
            assert!(share.abs_diff(u32::try_from(index + 1).unwrap() * 10_000) < 20, "{shares:?}");
        }
    }

    #[test]
    fn a_loaded_worker_gets_less_and_is_not_starved() {
        let mut slots = [weighted(1); 4];
        slots[0].connections = 1_000_000;
        let shares = shares(slots, false);
        // The loaded worker gets only connections for which it was drawn twice: one in 16.
        assert!(shares[0].abs_diff(HASHES / 16) < 600, "{shares:?}");
        for share in &shares[1..] {
            assert!(share.abs_diff(HASHES * 15 / 48) < 600, "{shares:?}");
        }
    }

    #[test]
    fn one_worker_and_none() {
        assert_eq!(shares([weighted(7)], false), [HASHES]);
        assert_eq!(choose(1, &[weighted(0); 4]), None);
        assert_eq!(choose(1, &[]), None);
    }

    #[test]
    fn wild_weights_and_counts_stay_in_range() {
        let slots = [WorkerSlot { weight: u32::MAX, connections: u32::MAX, steered: 0 }; WORKERS_MAX as usize];
        for hash in [0, 1, u32::MAX / 2, u32::MAX] {
            assert!(choose(hash, &slots).unwrap() < WORKERS_MAX);
        }
    }

    #[test]
    fn weights_that_change_between_the_rounds_leave_nobody_without() {
        for hash in 0..1000 {
            let mut choice = Choice::new(hash);
            choice.weigh(weighted(1000));
            choice.weigh(weighted(1000));
            choice.draw();
            choice.offer(0, weighted(3));
            choice.offer(1, weighted(0));
            assert_eq!(choice.index(), Some(0));
        }
    }
}
