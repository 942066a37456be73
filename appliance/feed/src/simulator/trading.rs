//! What happens in an instrument: orders come, change, trade and go.

use zerocopy::byteorder::big_endian::{U32, U64};

use super::book::Side;
use super::chance::Chance;
use super::instrument::{Instrument, State};
use super::message_writer::MessageWriter;
use crate::itch::{
    AddOrder, AddOrderMpid, BrokenTrade, OrderCancel, OrderDelete, OrderExecuted, OrderExecutedPrice, OrderReplace,
    Rpii, Trade,
};

/// The side of the book on which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Bids,
    Asks,
}

impl Instrument {
    /// One thing happens, after its worth has moved a little; `drift` is where the market pulls it.
    pub(super) fn happen(&mut self, drift: i32, writer: &mut MessageWriter) {
        // ±2/65536 of the price: with 200 events a second, some 2 or 3 % a day.
        self.walk(writer.chance.below(5) as i32 - 2 + drift);
        let on = if writer.chance.coin() { On::Bids } else { On::Asks };
        let trading = self.state == State::Trading;
        if self.is_stale(on) {
            // The best quote is better than the instrument is worth: taken by someone, or moved in time.
            return match writer.chance.below(8) {
                0..2 if trading => self.take(on, writer),
                2..6 => self.replace(on, true, writer),
                _ => self.delete(on, true, writer),
            };
        }
        let len = self.side(on).len();
        match writer.chance.below(1_024) {
            _ if len < LEN_LOW => self.add(on, writer),
            0..80 => self.replace(on, false, writer),
            80..110 => self.cancel(on, writer),
            110..150 if trading => self.take(on, writer),
            150..158 if trading => self.hidden(writer),
            158..160 => self.retail_interest(writer),
            160 if trading && writer.chance.one_in(64) => self.break_trade(writer),
            // Pulls the number of orders towards its usual.
            _ if (writer.chance.below(1_000) as usize) + len * PULL < 500 + LEN_USUAL * PULL => self.add(on, writer),
            _ => self.delete(on, false, writer),
        }
    }

    /// A new order, displayed.
    pub(super) fn add(&mut self, on: On, writer: &mut MessageWriter) {
        if self.side(on).is_full() {
            return self.delete(on, false, writer);
        }
        let price = self.quote(on, &mut writer.chance);
        let (reference, shares) = (writer.reference(), shares(&mut writer.chance));
        self.side_mut(on).insert(reference, price, shares);
        let (side, reference, shares, price) = (on.code(), U64::new(reference), U32::new(shares), U32::new(price));
        let (locate, stock) = (self.locate, self.stock);
        if writer.chance.one_in(16) {
            let attribution = self.maker(&mut writer.chance);
            let header = writer.header(AddOrderMpid::KIND, locate);
            writer.send(&AddOrderMpid { header, reference, side, shares, stock, price, attribution });
        } else {
            writer.send(&AddOrder {
                header: writer.header(AddOrder::KIND, locate),
                reference,
                side,
                shares,
                stock,
                price,
            });
        }
    }

    /// Someone trades at once with the best orders, at most a few of them, and never with the last.
    fn take(&mut self, on: On, writer: &mut MessageWriter) {
        let mut wanted = shares(&mut writer.chance) * (1 + writer.chance.successes());
        let (locate, tick) = (self.locate, self.tick);
        for _ in 0..TAKEN_MAX {
            let side = self.side_mut(on);
            if wanted == 0 || side.len() <= 1 {
                return;
            }
            let Some(best) = side.best() else { return };
            let taken = wanted.min(best.shares);
            wanted -= taken;
            best.shares -= taken;
            let (order, buying) = (*best, side.buying);
            if order.shares == 0 {
                side.remove(side.len() - 1);
            }
            let price = side.price(&order);
            let match_number = writer.match_number();
            self.last_match = match_number.get();
            let (reference, shares) = (U64::new(order.reference), U32::new(taken));
            if writer.chance.one_in(24) {
                // The order's owner gets a better price than the one displayed.
                let price = U32::new(if buying { price.saturating_sub(tick / 2) } else { price + tick / 2 });
                let printable = if writer.chance.one_in(8) { b'N' } else { b'Y' };
                let header = writer.header(OrderExecutedPrice::KIND, locate);
                writer.send(&OrderExecutedPrice { header, reference, shares, match_number, printable, price });
            } else {
                let header = writer.header(OrderExecuted::KIND, locate);
                writer.send(&OrderExecuted { header, reference, shares, match_number });
            }
        }
    }

    /// An order gives way to a new one, elsewhere.
    fn replace(&mut self, on: On, best: bool, writer: &mut MessageWriter) {
        let Some(index) = self.choose(on, best, &mut writer.chance) else { return };
        let Some(old) = self.side_mut(on).remove(index) else { return };
        let price = self.quote(on, &mut writer.chance);
        let new_reference = writer.reference();
        let shares = if writer.chance.coin() { old.shares } else { shares(&mut writer.chance) };
        self.side_mut(on).insert(new_reference, price, shares);
        writer.send(&OrderReplace {
            header: writer.header(OrderReplace::KIND, self.locate),
            reference: U64::new(old.reference),
            new_reference: U64::new(new_reference),
            shares: U32::new(shares),
            price: U32::new(price),
        });
    }

