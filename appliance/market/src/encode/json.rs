//! JSON text, written by hand: this is on the path of every update.

use fanblade_feed::UnixNs;

use crate::image::{Bbo, Book, Image, Imbalance, Side, Status, Trade};
use crate::level::Levels;
use crate::text::Text;

/// Appends `{"s":subject,"q":seq,"p":prev,"t":"ts_ns","d":image}`, `prev` being the sequence number of the subject's
/// previous frame. `subject` is printable ASCII.
pub fn write(out: &mut Vec<u8>, subject: &str, seq: u64, prev: u64, ts_ns: UnixNs, image: &Image<'_>) {
    let (start, opening) = (out.len(), opening(subject));
    out.resize(start + opening.len() + LEN_MAX, 0);
    let len = write_behind(&mut out[start..], &opening, seq, prev, ts_ns, image);
    out.truncate(start + len);
}

/// Appends what stands before the image.
pub fn head(out: &mut Vec<u8>, subject: &str, seq: u64, prev: u64, ts_ns: UnixNs) {
    open(out, subject);
    let start = out.len();
    out.resize(start + NUMBERS_LEN_MAX, 0);
    let mut text = Text::new(&mut out[start..]);
    numbers(&mut text, seq, prev, ts_ns);
    let len = text.len();
    out.truncate(start + len);
}

/// What all frames of a subject begin with.
pub(crate) fn opening(subject: &str) -> Box<[u8]> {
    let mut opening = Vec::with_capacity(subject.len() + 16);
    open(&mut opening, subject);
    opening.into()
}

fn open(out: &mut Vec<u8>, subject: &str) {
    out.extend_from_slice(b"{\"s\":\"");
    for byte in subject.bytes() {
        out.extend_from_slice(if is_special(byte) { b"\\" } else { b"" });
        out.push(byte);
    }
    out.extend_from_slice(b"\",\"q\":");
}

fn numbers(text: &mut Text<'_>, seq: u64, prev: u64, ts_ns: UnixNs) {
    text.put_number(seq);
    text.put(b",\"p\":");
    text.put_number(prev);
    text.put(b",\"t\":\"");
    text.put_number(ts_ns.0);
    text.put(b"\",\"d\":");
}

/// Writes a whole frame from the beginning of `out`, which has room for [`LEN_MAX`] bytes behind the opening, and
/// returns its length.
pub(crate) fn write_behind(
    out: &mut [u8],
    opening: &[u8],
    seq: u64,
    prev: u64,
    ts_ns: UnixNs,
    image: &Image<'_>,
) -> usize {
    let mut text = Text::new(out);
    text.put_slice(opening);
    numbers(&mut text, seq, prev, ts_ns);
    match image {
        Image::Trade(image) => trade(&mut text, image),
        Image::Bbo(image) => bbo(&mut text, image),
        Image::Book(image) => book(&mut text, image),
        Image::Status(image) => status(&mut text, image),
        Image::Imbalance(image) => imbalance(&mut text, image),
    }
    text.put(b"}");
    text.len()
}

/// The checksum of a book.
pub(super) fn crc(book: &Book<'_>) -> u32 {
    *book.crc.get_or_init(|| {
        let mut bytes = [0; LEN_MAX];
        let mut text = Text::new(&mut bytes);
        text.put(b"[");
        levels(&mut text, book.bids);
        text.put(b",");
        levels(&mut text, book.asks);
        text.put(b"]");
        crc32fast::hash(text.since(0))
    })
}

fn trade(text: &mut Text<'_>, trade: &Trade) {
    text.put(b"{\"px\":");
    text.put_number(trade.price.into());
    text.put(b",\"sz\":");
    text.put_number(trade.shares);
    match trade.side {
        Some(Side::Buy) => text.put(b",\"side\":\"B\",\"match\":"),
        Some(Side::Sell) => text.put(b",\"side\":\"S\",\"match\":"),
        None => text.put(b",\"side\":null,\"match\":"),
    }
    text.put_number(trade.match_number);
    text.put(b",\"kind\":\"");
    text.put_slice(trade.kind.name().as_bytes());
    text.put(b"\"}");
}

fn bbo(text: &mut Text<'_>, bbo: &Bbo) {
    for (key, side) in [(b"{\"bid\":", &bbo.bid), (b",\"ask\":", &bbo.ask)] {
        text.put(key);
        match side {
            Some(best) => best.write(text),
            None => text.put(b"null"),
        }
    }
    end(text, bbo.incomplete);
}

