//! Checksums of books. Each format has its own text of the best levels, over which the checksum is computed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fanblade_wire::decimal::Decimal;

use super::change::BookFormat;
use super::level::Level;

/// A book's levels.
pub(super) struct Best<'b> {
    pub(super) bids: &'b BTreeMap<Decimal, Level>,
    pub(super) asks: &'b BTreeMap<Decimal, Level>,
}

impl Best<'_> {
    /// Is `stated` the checksum? If not, returns the right one.
    ///
    /// A number with an exponent has several spellings, and the venue's own is not always the one in the message. So
    /// there may be two texts, and the checksum of either is accepted.
    pub(super) fn verify(&self, format: BookFormat, stated: u32) -> Result<(), u32> {
        let text = |is_other: bool| match format {
            BookFormat::Kraken | BookFormat::KrakenV1 => self.kraken(is_other),
            BookFormat::Okx => self.in_turn("", is_other),
            BookFormat::Bitfinex => self.in_turn("-", is_other),
            BookFormat::Coinbase | BookFormat::Gemini | BookFormat::Binance => None,
        };
        let first = match text(false) {
            Some(text) => crc32fast::hash(text.as_bytes()),
            None => return Ok(()),
        };
        let is_other_right = || text(true).is_some_and(|text| crc32fast::hash(text.as_bytes()) == stated);
        if first == stated || is_other_right() { Ok(()) } else { Err(first) }
    }

    /// The ten best asks and then the ten best bids, each the digits of its price and of its quantity without point and
    /// leading zeros (docs.kraken.com, "Book checksum"). A number with an exponent is written out; in the other text,
    /// with as many places as its neighbours have.
    fn kraken(&self, is_other: bool) -> Option<String> {
        let best = || self.asks.values().take(KRAKEN_LEVELS).chain(self.bids.values().rev().take(KRAKEN_LEVELS));
        let places = |number: fn(&Level) -> &str| {
            best()
                .filter_map(|level| number(level).split_once('.').map(|(_, fraction)| fraction.len()))
                .max()
                .unwrap_or(0)
        };
        let (price_places, quantity_places) = match is_other {
            false => (0, 0),
            true => (places(|level| &level.price), places(|level| &level.quantity)),
        };
        if is_other && !best().any(|level| has_exponent(&level.price) || has_exponent(&level.quantity)) {
            return None;
        }
        let mut out = String::new();
        for level in best() {
            for (number, places) in [(&level.price, price_places), (&level.quantity, quantity_places)] {
                push_digits(&mut out, number, places);
            }
        }
        Some(out)
    }

    /// The 25 best bids and asks in turn, `bid:quantity:ask:quantity:…`; if one side is shorter, the other goes on
    /// (okx.com/docs-v5, "Checksum"; docs.bitfinex.com, "WS Checksum"). `ask_sign`: the sign of an ask's quantity. The
    /// other text has exponents written out.
    fn in_turn(&self, ask_sign: &str, is_other: bool) -> Option<String> {
        let mut bids = self.bids.values().rev().take(LEVELS_IN_TURN);
        let mut asks = self.asks.values().take(LEVELS_IN_TURN);
        let mut out = String::new();
        let mut is_changed = false;
        let mut push = |sign: &str, level: &Level| {
            for (sign, number) in [("", &level.price), (sign, &level.quantity)] {
                out.push_str(if out.is_empty() { "" } else { ":" });
                out.push_str(sign);
                match Decimal::parse(number) {
                    Ok(decimal) if is_other && has_exponent(number) => {
                        is_changed = true;
                        let _ = write!(out, "{decimal}");
                    }
                    _ => out.push_str(number),
                }
            }
        };
        loop {
            let (bid, ask) = (bids.next(), asks.next());
            if let Some(bid) = bid {
                push("", bid);
            }
            if let Some(ask) = ask {
                push(ask_sign, ask);
            }
            if bid.is_none() && ask.is_none() {
                break;
            }
        }
        (!is_other || is_changed).then_some(out)
    }
}

fn has_exponent(number: &str) -> bool {
    number.contains(['e', 'E'])
}

/// Appends the digits of a number; with at least so many places, if it has an exponent.
fn push_digits(out: &mut String, number: &str, places: usize) {
    let plain;
    let (number, zeros) = match Decimal::parse(number) {
        Ok(decimal) if has_exponent(number) => {
            plain = decimal.to_string();
            (plain.as_str(), places.saturating_sub(decimal.places()))
        }
        _ => (number, 0),
    };
    let start = out.len();
    let digits = number.bytes().filter(u8::is_ascii_digit).chain(std::iter::repeat_n(b'0', zeros));
    for digit in digits {
        if out.len() > start || digit != b'0' {
            out.push(char::from(digit));
        }
    }
}

/// Kraken's checksum covers so many levels of each side, whatever depth was subscribed.
const KRAKEN_LEVELS: usize = 10;
/// The checksums of OKX and Bitfinex cover so many levels of each side.
const LEVELS_IN_TURN: usize = 25;
