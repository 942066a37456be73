//! JSON text, written by hand: this is on the path of every update.

use crate::image::{Bbo, Book, Image, Imbalance, Level, Levels, Side, Status, Trade};

/// Appends `{"s":subject,"q":seq,"p":prev,"t":"ts_ns","d":image}`, `prev` being the sequence number of the subject's
/// previous frame. `subject` is printable ASCII.
pub fn write(out: &mut Vec<u8>, subject: &str, seq: u64, prev: u64, ts_ns: u64, image: &Image<'_>) {
    head(out, subject, seq, prev, ts_ns);
    match image {
        Image::Trade(image) => trade(out, image),
        Image::Bbo(image) => bbo(out, image),
        Image::Book(image) => book(out, image),
        Image::Status(image) => status(out, image),
        Image::Imbalance(image) => imbalance(out, image),
    }
    out.push(b'}');
}

/// Appends all of that before the image.
pub fn head(out: &mut Vec<u8>, subject: &str, seq: u64, prev: u64, ts_ns: u64) {
    out.extend_from_slice(b"{\"s\":");
    text(out, subject);
    out.extend_from_slice(b",\"q\":");
    number(out, seq);
    out.extend_from_slice(b",\"p\":");
    number(out, prev);
    out.extend_from_slice(b",\"t\":\"");
    number(out, ts_ns);
    out.extend_from_slice(b"\",\"d\":");
}

/// The checksum of a book, with the end of `out` as scratch.
pub(super) fn crc(out: &mut Vec<u8>, book: &Book<'_>) -> u32 {
    *book.crc.get_or_init(|| {
        let start = out.len();
        levels(out, book.bids);
        let middle = out.len();
        levels(out, book.asks);
        let crc = crc_of(&out[start..middle], &out[middle..]);
        out.truncate(start);
        crc
    })
}

fn crc_of(bids: &[u8], asks: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in [b"[", bids, b",", asks, b"]"] {
        hasher.update(part);
    }
    hasher.finalize()
}

fn trade(out: &mut Vec<u8>, trade: &Trade) {
    out.extend_from_slice(b"{\"px\":");
    number(out, trade.price);
    out.extend_from_slice(b",\"sz\":");
    number(out, trade.shares);
    out.extend_from_slice(match trade.side {
        Some(Side::Buy) => b",\"side\":\"B\",\"match\":",
        Some(Side::Sell) => b",\"side\":\"S\",\"match\":",
        None => b",\"side\":null,\"match\":",
    });
    number(out, trade.match_number);
    out.extend_from_slice(b",\"kind\":\"");
    out.extend_from_slice(trade.kind.name().as_bytes());
    out.extend_from_slice(b"\"}");
}

fn bbo(out: &mut Vec<u8>, bbo: &Bbo) {
    for (key, side) in [("{\"bid\":", &bbo.bid), (",\"ask\":", &bbo.ask)] {
        out.extend_from_slice(key.as_bytes());
        match side {
            Some(best) => level(out, best),
            None => out.extend_from_slice(b"null"),
        }
    }
    end(out, bbo.incomplete);
}

fn book(out: &mut Vec<u8>, book: &Book<'_>) {
    out.extend_from_slice(b"{\"bids\":");
    let bids_start = out.len();
    levels(out, book.bids);
    let bids_end = out.len();
    out.extend_from_slice(b",\"asks\":");
    let asks_start = out.len();
    levels(out, book.asks);
    let crc = *book.crc.get_or_init(|| crc_of(&out[bids_start..bids_end], &out[asks_start..]));
    out.extend_from_slice(b",\"crc\":");
    number(out, crc);
    end(out, book.incomplete);
}

fn end(out: &mut Vec<u8>, incomplete: bool) {
    out.extend_from_slice(if incomplete { b",\"incomplete\":true}" } else { b"}" });
}

fn status(out: &mut Vec<u8>, status: &Status) {
    out.extend_from_slice(b"{\"state\":");
    letter(out, status.state as u8);
    out.extend_from_slice(b",\"reason\":");
    text(out, status.reason());
    out.push(b'}');
}

fn imbalance(out: &mut Vec<u8>, imbalance: &Imbalance) {
    out.extend_from_slice(b"{\"paired\":");
    number(out, imbalance.paired);
    out.extend_from_slice(b",\"imbalance\":");
    number(out, imbalance.imbalance);
    out.extend_from_slice(b",\"dir\":");
    letter(out, imbalance.direction);
    out.extend_from_slice(b",\"near\":");
    number(out, imbalance.near);
    out.extend_from_slice(b",\"far\":");
    number(out, imbalance.far);
    out.extend_from_slice(b",\"ref\":");
    number(out, imbalance.reference);
    out.extend_from_slice(b",\"cross\":");
    letter(out, imbalance.cross);
    out.push(b'}');
}

fn levels(out: &mut Vec<u8>, levels: Levels<'_>) {
    out.push(b'[');
    for (index, one) in levels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        level(out, one);
    }
    out.push(b']');
}

fn level(out: &mut Vec<u8>, level: &Level) {
    out.push(b'[');
    number(out, level.price);
    out.push(b',');
    number(out, level.shares);
    out.push(b',');
    number(out, level.orders);
    out.push(b']');
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn letter(out: &mut Vec<u8>, code: u8) {
    out.push(b'"');
    escaped(out, code);
    out.push(b'"');
}

/// A string of printable ASCII, of which two need a backslash (RFC 8259, section 7).
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if text.bytes().any(is_special) {
        text.bytes().for_each(|byte| escaped(out, byte));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

fn escaped(out: &mut Vec<u8>, byte: u8) {
    if is_special(byte) {
        out.push(b'\\');
    }
    out.push(byte);
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}
