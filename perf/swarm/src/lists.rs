//! Lists of subjects that differ from client to client, as traders have them. Each client has subjects of its own,
//! drawn by a power law: the subject of rank `r` is drawn with a weight of `r` to the minus `exponent`. The list that a
//! client begins with is a function of its number, the seed and the shape, so that two swarms with the same seed and
//! shape have the same lists, and a third party can tell what is in them.

use std::sync::Arc;

use anyhow::ensure;

use super::random::{mixed, place};

/// The shape of the lists, in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Subjects of a client.
    pub per_client: u32,
    /// 0: all subjects are equally popular.
    pub exponent: f64,
}

/// The lists of all clients.
#[derive(Debug, Clone)]
pub struct Lists {
    per_client: u32,
    seed: u64,
    /// For each rank, the sum of the weights up to and including it.
    sums: Arc<[f64]>,
    /// The subject of each rank. They are shuffled, so that the popular ones are not published one after the other.
    ranked: Arc<[u32]>,
}

impl Lists {
    /// Refuses lists that cannot be: longer than [`LIST_LEN_MAX`], or of all subjects.
    pub fn new(shape: Shape, subjects: u32, seed: u64) -> anyhow::Result<Lists> {
        let Shape { per_client, exponent } = shape;
        ensure!(
            (1..=LIST_LEN_MAX).contains(&per_client) && per_client < subjects,
            "a list has 1 to {LIST_LEN_MAX} subjects, and fewer than the {subjects} that there are, not {per_client}"
        );
        ensure!(
            (0.0..=EXPONENT_MAX).contains(&exponent),
            "the exponent of popularity must be 0 to {EXPONENT_MAX}, not {exponent}"
        );
        let mut sum = 0.0;
        let sums = (1..=subjects).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        let sums = sums.collect();
        let mut ranked: Vec<u32> = (0..subjects).collect();
        // Fisher and Yates.
        for end in (1..ranked.len()).rev() {
            ranked.swap(end, place(mixed(seed ^ SHUFFLE ^ end as u64), end + 1));
        }
        Ok(Lists { per_client, seed, sums, ranked: ranked.into() })
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn per_client(&self) -> usize {
        self.per_client as usize
    }

    /// The subjects that `client` begins with, each only once.
    pub(crate) fn of(&self, client: u32) -> Vec<u32> {
        let mut list = Vec::with_capacity(self.per_client());
        for number in 0..u64::from(self.per_client) {
            let subject = self.other(&list, mixed(self.seed ^ u64::from(client)).wrapping_add(number << 32));
            list.push(subject);
        }
        list
    }

    /// A subject that is not in `list`, drawn by popularity. `number` decides which.
    pub(crate) fn other(&self, list: &[u32], number: u64) -> u32 {
        let mut drawn = (0..DRAWS_MAX).map(|draw| self.draw(mixed(number.wrapping_add(draw))));
        let is_new = |subject: &u32| !list.contains(subject);
        // If a list holds nearly all that is ever drawn: the most popular one that it lacks. There always is one.
        let found = drawn.find(is_new).or_else(|| self.ranked.iter().copied().find(is_new));
        found.unwrap_or_default()
    }

    fn draw(&self, random: u64) -> u32 {
        let whole = self.sums.last().copied().unwrap_or_default();
        // 53 bits, as many as the fraction of a double has.
        let at = (random >> 11) as f64 / (1u64 << 53) as f64 * whole;
        let rank = self.sums.partition_point(|sum| *sum <= at).min(self.ranked.len() - 1);
        self.ranked[rank]
    }
}

/// Lists stand in an address, which has 8 KiB at most.
pub const LIST_LEN_MAX: u32 = 500;
const EXPONENT_MAX: f64 = 4.0;
const DRAWS_MAX: u64 = 256;
/// Gives another random sequence than the lists'.
const SHUFFLE: u64 = 0x5a0f_f1e5 << 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(per_client: u32, exponent: f64, subjects: u32, seed: u64) -> anyhow::Result<Lists> {
        Lists::new(Shape { per_client, exponent }, subjects, seed)
    }

    #[test]
    fn the_same_seed_gives_the_same_lists_of_different_subjects() {
        let (one, again, other) = (lists(50, 1.0, 8_000, 1), lists(50, 1.0, 8_000, 1), lists(50, 1.0, 8_000, 2));
        let (one, again, other) = (one.unwrap(), again.unwrap(), other.unwrap());
        for client in 0..1_000 {
            let mut list = one.of(client);
            assert_eq!((list.len(), &list), (50, &again.of(client)));
            assert_ne!(list, other.of(client));
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), 50, "client {client} has one twice");
            assert!(list.iter().all(|subject| *subject < 8_000));
        }
        assert_ne!(one.of(1), one.of(2));
    }

    #[test]
    fn popularity_falls_with_the_exponent() {
        let holders = |exponent: f64| {
            let lists = lists(5, exponent, 1_000, 1).unwrap();
            let mut holders = vec![0u32; 1_000];
            (0..20_000).flat_map(|client| lists.of(client)).for_each(|subject| holders[subject as usize] += 1);
            // By rank.
            lists.ranked.iter().map(|subject| holders[*subject as usize]).collect::<Vec<_>>()
        };
        let even = holders(0.0);
        assert!(even.iter().all(|count| (50..160).contains(count)), "{even:?}");
        let steep = holders(1.0);
        // The law gives a tenth as many. The first is in so many lists that drawing it twice would show.
        let ratio = f64::from(steep[9]) / f64::from(steep[99]);
        assert!((7.0..12.0).contains(&ratio), "{ratio}");
        assert!(steep[0] > 3 * steep[9], "{} {}", steep[0], steep[9]);
    }

    #[test]
    fn a_list_may_have_all_subjects_but_one() {
        let lists = lists(9, 4.0, 10, 1).unwrap();
        let mut list = lists.of(3);
        let last = lists.other(&list, 7);
        list.push(last);
        list.sort_unstable();
        assert_eq!(list, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (per_client, exponent, subjects) in
            [(0, 1.0, 10), (10, 1.0, 10), (501, 1.0, 1_000), (5, -1.0, 10), (5, 9.0, 10)]
        {
            assert!(lists(per_client, exponent, subjects, 1).is_err(), "{per_client} {exponent} {subjects}");
        }
    }
}
