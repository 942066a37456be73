//! Reads venues' messages about books into one form: levels to set and to remove, the checksum, and the number of the
//! change that they follow.

use std::borrow::Cow;
use std::fmt;

use fanblade_wire::decimal::Decimal;
use fanblade_wire::json::Object;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::extract::elements;
use super::super::limits::{LEVEL_TEXT_LEN_MAX, TEXT_LEN_MAX};
use super::super::value::{excerpt, number, text, unquoted};

/// The venue's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BookFormat {
    /// Kraken v2, channel `book`: `{"bids":[{"price":1.5,"qty":2}],"asks":[],"checksum":1}`; the checksum is verified.
    Kraken,
    /// Kraken v1: `[1,{"as":[["1.6","2","1.1"]],"bs":[]},"book-10","XBT/USD"]`, then
    /// `[1,{"a":[…]},{"b":[…],"c":"1"},…]`; the checksum is verified.
    KrakenV1,
    /// Coinbase Exchange, channels `level2` and `level2_batch`: `{"bids":[["1.5","2"]],"asks":[]}`, then
    /// `{"changes":[["buy","1.5","0"]]}`.
    Coinbase,
    /// Gemini v2, `l2_updates`: `{"changes":[["buy","1.5","2"]]}`; the first message of a connection is the whole book.
    Gemini,
    /// Bitfinex, channel `book`, precisions `P0` to `P4`: `[1,[[1.5,1,2]]]`, then `[1,[1.5,0,1]]`; `[1,"cs",2]` is
    /// verified.
    Bitfinex,
    /// OKX, channels `books` and the like:
    /// `{"asks":[["1.6","2","0","1"]],"bids":[],"checksum":1,"prevSeqId":1,"seqId":2}`; checksum and numbers are
    /// verified.
    Okx,
    /// Binance: changes `{"U":1,"u":2,"b":[["1.5","2"]],"a":[]}`, with `pu` for futures, to a book that we fetch by
    /// HTTPS.
    Binance,
}

/// A message about a book.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Message<'a> {
    /// The book, or its change.
    pub(in super::super) text: &'a str,
    /// The value that tells a snapshot from a change, if the format has one.
    pub(in super::super) kind: Option<&'a str>,
    /// This is the first message of this book on this connection.
    pub(in super::super) is_first: bool,
}

/// The content of a message about a book.
#[derive(Debug)]
pub(in super::super) struct Change<'a> {
    pub(in super::super) kind: Kind,
    pub(super) levels: Vec<LevelChange<'a>>,
    pub(in super::super) bad: Bad,
    pub(super) checksum: Option<u32>,
    pub(super) link: Link,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// The whole book.
    Snapshot,
    /// Changes to the book.
    Update,
    /// Only the checksum that the book must have now.
    Check,
    /// Nothing but a sign of life.
    Nothing,
}

/// One level as it is now.
#[derive(Debug)]
pub(super) struct LevelChange<'a> {
    pub(super) side: Side,
    pub(super) key: Decimal,
    /// Price and quantity as the venue wrote them; none: the level is removed.
    pub(super) level: Option<(Cow<'a, str>, Cow<'a, str>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Bid,
    Ask,
}

/// Levels that could not be read: how many, and the text of the first.
#[derive(Debug, Default)]
pub(in super::super) struct Bad {
    pub(in super::super) count: u64,
    pub(in super::super) first: String,
}

/// The change that this one follows, by the venue's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    None,
    /// It follows the change `previous`; none: it follows no change.
    Chain {
        previous: Option<u64>,
        last: u64,
    },
    /// It holds the changes `first` to `last`; it follows `previous`, if the venue leaves out numbers.
    Range {
        first: u64,
        last: u64,
        previous: Option<u64>,
    },
}

impl Link {
    pub(super) fn last(self) -> Option<u64> {
        match self {
            Link::None => None,
            Link::Chain { last, .. } | Link::Range { last, .. } => Some(last),
        }
    }
}