    fn delete(&mut self, on: On, best: bool, writer: &mut MessageWriter) {
        let Some(index) = self.choose(on, best, &mut writer.chance) else { return };
        let Some(old) = self.side_mut(on).remove(index) else { return };
        let header = writer.header(OrderDelete::KIND, self.locate);
        writer.send(&OrderDelete { header, reference: U64::new(old.reference) });
    }

    /// An order shrinks, if it has more than one share.
    fn cancel(&mut self, on: On, writer: &mut MessageWriter) {
        let Some(index) = self.choose(on, false, &mut writer.chance) else { return };
        let Some(order) = self.side_mut(on).nth(index).filter(|order| order.shares > 1) else { return };
        let cancelled = writer.chance.between(1, order.shares);
        order.shares -= cancelled;
        let reference = U64::new(order.reference);
        let header = writer.header(OrderCancel::KIND, self.locate);
        writer.send(&OrderCancel { header, reference, shares: U32::new(cancelled) });
    }

    /// A trade with an order that nobody saw, between the best prices.
    fn hidden(&mut self, writer: &mut MessageWriter) {
        let (Some(bid), Some(ask)) = (self.bids.best_price(), self.asks.best_price()) else { return };
        let match_number = writer.match_number();
        self.last_match = match_number.get();
        let (shares, price) = (shares(&mut writer.chance), writer.chance.between(bid, ask) / 25 * 25);
        writer.send(&Trade {
            header: writer.header(Trade::KIND, self.locate),
            reference: U64::new(0),
            side: b'B',
            shares: U32::new(shares),
            stock: self.stock,
            price: U32::new(price),
            match_number,
        });
    }

    fn retail_interest(&mut self, writer: &mut MessageWriter) {
        let interest = writer.chance.pick(b"BSAN");
        writer.send(&Rpii { header: writer.header(Rpii::KIND, self.locate), stock: self.stock, interest });
    }

    fn break_trade(&mut self, writer: &mut MessageWriter) {
        let match_number = std::mem::take(&mut self.last_match);
        if match_number != 0 {
            let header = writer.header(BrokenTrade::KIND, self.locate);
            writer.send(&BrokenTrade { header, match_number: U64::new(match_number) });
        }
    }

    /// A price for a new order: some levels away from the instrument's worth, mostly few, and never so that it would
    /// trade.
    fn quote(&self, on: On, chance: &mut Chance) -> u32 {
        let levels = chance.successes() + chance.below(4) * chance.below(4);
        let distance = self.half_spread + levels * self.spacing;
        let (fair, tick) = (self.fair(), self.tick);
        match on {
            On::Bids => {
                let below_asks = self.asks.best_price().map_or(u32::MAX, |ask| ask - tick);
                (fair.saturating_sub(distance) / tick * tick).min(below_asks).max(tick)
            }
            On::Asks => {
                let above_bids = self.bids.best_price().map_or(0, |bid| bid + tick);
                ((fair + distance).div_ceil(tick) * tick).max(above_bids)
            }
        }
    }

    /// Is the best order on this side a gift?
    fn is_stale(&self, on: On) -> bool {
        self.side(on).best_price().is_some_and(|best| match on {
            On::Bids => best > self.fair(),
            On::Asks => best < self.fair(),
        })
    }

    /// The index of some order, or of the best.
    fn choose(&self, on: On, best: bool, chance: &mut Chance) -> Option<usize> {
        let last = self.side(on).len().checked_sub(1)?;
        Some(if best { last } else { chance.index_below(last + 1) })
    }

    fn side(&self, on: On) -> &Side {
        match on {
            On::Bids => &self.bids,
            On::Asks => &self.asks,
        }
    }

    fn side_mut(&mut self, on: On) -> &mut Side {
        match on {
            On::Bids => &mut self.bids,
            On::Asks => &mut self.asks,
        }
    }
}

impl On {
    fn code(self) -> u8 {
        match self {
            On::Bids => b'B',
            On::Asks => b'S',
        }
    }
}

/// The size of an order: round lots, mostly few; one in four is odd.
fn shares(chance: &mut Chance) -> u32 {
    if chance.one_in(4) { chance.between(1, 100) } else { 100 * (1 + chance.successes() * chance.between(1, 4)) }
}

/// Fewer orders than this on a side, and the next event is an add.
const LEN_LOW: usize = 4;

/// About how many orders a side has.
const LEN_USUAL: usize = 20;

/// Per mille by which each order more or less than usual changes the chance of an add.
const PULL: usize = 12;

/// The most orders that one incoming order trades with.
const TAKEN_MAX: usize = 6;
