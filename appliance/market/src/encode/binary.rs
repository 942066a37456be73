//! Packed binary, little-endian, fixed structs: a [`Head`], then the channel's struct.
//!
//! | channel | struct | bytes after the head | absent things |
//! |---|---|---|---|
//! | 1 trade | [`Trade`] | 24 | `side` 0 for a cross |
//! | 2 bbo | [`Bbo`] | 32 | a missing side is all zero, so `orders` 0 |
//! | 3 book | [`Book`] | 328 | levels from `bids_len` / `asks_len` on are all zero |
//! | 4 status | [`Status`] | 8 | no reason: four spaces |
//! | 5 imbalance | [`Imbalance`] | 32 | a price of 0 is none |
//!
//! Every field lies at a multiple of its size, counted from the beginning of the message, so a browser may read it with
//! a `DataView` and a C program with a struct. Reserved bytes are zero. Later versions may append to a struct: readers
//! must take a longer message than they know.

use fanblade_feed::UnixNs;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::json;
use crate::image::{self, Image};
use crate::level;
use crate::limits::BOOK_LEVELS;

/// Value of [`Head::version`].
pub const VERSION: u8 = 1;

/// Bit of [`Head::flags`]: messages are missing from which orders may have come.
pub const FLAG_INCOMPLETE: u16 = 1;

/// Appends head and image. `sid` is the subject's number in this epoch, `prev` the sequence number of its
/// previous frame.
pub fn write(out: &mut Vec<u8>, sid: u32, seq: u64, prev: u64, ts_ns: UnixNs, image: &Image<'_>) {
    let start = out.len();
    out.resize(start + LEN_MAX, 0);
    let len = write_into(&mut out[start..], sid, seq, prev, ts_ns, image);
    out.truncate(start + len);
}

/// Writes a whole frame from the beginning of `out`, which has room for [`LEN_MAX`] bytes, and returns its length.
pub(crate) fn write_into(out: &mut [u8], sid: u32, seq: u64, prev: u64, ts_ns: UnixNs, image: &Image<'_>) -> usize {
    let head = Head {
        version: VERSION,
        channel: image.channel() as u8,
        flags: U16::new(if image.is_incomplete() { FLAG_INCOMPLETE } else { 0 }),
        sid: U32::new(sid),
        seq: U64::new(seq),
        prev: U64::new(prev),
        ts_ns: U64::new(ts_ns.0),
    };
    let Ok((place, body)) = Head::mut_from_prefix(out) else { return 0 };
    *place = head;
    let len = match image {
        Image::Trade(image) => put(body, Trade::from(image)),
        Image::Bbo(image) => put(body, Bbo::from(image)),
        Image::Book(image) => book(body, image),
        Image::Status(image) => put(body, Status::from(image)),
        Image::Imbalance(image) => put(body, Imbalance::from(image)),
    };
    size_of::<Head>() + len
}

fn put<T: IntoBytes + FromBytes + KnownLayout + Immutable>(out: &mut [u8], image: T) -> usize {
    match T::mut_from_prefix(out) {
        Ok((place, _)) => *place = image,
        Err(_) => return 0,
    }
    size_of::<T>()
}

/// Writes each level in its place. The book is the largest struct, and is not made first and copied then.
fn book(out: &mut [u8], book: &image::Book<'_>) -> usize {
    let Ok((place, _)) = Book::mut_from_prefix(out) else { return 0 };
    place.crc = U32::new(json::crc(book));
    (place.bids_len, place.asks_len) = (levels_len(book.bids.len()), levels_len(book.asks.len()));
    place.reserved = [0; 2];
    for (side, levels) in [(&mut place.bids, book.bids), (&mut place.asks, book.asks)] {
        let (there, absent) = side.split_at_mut(levels.len());
        for (to, from) in there.iter_mut().zip(levels.iter()) {
            *to = Level::from(from);
        }
        absent.fill_with(Level::new_zeroed);
    }
    size_of::<Book>()
}