impl BookFormat {
    /// The name of the field that tells a snapshot from a change, in the message.
    pub(in super::super) fn kind_name(self) -> Option<&'static str> {
        match self {
            BookFormat::Kraken | BookFormat::Coinbase => Some("type"),
            BookFormat::Okx => Some("action"),
            BookFormat::KrakenV1 | BookFormat::Gemini | BookFormat::Bitfinex | BookFormat::Binance => None,
        }
    }

    /// The venue does not say which levels have left the depth that was subscribed.
    pub(super) fn is_cut(self) -> bool {
        matches!(self, BookFormat::Kraken | BookFormat::KrakenV1)
    }

    pub(in super::super) fn read(self, message: Message<'_>) -> Result<Change<'_>, String> {
        let is_snapshot = message.kind.is_some_and(|kind| text(kind).as_deref() == Some("snapshot"));
        match self {
            BookFormat::Kraken => kraken(message.text, is_snapshot),
            BookFormat::KrakenV1 => kraken_v1(message.text),
            BookFormat::Coinbase if is_snapshot => two_sides(message.text, Kind::Snapshot),
            BookFormat::Coinbase => changes(message.text, Kind::Update),
            BookFormat::Gemini => changes(message.text, if message.is_first { Kind::Snapshot } else { Kind::Update }),
            BookFormat::Bitfinex => bitfinex(message.text),
            // In channels that have no changes, every message is a snapshot.
            BookFormat::Okx => okx(message.text, is_snapshot || message.kind.is_none()),
            BookFormat::Binance => binance(message.text),
        }
    }
}

/// The body of Binance's REST answer.
pub(in super::super) fn binance_snapshot(text: &str) -> Result<Change<'_>, String> {
    #[derive(Deserialize)]
    struct Snapshot<'a> {
        #[serde(borrow, rename = "lastUpdateId")]
        last: &'a RawValue,
    }
    let Object(Snapshot { last }) = read(text)?;
    let last = number(last.get()).ok_or_else(|| format!("`lastUpdateId` is {}, which is not a number", short(last)))?;
    Ok(Change { link: Link::Range { first: last, last, previous: None }, ..two_sides(text, Kind::Snapshot)? })
}

fn kraken(text: &str, is_snapshot: bool) -> Result<Change<'_>, String> {
    #[derive(Deserialize)]
    struct Book<'a> {
        #[serde(borrow)]
        bids: &'a RawValue,
        #[serde(borrow)]
        asks: &'a RawValue,
        #[serde(borrow)]
        checksum: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Level<'a> {
        #[serde(borrow)]
        price: &'a RawValue,
        #[serde(borrow)]
        qty: &'a RawValue,
    }
    let Object(book): Object<Book<'_>> = read(text)?;
    let mut change = Change::new(if is_snapshot { Kind::Snapshot } else { Kind::Update });
    change.checksum = Some(crc(book.checksum)?);
    for (side, levels) in [(Side::Bid, book.bids), (Side::Ask, book.asks)] {
        each(levels.get(), &mut |level| match serde_json::from_str(level) {
            Ok(Object(Level { price, qty })) => change.set(side, price.get(), qty.get()),
            Err(_) => change.leave_out(level),
        })?;
    }
    Ok(change)
}

fn kraken_v1(text: &str) -> Result<Change<'_>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Part<'a> {
        #[serde(borrow, rename = "as")]
        all_asks: Option<&'a RawValue>,
        #[serde(borrow, rename = "bs")]
        all_bids: Option<&'a RawValue>,
        #[serde(borrow)]
        a: Option<&'a RawValue>,
        #[serde(borrow)]
        b: Option<&'a RawValue>,
        #[serde(borrow)]
        c: Option<&'a RawValue>,
    }
    let mut parts = Vec::new();
    each(text, &mut |part| {
        if part.starts_with('{') {
            parts.push(part);
        }
    })?;
    let mut change = Change::new(Kind::Nothing);
    for part in parts {
        let Object(Part { all_asks, all_bids, a, b, c }) = read(part)?;
        if all_asks.is_some() || all_bids.is_some() {
            change.kind = Kind::Snapshot;
        } else if change.kind == Kind::Nothing && (a.is_some() || b.is_some()) {
            change.kind = Kind::Update;
        }
        for (side, levels) in [(Side::Ask, all_asks), (Side::Bid, all_bids), (Side::Ask, a), (Side::Bid, b)] {
            change.set_pairs(side, levels)?;
        }
        change.checksum = c.map(crc).transpose()?.or(change.checksum);
    }
    match change.kind {
        Kind::Nothing => Err("there is none of `as`, `bs`, `a` and `b`".to_owned()),
        _ => Ok(change),
    }
}

