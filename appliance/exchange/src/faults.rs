//! Faults of the network, made from a seed: the same packets meet the same fate in each replay.

use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::limits::REORDER_DISTANCE_MAX;

/// A probability, given in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Percent(f64);

/// How often each fault happens to the packets of one line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odds {
    pub(super) drop: Percent,
    pub(super) reorder: Percent,
    pub(super) duplicate: Percent,
}

/// What happens to one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// How often it is sent in its turn.
    pub(super) copies: u32,
    /// The number of later packets after which it is sent (once more).
    pub(super) late: Option<u32>,
}

/// The dice of one line.
#[derive(Debug)]
pub(super) struct Faults {
    odds: Odds,
    chance: ChaCha8Rng,
}

impl Faults {
    /// The dice of a seed with the number `stream`. Each stream has a sequence of its own.
    pub(super) fn new(odds: Odds, seed: u64, stream: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(stream);
        Self { odds, chance }
    }

    /// What happens to the next packet. The number of draws is always the same, so that which packets are lost does not
    /// depend on how many are reordered.
    pub(super) fn fate(&mut self) -> Fate {
        let [dropped, reordered, doubled] =
            [self.odds.drop, self.odds.reorder, self.odds.duplicate].map(|odds| odds.strikes(&mut self.chance));
        let distance = 1 + self.chance.next_u32() % REORDER_DISTANCE_MAX;
        match (dropped, reordered, doubled) {
            (true, _, _) => Fate { copies: 0, late: None },
            (false, false, doubled) => Fate { copies: 1 + u32::from(doubled), late: None },
            // One of two copies is on time.
            (false, true, doubled) => Fate { copies: u32::from(doubled), late: Some(distance) },
        }
    }
}

impl Percent {
    /// Throws the dice.
    pub(super) fn strikes(self, chance: &mut ChaCha8Rng) -> bool {
        f64::from(chance.next_u32()) < self.0 / 100.0 * 2_f64.powi(32)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches('%').parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self(percent)),
            _ => Err(format!("`{text}` is not a percentage; write 5 or 0.5")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(drop: &str, reorder: &str, duplicate: &str, seed: u64, stream: u64) -> Vec<Fate> {
        let [drop, reorder, duplicate] = [drop, reorder, duplicate].map(|text| text.parse().unwrap());
        let mut faults = Faults::new(Odds { drop, reorder, duplicate }, seed, stream);
        std::iter::repeat_with(|| faults.fate()).take(100_000).collect()
    }

    #[test]
    fn a_seed_and_a_line_decide() {
        let one = fates("5", "1", "2", 7, 0);
        assert_eq!(one, fates("5", "1", "2", 7, 0));
        assert_ne!(one, fates("5", "1", "2", 8, 0));
        assert_ne!(one, fates("5", "1", "2", 7, 1));
        let lost =
            |fates: &[Fate]| fates.iter().map(|fate| fate.copies == 0 && fate.late.is_none()).collect::<Vec<_>>();
        assert_eq!(lost(&one), lost(&fates("5%", "50", "0", 7, 0)), "what is lost does not depend on the other odds");
    }

    #[test]
    fn odds_are_as_asked() {
        let fates_of = fates("5", "1", "2", 1, 0);
        let count = |holds: &dyn Fn(&Fate) -> bool| fates_of.iter().filter(|fate| holds(fate)).count();
        // Expected 5,000, 950, 1,900; the bounds are six standard deviations away.
        assert!((4_586..5_414).contains(&count(&|fate| fate.copies == 0 && fate.late.is_none())));
        assert!((766..1_134).contains(&count(&|fate| fate.late.is_some())));
        assert!((1_641..2_159).contains(&count(&|fate| fate.copies + u32::from(fate.late.is_some()) == 2)));
        assert!(fates_of.iter().all(|fate| fate.late.is_none_or(|late| (1..=REORDER_DISTANCE_MAX).contains(&late))));
        assert!(fates("0", "0", "0", 1, 0).iter().all(|fate| *fate == Fate { copies: 1, late: None }));
        assert!(fates("100", "100", "100", 1, 0).iter().all(|fate| *fate == Fate { copies: 0, late: None }));
    }

    #[test]
    fn percentages_read_as_written() {
        assert_eq!("0.5".parse(), Ok(Percent(0.5)));
        for wrong in ["", "-1", "101", "NaN", "five"] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }
}