#[expect(clippy::cast_possible_truncation, reason = "at most BOOK_LEVELS")]
fn levels_len(levels: usize) -> u8 {
    levels as u8
}

/// Head and the longest image.
pub(crate) const LEN_MAX: usize = size_of::<Head>() + size_of::<Book>();

/// Beginning of every message, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Head {
    /// [`VERSION`].
    pub version: u8,
    /// The channel, which says which struct follows.
    pub channel: u8,
    /// Bit 0: [`FLAG_INCOMPLETE`].
    pub flags: U16,
    /// Number of the subject.
    pub sid: U32,
    /// Sequence number.
    pub seq: U64,
    /// Sequence number of the subject's previous frame, 0 for the first.
    pub prev: U64,
    /// Exchange time, nanoseconds since the Unix epoch.
    pub ts_ns: U64,
}

/// Channel 1, 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Trade {
    /// Day-unique number of the trade.
    pub match_number: U64,
    /// Shares.
    pub shares: U64,
    /// In units of 1/10000.
    pub price: U32,
    /// 1 execution, 2 hidden, 3 cross, 4 broken.
    pub kind: u8,
    /// Letter `B` or `S`; 0 for a cross.
    pub side: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// All orders of one side at one price, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Level {
    /// In units of 1/10000.
    pub price: U32,
    /// Number of orders.
    pub orders: U32,
    /// Sum of their shares.
    pub shares: U64,
}

/// Channel 2, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bbo {
    /// Highest bid.
    pub bid: Level,
    /// Lowest ask.
    pub ask: Level,
}

/// Channel 3, 328 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Book {
    /// Checksum, as the JSON encoding has it.
    pub crc: U32,
    /// How many of `bids` there are.
    pub bids_len: u8,
    /// How many of `asks` there are.
    pub asks_len: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Highest first.
    pub bids: [Level; BOOK_LEVELS],
    /// Lowest first.
    pub asks: [Level; BOOK_LEVELS],
}

/// Channel 4, 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Status {
    /// Letter `T`, `H`, `P` or `Q`.
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// ASCII, padded with spaces.
    pub reason: [u8; 4],
}

/// Channel 5, 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Imbalance {
    /// Shares paired at the reference price.
    pub paired: U64,
    /// Shares not paired.
    pub imbalance: U64,
    /// In units of 1/10000.
    pub near: U32,
    /// In units of 1/10000.
    pub far: U32,
    /// In units of 1/10000.
    pub reference: U32,
    /// Letter.
    pub direction: u8,
    /// Letter.
    pub cross: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

impl From<&image::Trade> for Trade {
    fn from(trade: &image::Trade) -> Trade {
        Trade {
            match_number: U64::new(trade.match_number),
            shares: U64::new(trade.shares),
            price: U32::new(trade.price),
            kind: trade.kind as u8,
            side: trade.side.map_or(0, |side| side as u8),
            reserved: [0; 2],
        }
    }
}

impl From<&level::Level> for Level {
    fn from(level: &level::Level) -> Level {
        Level { price: U32::new(level.price), orders: U32::new(level.orders), shares: U64::new(level.shares) }
    }
}

impl From<&image::Bbo> for Bbo {
    fn from(bbo: &image::Bbo) -> Bbo {
        let side = |level: &Option<level::Level>| level.as_ref().map_or_else(Level::new_zeroed, Level::from);
        Bbo { bid: side(&bbo.bid), ask: side(&bbo.ask) }
    }
}

impl From<&image::Status> for Status {
    fn from(status: &image::Status) -> Status {
        Status { state: status.state as u8, reserved: [0; 3], reason: status.reason }
    }
}

impl From<&image::Imbalance> for Imbalance {
    fn from(imbalance: &image::Imbalance) -> Imbalance {
        Imbalance {
            paired: U64::new(imbalance.paired),
            imbalance: U64::new(imbalance.imbalance),
            near: U32::new(imbalance.near),
            far: U32::new(imbalance.far),
            reference: U32::new(imbalance.reference),
            direction: imbalance.direction,
            cross: imbalance.cross,
            reserved: [0; 2],
        }
    }
}