/// `{"bids":[["1.5","2"]],"asks":[]}`; other fields are ignored.
fn two_sides(text: &str, kind: Kind) -> Result<Change<'_>, String> {
    #[derive(Deserialize)]
    struct Book<'a> {
        #[serde(borrow)]
        bids: &'a RawValue,
        #[serde(borrow)]
        asks: &'a RawValue,
    }
    let Object(Book { bids, asks }) = read(text)?;
    let mut change = Change::new(kind);
    change.set_pairs(Side::Bid, Some(bids))?;
    change.set_pairs(Side::Ask, Some(asks))?;
    Ok(change)
}

/// `{"changes":[["buy","1.5","2"]]}`; other fields are ignored.
fn changes(text: &str, kind: Kind) -> Result<Change<'_>, String> {
    #[derive(Deserialize)]
    struct Changes<'a> {
        #[serde(borrow)]
        changes: &'a RawValue,
    }
    let Object(Changes { changes }) = read(text)?;
    let mut change = Change::new(kind);
    each(changes.get(), &mut |row| match cells(row) {
        Some([Some(side), Some(price), Some(quantity), ..]) => match side {
            "\"buy\"" | "\"bid\"" => change.set(Side::Bid, price, quantity),
            "\"sell\"" | "\"ask\"" => change.set(Side::Ask, price, quantity),
            _ => change.leave_out(row),
        },
        _ => change.leave_out(row),
    })?;
    Ok(change)
}

fn bitfinex(text: &str) -> Result<Change<'_>, String> {
    let Some([Some(_), Some(payload), checksum, ..]) = cells(text) else {
        return Err("no channel, or nothing after it".to_owned());
    };
    match payload {
        "\"hb\"" => return Ok(Change::new(Kind::Nothing)),
        "\"cs\"" => {
            let checksum = checksum.ok_or("there is no checksum after `cs`")?;
            return Ok(Change { checksum: Some(crc_text(checksum)?), ..Change::new(Kind::Check) });
        }
        _ => {}
    }
    let mut rows = Vec::new();
    each(payload, &mut |row| rows.push(row))?;
    if !rows.is_empty() && !rows.iter().all(|row| row.starts_with('[')) {
        let mut change = Change::new(Kind::Update);
        change.set_counted(payload);
        return Ok(change);
    }
    let mut change = Change::new(Kind::Snapshot);
    rows.iter().for_each(|row| change.set_counted(row));
    Ok(change)
}

fn okx(text: &str, is_snapshot: bool) -> Result<Change<'_>, String> {
    #[derive(Deserialize)]
    struct Book<'a> {
        #[serde(borrow, default)]
        checksum: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "seqId")]
        seq: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "prevSeqId")]
        previous: Option<&'a RawValue>,
    }
    let Object(Book { checksum, seq, previous }) = read(text)?;
    let link = match seq {
        None => Link::None,
        Some(seq) => Link::Chain {
            // -1, which is no number here: nothing comes before a snapshot.
            previous: previous.and_then(|previous| number(previous.get())),
            last: number(seq.get()).ok_or_else(|| format!("`seqId` is {}, which is not a number", short(seq)))?,
        },
    };
    // 0 stands for a checksum that the venue no longer sends.
    let checksum = checksum.map(crc).transpose()?.filter(|checksum| *checksum != 0);
    let kind = if is_snapshot { Kind::Snapshot } else { Kind::Update };
    Ok(Change { checksum, link, ..two_sides(text, kind)? })
}

fn binance(text: &str) -> Result<Change<'_>, String> {
    #[derive(Deserialize)]
    struct Diff<'a> {
        #[serde(borrow, rename = "U")]
        first: &'a RawValue,
        #[serde(borrow, rename = "u")]
        last: &'a RawValue,
        #[serde(borrow, default, rename = "pu")]
        previous: Option<&'a RawValue>,
        #[serde(borrow)]
        b: &'a RawValue,
        #[serde(borrow)]
        a: &'a RawValue,
    }
    let Object(diff): Object<Diff<'_>> = read(text)?;
    let whole = |value: &RawValue| number(value.get()).ok_or_else(|| format!("{} is not a number", short(value)));
    let (first, last) = (whole(diff.first)?, whole(diff.last)?);
    if first > last {
        return Err(format!("`U`, {first}, is above `u`, {last}"));
    }
    let mut change = Change::new(Kind::Update);
    change.link = Link::Range { first, last, previous: diff.previous.map(whole).transpose()? };
    change.set_pairs(Side::Bid, Some(diff.b))?;
    change.set_pairs(Side::Ask, Some(diff.a))?;
    Ok(change)
}

