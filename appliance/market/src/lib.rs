//! Exchange messages to order books to updates to frames.
//!
//! [`Market::apply`] takes one ITCH 5.0 message and lends the images that it changed ([`Update`]) to a callback;
//! [`encode`] writes an image as a subscriber gets it, and an [`Encoder`] puts it into the ring. All of it runs once
//! per message, whatever the number of subscribers, and allocates nothing once the books have reached their size.
//!
//! ```text
//! message ─▶ Market ─▶ books ─┬─▶ orders       reference → (instrument, side, price, shares)
//!                             ├─▶ instruments  locate → symbol, price ladders, status, imbalance
//!                             └─▶ trades       match number → what a break would have to take back
//! ```
//!
//! Nothing in a message is believed. One that is no ITCH message is a [`MarketError`]; one that contradicts what
//! is known (an order nobody has seen, a reference used twice) is left out and counted under its [`Skipped`]
//! reason. Neither stops the feed: joining a day late means many of the second kind, and is no fault.

mod books;
mod counters;
pub mod encode;
mod encoder;
mod error;
mod image;
mod instruments;
mod ladder;
mod level;
pub mod limits;
mod market;
mod orders;
mod subjects;
mod text;
mod trades;

pub use counters::{Counters, SYSTEM_EVENTS, Skipped};
pub use encoder::Encoder;
pub use error::MarketError;
pub use image::{
    Bbo, Book, Channel, Image, Imbalance, InstrumentId, Side, Status, Trade, TradeKind, TradingState, Update,
};
pub use level::{Level, Levels};
pub use market::{Instrument, Market};
