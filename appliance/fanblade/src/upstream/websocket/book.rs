//! Order books of a venue that sends them once whole and then by their changes: kept, so that what is passed on is the
//! whole state, and checked, where the venue sends what it takes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::limits::DECIMAL_DIGITS_MAX;
use super::value::{text, unquoted};

/// Whose messages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BookFormat {
    /// Kraken v2, channel `book`: `{"bids":[{"price":1.5,"qty":2}],"asks":[],"checksum":1}`; the checksum is verified.
    Kraken,
    /// Coinbase Exchange, channels `level2` and `level2_batch`: `{"bids":[["1.5","2"]],"asks":[]}`, then
    /// `{"changes":[["buy","1.5","0"]]}`.
    Coinbase,
}

/// One book.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Ascending, so that the best are the last.
    bids: BTreeMap<Price, Level>,
    asks: BTreeMap<Price, Level>,
    /// It has had a snapshot, and everything since.
    is_whole: bool,
    /// Updates since the snapshot.
    updates: u64,
    checksum: Option<u32>,
    /// What was passed on last.
    shown: String,
}

/// Why a book cannot be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BookFault {
    #[error("the checksum is {computed}, the venue says {stated}")]
    Checksum { computed: u32, stated: u32 },
    #[error("{0}")]
    Malformed(String),
    #[error("more levels than all books together may have")]
    TooLong,
}

/// A price, exact: times 10^18. What is written in two ways is the same price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Price(u128);

/// As the venue writes them.
#[derive(Debug)]
struct Level {
    price: Box<str>,
    quantity: Box<str>,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Bid,
    Ask,
}

impl Book {
    /// Takes a message: a snapshot instead of everything before, or an update. `depth` is how many levels a side has at
    /// most, `room` how many levels there may be in all. After a fault only a snapshot helps.
    pub(super) fn take(
        &mut self,
        format: BookFormat,
        message: &str,
        is_snapshot: bool,
        depth: usize,
        room: usize,
    ) -> Result<(), BookFault> {
        if is_snapshot {
            self.forget();
        }
        let taken = self.change(format, message, is_snapshot, depth).and_then(|()| match self.len() {
            len if len > room => Err(BookFault::TooLong),
            _ => Ok(()),
        });
        self.is_whole = taken.is_ok();
        if taken.is_err() {
            self.forget_levels();
        }
        taken
    }

    /// It has had a snapshot, and everything since.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Updates since the snapshot.
    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    /// Levels of both sides.
    pub(super) fn len(&self) -> usize {
        self.bids.len() + self.asks.len()
    }

    /// The first `levels` of each side as JSON; none if they are as they were.
    pub(super) fn show(&mut self, levels: usize) -> Option<&str> {
        let mut out = String::with_capacity(self.shown.len());
        side(&mut out, "{\"bids\":[", self.bids.values().rev().take(levels));
        side(&mut out, "],\"asks\":[", self.asks.values().take(levels));
        out.push(']');
        if let Some(checksum) = self.checksum {
            let _ = write!(out, ",\"checksum\":{checksum}");
        }
        out.push('}');
        if out == self.shown {
            return None;
        }
        self.shown = out;
        Some(&self.shown)
    }

    fn forget(&mut self) {
        self.forget_levels();
        self.updates = 0;
        self.checksum = None;
    }

