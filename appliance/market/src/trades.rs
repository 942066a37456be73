//! The trades that a break could take back.
//!
//! A break names nothing but a match number, and its update must show what never was. Match numbers rise through the
//! day, so a table addressed by their low bits holds about the last [`TRADES_REMEMBERED_MAX`] of them: one write per
//! trade, one read per break, and the oldest make room by themselves.

use zerocopy::FromZeros;

use crate::image::{Side, Trade, TradeKind};
use crate::limits::TRADES_REMEMBERED_MAX;

#[derive(Debug)]
pub(crate) struct Trades {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C)]
struct Entry {
    match_number: u64,
    /// 0 where the entry is free: a trade of no shares is none.
    shares: u64,
    price: u32,
    locate: u16,
    /// `B`, `S`, or 0 for a cross.
    side: u8,
}

impl Trades {
    pub(crate) fn new() -> Trades {
        let len = TRADES_REMEMBERED_MAX;
        Trades { entries: Entry::new_vec_zeroed(len).unwrap_or_else(|_| vec![Entry::new_zeroed(); len]) }
    }

    pub(crate) fn remember(&mut self, locate: u16, trade: &Trade) {
        let Trade { price, shares, side, match_number, .. } = *trade;
        let side = side.map_or(0, |side| side as u8);
        self.entries[index(match_number)] = Entry { match_number, shares, price, locate, side };
    }

    /// The instrument and the trade as it is to be taken back.
    pub(crate) fn find(&self, match_number: u64) -> Option<(u16, Trade)> {
        let entry = self.entries[index(match_number)];
        let Entry { shares, price, .. } = entry;
        let trade = Trade { price, shares, side: Side::from_code(entry.side), match_number, kind: TradeKind::Broken };
        (entry.match_number == match_number && shares > 0).then_some((entry.locate, trade))
    }

    pub(crate) fn forget(&mut self, match_number: u64) {
        self.entries[index(match_number)] = Entry::new_zeroed();
    }
}

fn index(match_number: u64) -> usize {
    usize::try_from(match_number % TRADES_REMEMBERED_MAX as u64).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_the_place_is_needed() {
        let execution =
            Trade { price: 5, shares: 100, side: Some(Side::Sell), match_number: 0, kind: TradeKind::Execution };
        let later = Trade { match_number: TRADES_REMEMBERED_MAX as u64, ..execution };
        let mut trades = Trades::new();
        assert_eq!(trades.find(0), None);
        trades.remember(3, &execution);
        assert_eq!(trades.find(0), Some((3, Trade { kind: TradeKind::Broken, ..execution })));
        trades.remember(4, &later);
        assert_eq!((trades.find(0), trades.find(later.match_number).map(|(locate, _)| locate)), (None, Some(4)));
        trades.forget(later.match_number);
        assert_eq!(trades.find(later.match_number), None);
    }
}