/// The checksum is that of the text `[bids,asks]`: for a moment, each half of that stands here as it is.
fn book(text: &mut Text<'_>, book: &Book<'_>) {
    text.put(b"{\"bids\"[");
    let bids = text.len() - 1;
    levels(text, book.bids);
    text.put(b",");
    let mut crc = crc32fast::Hasher::new();
    crc.update(text.since(bids));
    text.replace(bids, b':');
    text.put(b"\"asks\":");
    let asks = text.len();
    levels(text, book.asks);
    text.put(b"]");
    crc.update(text.since(asks));
    let crc = *book.crc.get_or_init(|| crc.finalize());
    text.replace(text.len() - 1, b',');
    text.put(b"\"crc\":");
    text.put_number(crc.into());
    end(text, book.incomplete);
}

fn end(text: &mut Text<'_>, incomplete: bool) {
    if incomplete {
        text.put(b",\"incomplete\":true");
    }
    text.put(b"}");
}

fn status(text: &mut Text<'_>, status: &Status) {
    text.put(b"{\"state\":");
    letter(text, status.state as u8);
    text.put(b",\"reason\":\"");
    status.reason().bytes().for_each(|byte| escaped(text, byte));
    text.put(b"\"}");
}

fn imbalance(text: &mut Text<'_>, imbalance: &Imbalance) {
    text.put(b"{\"paired\":");
    text.put_number(imbalance.paired);
    text.put(b",\"imbalance\":");
    text.put_number(imbalance.imbalance);
    text.put(b",\"dir\":");
    letter(text, imbalance.direction);
    text.put(b",\"near\":");
    text.put_number(imbalance.near.into());
    text.put(b",\"far\":");
    text.put_number(imbalance.far.into());
    text.put(b",\"ref\":");
    text.put_number(imbalance.reference.into());
    text.put(b",\"cross\":");
    letter(text, imbalance.cross);
    text.put(b"}");
}

fn levels(text: &mut Text<'_>, levels: Levels<'_>) {
    text.put(b"[");
    for (one, written) in levels.with_texts() {
        match written.len() {
            0 => {
                one.write(text);
                text.put(b",");
            }
            len => text.put_padded(written.bytes(), len),
        }
    }
    match levels.is_empty() {
        true => text.put(b"]"),
        // It takes the place of the last comma.
        false => text.replace(text.len() - 1, b']'),
    }
}

/// Room for three numbers of 20 digits, what stands between them, and what the last is written with.
const NUMBERS_LEN_MAX: usize = 128;

fn letter(text: &mut Text<'_>, code: u8) {
    text.put(b"\"");
    escaped(text, code);
    text.put(b"\"");
}

/// A letter of a string of printable ASCII, of which two need a backslash (RFC 8259, section 7).
fn escaped(text: &mut Text<'_>, byte: u8) {
    if is_special(byte) {
        text.put(b"\\");
    }
    text.put(&[byte]);
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}

/// More than a frame has behind its opening: three numbers of twenty digits, twenty levels of 45 bytes, and the keys.
pub(crate) const LEN_MAX: usize = 1_200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::{Level, LevelText};

    #[test]
    fn levels_of_any_size_are_written_whole() {
        let sizes = [(1, 1, 1), (2_897_200, 300, 12), (99_999_999, 100_000_000, 9), (u32::MAX, u64::MAX, u32::MAX)];
        let levels: Vec<Level> =
            sizes.into_iter().rev().map(|(price, shares, orders)| Level { price, orders, shares }).collect();
        let texts: Vec<LevelText> = levels.iter().rev().map(LevelText::of).collect();
        assert_eq!(texts.iter().map(LevelText::len).collect::<Vec<_>>(), [8, 17, 23, 0], "the last is not kept");
        for count in 0..=sizes.len() {
            let mut bytes = [0; LEN_MAX];
            let mut text = Text::new(&mut bytes);
            super::levels(&mut text, Levels::best_of(&levels[sizes.len() - count..], &texts));
            let expected = sizes[..count].iter().map(|(price, shares, orders)| format!("[{price},{shares},{orders}]"));
            let expected = format!("[{}]", expected.collect::<Vec<_>>().join(","));
            assert_eq!(text.since(0), expected.as_bytes());
        }
    }
}
