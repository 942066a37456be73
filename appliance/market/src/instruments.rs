//! Which instrument has which number, and what is known of it.

use std::cell::OnceCell;
use std::collections::HashMap;

use fanblade_feed::itch::{self, Stock};

use crate::counters::Skipped;
use crate::error::MarketError;
use crate::image::{Bbo, Book, Imbalance, Side, Status};
use crate::ladder::Ladder;
use crate::limits::INSTRUMENTS_MAX;

/// What is known of one instrument.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// The symbol as messages have it; all zero while no message has named it.
    stock: Stock,
    bids: Ladder,
    asks: Ladder,
    pub(crate) status: Option<Status>,
    pub(crate) imbalance: Option<Imbalance>,
}

impl Entry {
    pub(crate) fn symbol(&self) -> &str {
        core::str::from_utf8(itch::trim(&self.stock)).unwrap_or_default()
    }

    pub(crate) fn is_known(&self) -> bool {
        self.stock != UNKNOWN
    }

    pub(crate) fn ladder(&mut self, side: Side) -> &mut Ladder {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    pub(crate) fn bbo(&self) -> Bbo {
        Bbo { bid: self.bids.levels().last().copied(), ask: self.asks.levels().last().copied(), incomplete: false }
    }

    pub(crate) fn book(&self) -> Book<'_> {
        Book { bids: self.bids.best(), asks: self.asks.best(), incomplete: false, crc: OnceCell::new() }
    }
}

/// All instruments, by number.
#[derive(Debug, Default)]
pub(crate) struct Instruments {
    /// Up to the largest number that was named, and some more; at most [`INSTRUMENTS_MAX`], all that numbers can say.
    entries: Vec<Entry>,
    /// What is known of all other instruments.
    none: Entry,
    /// The number of each symbol, asked for only when a symbol is new.
    locates: HashMap<Stock, u16>,
}

/// Why a message does not concern an instrument.
pub(crate) enum Refusal {
    Malformed(MarketError),
    Skipped(Skipped),
}

impl From<MarketError> for Refusal {
    fn from(error: MarketError) -> Refusal {
        Refusal::Malformed(error)
    }
}

impl From<Skipped> for Refusal {
    fn from(reason: Skipped) -> Refusal {
        Refusal::Skipped(reason)
    }
}

impl Instruments {
    pub(crate) fn new() -> Instruments {
        Instruments::default()
    }

    /// Number of instruments that have a symbol.
    pub(crate) fn len(&self) -> usize {
        self.locates.len()
    }

    pub(crate) fn entry(&self, locate: u16) -> &Entry {
        self.entries.get(usize::from(locate)).unwrap_or(&self.none)
    }

    pub(crate) fn entry_mut(&mut self, locate: u16) -> &mut Entry {
        let index = usize::from(locate);
        if index >= self.entries.len() {
            let len = (index + 1).next_power_of_two().min(INSTRUMENTS_MAX);
            self.entries.resize_with(len, Entry::default);
        }
        &mut self.entries[index]
    }

    /// All instruments, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Entry)> {
        (0..=u16::MAX).zip(&self.entries).filter(|(_, entry)| entry.is_known())
    }

    /// The instrument that a message of type `kind` names both by number and by symbol. The first to name it
    /// introduces it, whatever the type: who joins late sees no directory.
    pub(crate) fn named(&mut self, kind: u8, locate: u16, stock: Stock) -> Result<&mut Entry, Refusal> {
        let entry = self.entry(locate);
        if entry.is_known() && entry.stock == stock {
            return Ok(self.entry_mut(locate));
        }
        if !is_symbol(&stock) {
            return Err(MarketError::Text { kind, field: "stock", text: stock }.into());
        }
        if locate == 0 {
            return Err(Skipped::LocateZero.into());
        }
        if entry.is_known() || self.locates.contains_key(&stock) {
            return Err(Skipped::SymbolMismatch.into());
        }
        self.locates.insert(stock, locate);
        let entry = self.entry_mut(locate);
        entry.stock = stock;
        Ok(entry)
    }
}

const UNKNOWN: Stock = [0; 8];

/// Can it be a segment of a subject? Printable ASCII without slash and space can (`Update::subject` escapes it).
fn is_symbol(stock: &Stock) -> bool {
    let symbol = itch::trim(stock);
    !symbol.is_empty() && symbol.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'/')
}

#[cfg(test)]
mod tests {
    use fanblade_feed::itch::stock;

    use super::*;

    #[test]
    fn symbols_become_segments_of_subjects() {
        for good in ["A", "BRK.B", "C-L*", "ABCDEFGH", "\"\\", "***", "*", "**"] {
            assert!(is_symbol(&stock(good)), "{good}");
        }
        for bad in [b"        ", b"A/B     ", b"A B     ", b" AB     ", b"A\0\0\0\0\0\0\0", b"A\xff      ", &UNKNOWN] {
            assert!(!is_symbol(bad), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn number_and_symbol_stay_together() {
        let mut instruments = Instruments::new();
        let mut name = |locate, symbol| match instruments.named(b'A', locate, stock(symbol)) {
            Ok(entry) => Ok(entry.symbol().to_owned()),
            Err(Refusal::Skipped(reason)) => Err(reason),
            Err(Refusal::Malformed(error)) => panic!("{error}"),
        };
        assert_eq!(name(1, "AAPL"), Ok("AAPL".to_owned()));
        assert_eq!(name(1, "AAPL"), Ok("AAPL".to_owned()));
        assert_eq!(name(1, "MSFT"), Err(Skipped::SymbolMismatch));
        assert_eq!(name(2, "AAPL"), Err(Skipped::SymbolMismatch));
        assert_eq!(name(0, "MSFT"), Err(Skipped::LocateZero));
        assert_eq!(name(u16::MAX, "MSFT"), Ok("MSFT".to_owned()));
        assert_eq!(name(7, "Msft"), Ok("Msft".to_owned()), "another instrument");
        assert_eq!(instruments.iter().map(|(locate, _)| locate).collect::<Vec<_>>(), [1, 7, u16::MAX]);
    }
}
