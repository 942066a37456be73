//! BinaryFILE: how Nasdaq stores a day of messages.
//!
//! A u16 length, big-endian, and that many bytes; again and again. A length of zero ends the session. There are no
//! sequence numbers: the first message is number 1. Files come plain or gzipped; which, their first bytes say.
//!
//! Source: "BinaryFILE" specification, version 1.00, Nasdaq.

mod error;
mod feed;
mod reader;

pub use error::FileError;
pub use feed::{Day, FileFeed};
pub use reader::{FileFault, Item, Reader};