impl<'a> Change<'a> {
    fn new(kind: Kind) -> Self {
        Change { kind, levels: Vec::new(), bad: Bad::default(), checksum: None, link: Link::None }
    }

    /// Sets a level, in the venue's words. A level that cannot be read is left out, and so is the former level at its
    /// price.
    fn set(&mut self, side: Side, price: &'a str, quantity: &'a str) {
        let (price, quantity) = (unquoted(price), unquoted(quantity));
        let Ok(key) = Decimal::parse(price) else { return self.leave_out(price) };
        let level = match Decimal::parse(quantity) {
            Ok(amount) if amount.is_zero() => None,
            Ok(amount) if !amount.is_negative() => Some((bounded(price, key), bounded(quantity, amount))),
            _ => {
                self.leave_out(quantity);
                None
            }
        };
        self.levels.push(LevelChange { side, key, level });
    }

    /// `[price, quantity, …]`.
    fn set_pairs(&mut self, side: Side, levels: Option<&'a RawValue>) -> Result<(), String> {
        let Some(levels) = levels else { return Ok(()) };
        each(levels.get(), &mut |row| match cells(row) {
            Some([Some(price), Some(quantity), ..]) => self.set(side, price, quantity),
            _ => self.leave_out(row),
        })
    }

    /// `[price, count, amount]`: a count of 0 removes the level, and the amount of an ask is negative.
    fn set_counted(&mut self, row: &'a str) {
        let Some([Some(price), Some(count), Some(amount), None]) = cells(row) else { return self.leave_out(row) };
        let amount = unquoted(amount);
        let side = match Decimal::parse(amount) {
            Ok(amount) if amount.is_zero() => return self.leave_out(row),
            Ok(amount) if amount.is_negative() => Side::Ask,
            Ok(_) => Side::Bid,
            Err(_) => return self.leave_out(row),
        };
        match Decimal::parse(unquoted(count)) {
            Ok(count) if count.is_zero() => self.set(side, price, "0"),
            Ok(_) => self.set(side, price, amount.trim_start_matches('-')),
            Err(_) => self.leave_out(row),
        }
    }

    fn leave_out(&mut self, what: &str) {
        self.bad.count += 1;
        if self.bad.first.is_empty() {
            self.bad.first = excerpt(what, TEXT_LEN_MAX);
        }
    }
}

/// The text of a number; a very long one is written anew, without needless zeros.
fn bounded(text: &str, number: Decimal) -> Cow<'_, str> {
    if text.len() <= LEVEL_TEXT_LEN_MAX { Cow::Borrowed(text) } else { Cow::Owned(number.to_string()) }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn each<'a>(array: &'a str, sink: &mut dyn FnMut(&'a str)) -> Result<(), String> {
    elements(array, sink).map_err(|error| error.to_string())
}

/// A checksum of 32 bits, which some venues write as a signed number.
fn crc(value: &RawValue) -> Result<u32, String> {
    crc_text(value.get())
}

fn crc_text(value: &str) -> Result<u32, String> {
    let digits = unquoted(value);
    let magnitude = number(digits.trim_start_matches('-')).and_then(|magnitude| u32::try_from(magnitude).ok());
    match magnitude {
        Some(magnitude) if !digits.starts_with('-') => Ok(magnitude),
        Some(magnitude) if magnitude <= 1 << 31 => Ok(magnitude.wrapping_neg()),
        _ => Err(format!("{} is not a checksum", excerpt(value, TEXT_LEN_MAX))),
    }
}

fn short(value: &RawValue) -> String {
    excerpt(value.get(), TEXT_LEN_MAX)
}

/// The first elements of an array, each as text; `None` if the text is no array.
fn cells(text: &str) -> Option<[Option<&str>; CELLS]> {
    struct Cells;

    impl<'de> Visitor<'de> for Cells {
        type Value = [Option<&'de str>; CELLS];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut cells = [None; CELLS];
            for cell in &mut cells {
                *cell = seq.next_element::<&RawValue>()?.map(RawValue::get);
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(cells)
        }
    }

    serde_json::Deserializer::from_str(text).deserialize_seq(Cells).ok()
}

/// The most elements of a row that any format needs.
const CELLS: usize = 4;
