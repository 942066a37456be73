//! Images as subscribers get them: the payloads, without any frame header.
//!
//! Both writers append to a buffer that the caller reuses, so that they allocate nothing once it has grown.
//!
//! # The book's checksum
//!
//! `crc` is the CRC-32 (IEEE 802.3, as in zlib) of the image's levels written as the JSON text `[bids,asks]` without
//! spaces, the same in both encodings. A subscriber checks it with one line of JavaScript:
//! `crc32(JSON.stringify([d.bids, d.asks])) === d.crc`.
//! The book with one bid of 300 shares at 28972 and nothing else has the text `[[[28972,300,1]],[]]`.

pub mod binary;
pub(crate) mod json;

pub use binary::write as binary;
pub use json::head as json_head;
pub use json::write as json;

use crate::image::Book;

/// The checksum of a book.
pub fn crc(book: &Book<'_>) -> u32 {
    json::crc(book)
}
