//! The instruments of a simulated market: names, prices, and what is told of them before the open.

use std::collections::BTreeSet;

use zerocopy::byteorder::big_endian::{U32, U64};

use super::book::Side;
use super::chance::Chance;
use super::message_writer::MessageWriter;
use crate::itch::{
    CrossTrade, LuldCollar, Noii, ParticipantPosition, RegSho, Stock, StockDirectory, TradingAction, stock,
};
use fanblade_wire::float::whole;

/// One instrument and its market.
#[derive(Debug)]
pub(super) struct Instrument {
    pub(super) stock: Stock,
    pub(super) locate: u16,
    pub(super) state: State,
    pub(super) bids: Side,
    pub(super) asks: Side,
    /// What it is worth, Price(4) times 65536: a random walk. Orders gather around it.
    fair: u64,
    /// The walk turns round here, Price(4).
    lowest: u32,
    highest: u32,
    /// The smallest step between prices, Price(4).
    pub(super) tick: u32,
    /// How far from its worth makers quote, Price(4).
    pub(super) half_spread: u32,
    /// How far apart the levels of the book are, Price(4).
    pub(super) spacing: u32,
    /// The last trade that can still be broken; 0 if none.
    pub(super) last_match: u64,
}

/// What may be done in an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Trading,
    /// Orders come and go, nothing trades.
    Halted,
}

impl Instrument {
    /// `rank` of `count` by activity, 0 the busiest.
    fn new(name: &str, locate: u16, rank: usize, count: usize, chance: &mut Chance) -> Self {
        let level = level(chance);
        // Half a basis point for the busiest, 15 for the quietest.
        let quietness_bps = 0.5 + 14.5 * rank as f64 / count as f64;
        let half_spread = whole(f64::from(level) * quietness_bps / 10_000.0);
        let half_spread = u32::try_from(half_spread).unwrap_or(u32::MAX).max(25);
        // Half a cent where the spread is narrow, else a cent (Rule 612 of Regulation NMS as amended in 2024).
        let tick = if half_spread <= 75 { 50 } else { 100 };
        Self {
            stock: stock(name),
            locate,
            state: State::Trading,
            bids: Side::new(true),
            asks: Side::new(false),
            fair: u64::from(level) << 16,
            lowest: (level / 2).max(DOLLAR),
            highest: level * 2,
            tick,
            half_spread,
            spacing: (half_spread / 2 / tick).max(1) * tick,
            last_match: 0,
        }
    }

    /// What it is worth now, Price(4).
    #[expect(clippy::cast_possible_truncation, reason = "`walk` keeps it below `highest`")]
    pub(super) fn fair(&self) -> u32 {
        (self.fair >> 16) as u32
    }

    /// Its worth on the grid of prices.
    pub(super) fn fair_on_tick(&self) -> u32 {
        self.fair() / self.tick * self.tick
    }

    /// Moves its worth by so many 65536ths of itself, within its limits.
    pub(super) fn walk(&mut self, steps: i32) {
        let moved = self.fair.saturating_add_signed(i64::from(self.fair()) * i64::from(steps));
        self.fair = moved.clamp(u64::from(self.lowest) << 16, u64::from(self.highest) << 16);
    }

    pub(super) fn directory(&self, writer: &mut MessageWriter) {
        let fair = self.fair();
        writer.send(&StockDirectory {
            header: writer.header(StockDirectory::KIND, self.locate),
            stock: self.stock,
            market_category: b"QGSNAP"[usize::from(self.locate) % 6],
            financial_status: b'N',
            // Since 2025 it depends on the price (Rule 600(b)(93) of Regulation NMS).
            round_lot_size: U32::new(match fair / DOLLAR {
                0..=250 => 100,
                251..=1_000 => 40,
                _ => 10,
            }),
            round_lots_only: b'N',
            issue_classification: b'C',
            issue_subtype: *b"Z ",
            authenticity: b'P',
            short_sale_threshold: b'N',
            ipo: b'N',
            luld_tier: if self.tick == 50 { b'1' } else { b'2' },
            etp: b'N',
            etp_leverage: U32::new(0),
            inverse: b'N',
        });
    }

    pub(super) fn trading_action(&self, state: u8, reason: [u8; 4], writer: &mut MessageWriter) {
        writer.send(&TradingAction {
            header: writer.header(TradingAction::KIND, self.locate),
            stock: self.stock,
            state,
            reserved: b' ',
            reason,
        });
    }

    pub(super) fn reg_sho(&self, writer: &mut MessageWriter) {
        let action = if self.locate % 64 == 7 { b'2' } else { b'0' };
        writer.send(&RegSho { header: writer.header(RegSho::KIND, self.locate), stock: self.stock, action });
    }

    pub(super) fn makers(&self, writer: &mut MessageWriter) {
        let first = usize::from(self.locate) % MAKERS.len();
        for index in 0..MAKERS_PER_INSTRUMENT {
            writer.send(&ParticipantPosition {
                header: writer.header(ParticipantPosition::KIND, self.locate),
                mpid: *MAKERS[(first + index) % MAKERS.len()],
                stock: self.stock,
                primary: if index == 0 { b'Y' } else { b'N' },
                mode: b'N',
                state: b'A',
            });
        }
    }

    /// Chooses one of its makers.
    pub(super) fn maker(&self, chance: &mut Chance) -> [u8; 4] {
        let index = usize::from(self.locate) + chance.index_below(MAKERS_PER_INSTRUMENT);
        *MAKERS[index % MAKERS.len()]
    }

