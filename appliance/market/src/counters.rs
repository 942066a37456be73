//! What was applied, left out, and published. Only ever rising, across sessions too.

use crate::image::Channel;

/// Events of the `S` message, in the order of a day.
pub const SYSTEM_EVENTS: [u8; 6] = *b"OSQMEC";

/// Why a well-formed message was not applied, or not in full.
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Names an order that was never added: the feed was joined late, or messages are missing. The new order of a
    /// replacement cannot be placed either, since its instrument and side are the old one's.
    UnknownReference,
    /// Adds an order under a reference that a live order has. The live one stays.
    DuplicateReference,
    /// Concerns an instrument, but says number 0.
    LocateZero,
    /// The number is not that of the named order's or trade's instrument.
    LocateMismatch,
    /// The number belongs to another symbol, or the symbol to another number. Whoever came first keeps both.
    SymbolMismatch,
    /// An order or a trade of no shares; nothing to do.
    SharesZero,
    /// An order at price 0, which no order may have.
    PriceZero,
    /// An auction in which nothing crossed. Every instrument has some; they are not trades.
    CrossEmpty,
    /// Breaks a trade that was never published, or too long ago.
    UnknownTrade,
    /// [`ORDERS_MAX`](crate::limits::ORDERS_MAX) or [`ORDER_PROBES_MAX`](crate::limits::ORDER_PROBES_MAX).
    OrdersFull,
    /// [`LEVELS_PER_SIDE_MAX`](crate::limits::LEVELS_PER_SIDE_MAX).
    LevelsFull,
}

impl Skipped {
    /// All reasons.
    pub const ALL: [Skipped; 11] = [
        Skipped::UnknownReference,
        Skipped::DuplicateReference,
        Skipped::LocateZero,
        Skipped::LocateMismatch,
        Skipped::SymbolMismatch,
        Skipped::SharesZero,
        Skipped::PriceZero,
        Skipped::CrossEmpty,
        Skipped::UnknownTrade,
        Skipped::OrdersFull,
        Skipped::LevelsFull,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Skipped::UnknownReference => "unknown_reference",
            Skipped::DuplicateReference => "duplicate_reference",
            Skipped::LocateZero => "locate_zero",
            Skipped::LocateMismatch => "locate_mismatch",
            Skipped::SymbolMismatch => "symbol_mismatch",
            Skipped::SharesZero => "shares_zero",
            Skipped::PriceZero => "price_zero",
            Skipped::CrossEmpty => "cross_empty",
            Skipped::UnknownTrade => "unknown_trade",
            Skipped::OrdersFull => "orders_full",
            Skipped::LevelsFull => "levels_full",
        }
    }
}

/// The counters of one [`Market`](crate::Market).
#[derive(Clone, Debug)]
pub struct Counters {
    pub(crate) messages: [u64; 256],
    pub(crate) skipped: [u64; Skipped::ALL.len()],
    pub(crate) updates: [u64; Channel::ALL.len()],
    pub(crate) system_events: [u64; SYSTEM_EVENTS.len()],
    /// Messages that are malformed ([`MarketError`](crate::MarketError)).
    pub malformed: u64,
    /// Messages that took more shares from an order than it had left; it is removed, and the trade published as told.
    pub shares_excess: u64,
    /// Images that a message concerned but left as they were, and which were not published again: the best quote
    /// when an order changed behind it, a halt told twice.
    pub unchanged_suppressed: u64,
    /// Best quotes published with the bid at or above the ask. Usual before the open.
    pub quotes_crossed: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            messages: [0; 256],
            skipped: [0; Skipped::ALL.len()],
            updates: [0; Channel::ALL.len()],
            system_events: [0; SYSTEM_EVENTS.len()],
            malformed: 0,
            shares_excess: 0,
            unchanged_suppressed: 0,
            quotes_crossed: 0,
        }
    }
}

impl Counters {
    /// Messages of this type with a length that it may have.
    pub fn messages(&self, kind: u8) -> u64 {
        self.messages[usize::from(kind)]
    }

    /// Messages of all types.
    pub fn messages_total(&self) -> u64 {
        self.messages.iter().sum()
    }

    /// Messages left out for this reason.
    pub fn skipped(&self, reason: Skipped) -> u64 {
        self.skipped[reason as usize]
    }

    /// Updates published.
    pub fn updates(&self, channel: Channel) -> u64 {
        self.updates[channel.index()]
    }

    /// `S` messages with this event, one of [`SYSTEM_EVENTS`].
    pub fn system_events(&self, event: u8) -> u64 {
        SYSTEM_EVENTS
            .iter()
            .zip(self.system_events)
            .find_map(|(&code, count)| (code == event).then_some(count))
            .unwrap_or(0)
    }
}
