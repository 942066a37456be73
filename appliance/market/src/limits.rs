//! What bounds the books: how much, why this much, what happens there, and which counter moves.

/// Live orders. The busiest public sample days peak at about 1.7 million; twice that and some. The table is
/// reserved whole at the start (192 MiB of address space, of which only touched pages become memory), so that it never
/// has to move. An order beyond it stays out of the book: [`Skipped::OrdersFull`](crate::Skipped::OrdersFull).
pub const ORDERS_MAX: usize = 4 << 20;

/// Steps from an order's home slot to where it may lie. The table is at most half full, where one order in ten
/// thousand lies further than 50 steps; 256 keeps a look-up bounded whatever references a feed invents.
/// An order that finds no place stays out: [`Skipped::OrdersFull`](crate::Skipped::OrdersFull).
pub const ORDER_PROBES_MAX: usize = 256;

/// Price levels on one side of one book. Busy instruments have hundreds, a few thousands; an insertion moves at most
/// this many entries of 16 bytes. A level beyond it stays out:
/// [`Skipped::LevelsFull`](crate::Skipped::LevelsFull).
pub const LEVELS_PER_SIDE_MAX: usize = 16 << 10;

/// Instruments: all values of `locate`, so no counter is needed. 0 is none of them
/// ([`Skipped::LocateZero`](crate::Skipped::LocateZero)).
pub const INSTRUMENTS_MAX: usize = 1 << 16;

/// Trades that a later break can name, 24 bytes each. Match numbers rise through the day, so the last million or so
/// are known; the break of an older one is not published: [`Skipped::UnknownTrade`](crate::Skipped::UnknownTrade).
pub const TRADES_REMEMBERED_MAX: usize = 1 << 20;

/// Levels per side in the image of the `book` channel.
pub const BOOK_LEVELS: usize = 10;
