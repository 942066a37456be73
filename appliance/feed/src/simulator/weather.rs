//! How busy the market is: calm, with short bursts in which one instrument is hot and all drift the same way.

use super::chance::Chance;
use fanblade_wire::float::whole;

/// The present state of the market as a whole.
#[derive(Debug)]
pub(super) struct Weather {
    /// Mean time from message to message, in calm and in a burst.
    calm_gap_ns: f64,
    burst_gap_ns: f64,
    burst: Option<Burst>,
    /// When it changes.
    until_ns: u64,
}

#[derive(Debug)]
struct Burst {
    /// Index of the instrument in which much of it happens; none when the market opens.
    hot: Option<usize>,
    drift: i32,
}

impl Weather {
    /// Weather with this mean rate, in which bursts are so much faster than calm.
    pub(super) fn new(messages_per_s: u32, burst_factor: u32) -> Self {
        let factor = f64::from(burst_factor);
        let mean_over_calm = (CALM_NS + BURST_NS * factor) / (CALM_NS + BURST_NS);
        let calm_gap_ns = 1e9 / f64::from(messages_per_s) * mean_over_calm;
        Self { calm_gap_ns, burst_gap_ns: calm_gap_ns / factor, burst: None, until_ns: 0 }
    }

    /// The market opens, in a burst that comes on top of the mean rate.
    pub(super) fn open(&mut self, time_ns: u64) {
        self.burst = Some(Burst { hot: None, drift: 0 });
        self.until_ns = time_ns + OPENING_NS;
    }

    /// Changes, if it is time; `draw` chooses the next hot instrument.
    pub(super) fn change(&mut self, time_ns: u64, chance: &mut Chance, draw: impl FnOnce(&mut Chance) -> usize) {
        if time_ns < self.until_ns {
            return;
        }
        let mean_ns = if self.burst.take().is_some() {
            CALM_NS
        } else {
            self.burst = Some(Burst { hot: Some(draw(chance)), drift: chance.pick(&[-1, 0, 1]) });
            BURST_NS
        };
        self.until_ns = time_ns + whole(chance.exponential(mean_ns));
    }

    /// Mean time to the next message.
    pub(super) fn gap_ns(&self) -> f64 {
        if self.burst.is_some() { self.burst_gap_ns } else { self.calm_gap_ns }
    }

    /// Where prices are pulled.
    pub(super) fn drift(&self) -> i32 {
        self.burst.as_ref().map_or(0, |burst| burst.drift)
    }

    /// The hot instrument, one time in eight while there is one.
    pub(super) fn hot(&self, chance: &mut Chance) -> Option<usize> {
        self.burst.as_ref()?.hot.filter(|_| chance.one_in(8))
    }
}

/// Mean length of the calm between bursts.
const CALM_NS: f64 = 2e9;

/// Mean length of a burst.
const BURST_NS: f64 = 6e7;

/// How long the burst lasts in which the market opens.
const OPENING_NS: u64 = 1_000_000_000;