    fn forget_levels(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    fn change(&mut self, format: BookFormat, message: &str, is_snapshot: bool, depth: usize) -> Result<(), BookFault> {
        self.updates += u64::from(!is_snapshot);
        let malformed = |error: serde_json::Error| BookFault::Malformed(error.to_string());
        match format {
            BookFormat::Kraken => {
                let book: KrakenBook<'_> = serde_json::from_str(message).map_err(malformed)?;
                for (side, levels) in [(Side::Bid, &book.bids), (Side::Ask, &book.asks)] {
                    levels.iter().try_for_each(|level| self.set(side, level.price.get(), level.qty.get()))?;
                }
                self.cut(depth);
                let computed = self.kraken_checksum();
                if computed != book.checksum {
                    return Err(BookFault::Checksum { computed, stated: book.checksum });
                }
                self.checksum = Some(computed);
            }
            BookFormat::Coinbase if is_snapshot => {
                let book: CoinbaseSnapshot<'_> = serde_json::from_str(message).map_err(malformed)?;
                for (side, levels) in [(Side::Bid, &book.bids), (Side::Ask, &book.asks)] {
                    levels.iter().try_for_each(|(price, quantity)| self.set(side, price.get(), quantity.get()))?;
                }
            }
            BookFormat::Coinbase => {
                let update: CoinbaseUpdate<'_> = serde_json::from_str(message).map_err(malformed)?;
                for (side, price, quantity) in &update.changes {
                    let side = match text(side.get()).as_deref() {
                        Some("buy") => Side::Bid,
                        Some("sell") => Side::Ask,
                        _ => return Err(BookFault::Malformed(format!("{} is no side", side.get()))),
                    };
                    self.set(side, price.get(), quantity.get())?;
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, side: Side, price: &str, quantity: &str) -> Result<(), BookFault> {
        let (price, quantity) = (unquoted(price), unquoted(quantity));
        let no_decimal = |text: &str| BookFault::Malformed(format!("`{text}` is no price or quantity"));
        let key = Price(decimal(price).ok_or_else(|| no_decimal(price))?);
        let is_gone = decimal(quantity).ok_or_else(|| no_decimal(quantity))? == 0;
        let levels = match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        };
        match is_gone {
            true => drop(levels.remove(&key)),
            false => drop(levels.insert(key, Level { price: price.into(), quantity: quantity.into() })),
        }
        Ok(())
    }

    /// Kraken does not say when a level leaves the depth that was subscribed.
    fn cut(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    /// CRC-32 over the ten best asks and then the ten best bids, each the digits of its price and of its quantity
    /// without point and leading zeros (docs.kraken.com, "Book checksum (WebSocket v2)").
    fn kraken_checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let best = self.asks.values().take(KRAKEN_LEVELS).chain(self.bids.values().rev().take(KRAKEN_LEVELS));
        for level in best {
            for number in [&level.price, &level.quantity] {
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                let whole = whole.trim_start_matches('0');
                let fraction = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
                hasher.update(whole.as_bytes());
                hasher.update(fraction.as_bytes());
            }
        }
        hasher.finalize()
    }
}

#[derive(Deserialize)]
struct KrakenBook<'a> {
    #[serde(borrow)]
    bids: Vec<KrakenLevel<'a>>,
    #[serde(borrow)]
    asks: Vec<KrakenLevel<'a>>,
    checksum: u32,
}

#[derive(Deserialize)]
struct KrakenLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

#[derive(Deserialize)]
struct CoinbaseSnapshot<'a> {
    #[serde(borrow)]
    bids: Vec<(&'a RawValue, &'a RawValue)>,
    #[serde(borrow)]
    asks: Vec<(&'a RawValue, &'a RawValue)>,
}

#[derive(Deserialize)]
struct CoinbaseUpdate<'a> {
    #[serde(borrow)]
    changes: Vec<(&'a RawValue, &'a RawValue, &'a RawValue)>,
}

fn side<'a>(out: &mut String, name: &str, levels: impl Iterator<Item = &'a Level>) {
    out.push_str(name);
    for (index, level) in levels.enumerate() {
        // Digits and points need no escape.
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(out, "{comma}[\"{}\",\"{}\"]", level.price, level.quantity);
    }
}

/// A decimal without sign and exponent, times 10^18.
fn decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_good = |digits: &str| digits.len() <= DECIMAL_DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_good(whole) || !is_good(fraction) {
        return None;
    }
    let number = |digits: &str| digits.bytes().fold(0u128, |number, digit| number * 10 + u128::from(digit - b'0'));
    let zeros = u32::try_from(DECIMAL_DIGITS_MAX - fraction.len()).ok()?;
    Some(number(whole) * SCALE + number(fraction) * 10u128.pow(zeros))
}

const SCALE: u128 = 10u128.pow(DECIMAL_DIGITS_MAX as u32);
/// The checksum is over so many levels of each side, whatever was subscribed.
const KRAKEN_LEVELS: usize = 10;

#[cfg(test)]
mod tests;
