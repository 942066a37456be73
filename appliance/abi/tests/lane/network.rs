//! A network between two ends: it loses, repeats, delays and reorders, as a seed says.

use proptest::prelude::*;

/// What happens to packets of one direction, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u32,
    pub(crate) repeated: u32,
    /// These take up to `spread_ms` longer than others.
    pub(crate) delayed: u32,
    pub(crate) spread_ms: u32,
    /// The way's length.
    pub(crate) delay_ms: u32,
}

impl Weather {
    pub(crate) fn any() -> impl Strategy<Value = Weather> {
        (0_u32..150, 0_u32..100, 0_u32..200, 0_u32..60, 0_u32..80).prop_map(
            |(lost, repeated, delayed, spread_ms, delay_ms)| Weather { lost, repeated, delayed, spread_ms, delay_ms },
        )
    }

    /// Nothing is lost and nothing is overtaken.
    pub(crate) fn calm() -> impl Strategy<Value = Weather> {
        (0_u32..80).prop_map(|delay_ms| Weather { delay_ms, ..Weather::default() })
    }
}

/// One direction.
pub(crate) struct Way<T> {
    weather: Weather,
    random: Random,
    on_the_way: Vec<(u32, T)>,
}

impl<T: Clone> Way<T> {
    pub(crate) fn new(weather: Weather, seed: u64) -> Way<T> {
        Way { weather, random: Random(seed | 1), on_the_way: Vec::new() }
    }

    pub(crate) fn clear_up(&mut self) {
        self.weather = Weather { delay_ms: self.weather.delay_ms, ..Weather::default() };
    }

    pub(crate) fn send(&mut self, packet: T, now_ms: u32) {
        let Weather { lost, repeated, delayed, spread_ms, delay_ms } = self.weather;
        let copies = if self.random.per_mille(lost) { 0 } else { 1 + u32::from(self.random.per_mille(repeated)) };
        for _ in 0..copies {
            let more = if self.random.per_mille(delayed) { self.random.below(spread_ms + 1) } else { 0 };
            self.on_the_way.push((now_ms + delay_ms + more, packet.clone()));
        }
    }

    /// What has arrived, in the order of its arrival.
    pub(crate) fn arrived(&mut self, now_ms: u32) -> Vec<T> {
        // A stable sort: packets of the same time stay in their order.
        self.on_the_way.sort_by_key(|(due_ms, _)| *due_ms);
        let count = self.on_the_way.partition_point(|(due_ms, _)| *due_ms <= now_ms);
        self.on_the_way.drain(..count).map(|(_, packet)| packet).collect()
    }
}

/// Numbers that look random (xorshift64), the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 33) % u64::from(end)).unwrap()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    pub(crate) fn per_mille(&mut self, count: u32) -> bool {
        self.below(1_000) < count
    }
}