    /// How an auction to come stands.
    pub(super) fn imbalance(&self, cross_type: u8, writer: &mut MessageWriter) {
        let reference_price = self.fair_on_tick();
        let (paired, imbalance) = (writer.chance.below(5_000) * 20, writer.chance.below(500) * 20);
        let direction = if imbalance == 0 { b'N' } else { writer.chance.pick(b"BS") };
        let off = writer.chance.below(3) * self.tick;
        let near_price = if direction == b'S' { reference_price - off } else { reference_price + off };
        writer.send(&Noii {
            header: writer.header(Noii::KIND, self.locate),
            paired: U64::new(paired.into()),
            imbalance: U64::new(imbalance.into()),
            direction,
            stock: self.stock,
            far_price: U32::new(near_price),
            near_price: U32::new(near_price),
            reference_price: U32::new(reference_price),
            cross_type,
            price_variation: b'L',
        });
    }

    /// An auction. Nothing is left of its orders in the displayed book: they never were in it.
    pub(super) fn cross(&mut self, cross_type: u8, writer: &mut MessageWriter) {
        let shares = if self.state == State::Trading { u64::from(writer.chance.between(1, 5_000)) * 20 } else { 0 };
        let match_number = writer.match_number();
        writer.send(&CrossTrade {
            header: writer.header(CrossTrade::KIND, self.locate),
            shares: U64::new(shares),
            stock: self.stock,
            price: U32::new(if shares == 0 { 0 } else { self.fair_on_tick() }),
            match_number,
            cross_type,
        });
    }

    /// The prices between which an auction after a pause may end.
    pub(super) fn collar(&self, writer: &mut MessageWriter) {
        let reference_price = self.fair_on_tick();
        let width = reference_price / 20 / self.tick * self.tick;
        writer.send(&LuldCollar {
            header: writer.header(LuldCollar::KIND, self.locate),
            stock: self.stock,
            reference_price: U32::new(reference_price),
            upper_price: U32::new(reference_price + width),
            lower_price: U32::new(reference_price - width),
            extension: U32::new(0),
        });
    }
}

/// As many instruments, numbered from 1 by the alphabet as an exchange does, and which of them (by index) has which
/// rank of activity.
pub(super) fn universe(count: usize, chance: &mut Chance) -> (Vec<Instrument>, Vec<u16>) {
    let mut names = BTreeSet::new();
    while names.len() < count {
        names.insert(ticker(chance));
    }
    let mut ranked: Vec<u16> = (0..).take(count).collect();
    for index in (1..count).rev() {
        ranked.swap(index, chance.index_below(index + 1));
    }
    let mut ranks = vec![0; count];
    for (rank, &index) in ranked.iter().enumerate() {
        ranks[usize::from(index)] = rank;
    }
    let instruments = names
        .iter()
        .zip(&ranks)
        .zip(1..)
        .map(|((name, &rank), locate)| Instrument::new(name, locate, rank, count, chance))
        .collect();
    (instruments, ranked)
}

/// A name that might be one: three to five letters that can nearly be said. That some are real is chance.
fn ticker(chance: &mut Chance) -> String {
    let pattern = chance.pick(&["cvc", "vcc", "cvcc", "cvcc", "ccvc", "cvcv", "vccv", "vcvc", "cvccv"]);
    let letter = |kind| match kind {
        'v' => chance.pick(b"AEIOY"),
        _ => chance.pick(b"BCDFGHJLMNPQRSTVWXZ"),
    };
    pattern.chars().map(letter).map(char::from).collect()
}

/// A price from which to begin, Price(4): most between 5 and 200 dollars, few above 500.
fn level(chance: &mut Chance) -> u32 {
    let (low, high) = match chance.below(100) {
        0..10 => (1, 5),
        10..35 => (5, 20),
        35..65 => (20, 60),
        65..90 => (60, 200),
        90..98 => (200, 500),
        _ => (500, 3_000),
    };
    chance.between(low * DOLLAR, high * DOLLAR) / 100 * 100
}

/// A dollar in Price(4).
const DOLLAR: u32 = 10_000;

/// Market participants, all invented.
const MAKERS: [&[u8; 4]; 12] =
    [b"ALDR", b"BRIK", b"CRWN", b"DELT", b"FNBL", b"GRNT", b"HALC", b"KEST", b"MERL", b"ORBT", b"QUIL", b"WREN"];

const MAKERS_PER_INSTRUMENT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SIMULATOR_SYMBOLS_MAX;

    #[test]
    fn a_universe() {
        let (instruments, ranked) = universe(SIMULATOR_SYMBOLS_MAX, &mut Chance::new(3));
        let names: Vec<_> = instruments.iter().map(|instrument| instrument.stock).collect();
        assert!(names.is_sorted_by(|one, other| one < other), "sorted and unique");
        assert!(names.iter().flatten().all(|byte| byte.is_ascii_uppercase() || *byte == b' '));
        assert!(instruments.iter().zip(1..).all(|(instrument, locate)| instrument.locate == locate));
        let mut sorted = ranked;
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq((0..).take(SIMULATOR_SYMBOLS_MAX)), "each has one rank");
        let dollars: Vec<_> = instruments.iter().map(|instrument| instrument.fair() / DOLLAR).collect();
        assert!(dollars.iter().all(|dollars| (1..3_000).contains(dollars)));
        assert!(dollars.iter().any(|&dollars| dollars > 1_000) && dollars.iter().any(|&dollars| dollars < 5));
    }

    #[test]
    fn the_walk_has_limits() {
        let (mut instruments, _) = universe(1, &mut Chance::new(4));
        let instrument = &mut instruments[0];
        let level = instrument.fair();
        for _ in 0..3 {
            instrument.walk(i32::MAX);
            assert_eq!(instrument.fair(), level * 2);
        }
        for _ in 0..3 {
            instrument.walk(-65_536);
            assert_eq!(instrument.fair(), (level / 2).max(DOLLAR));
        }
    }
}
