//! What a channel shows: the whole state of one subject, never a difference, so that the newest image is a snapshot.

use core::cell::OnceCell;

use fanblade_feed::UnixNs;

use crate::level::{Level, Levels};

/// Number of an instrument: ITCH's `locate`, dense, valid for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentId(pub u16);

/// Last segment of a subject. The numbers are those of the binary protocol.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Trades, hidden ones, crosses, and trades taken back.
    Trade = 1,
    /// Best bid and offer.
    Bbo = 2,
    /// The best levels of both sides.
    Book = 3,
    /// Trading state.
    Status = 4,
    /// Order imbalance before an auction.
    Imbalance = 5,
}

impl Channel {
    /// All channels.
    pub const ALL: [Channel; 5] = [Channel::Trade, Channel::Bbo, Channel::Book, Channel::Status, Channel::Imbalance];

    /// Its name in a subject.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Trade => "trade",
            Channel::Bbo => "bbo",
            Channel::Book => "book",
            Channel::Status => "status",
            Channel::Imbalance => "imbalance",
        }
    }

    /// Place in [`Channel::ALL`].
    pub fn index(self) -> usize {
        self as usize - 1
    }
}

/// One changed image, lent for the duration of the callback.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// Sequence number of the message that caused it.
    pub seq: u64,
    /// The instrument that the image is of.
    pub instrument: InstrumentId,
    /// First segment of the subject.
    pub venue: &'a str,
    /// Second segment of the subject: printable ASCII without spaces and slashes, at most 8 bytes.
    pub symbol: &'a str,
    /// Last segment of the subject.
    pub channel: Channel,
    /// Exchange time.
    pub ts_ns: UnixNs,
    /// The image.
    pub image: Image<'a>,
}

impl Update<'_> {
    /// Puts the subject into `out`: `/NASDAQ/AAPL/bbo`. What cannot stand in a subject is escaped, so that two symbols
    /// never share one: `/NASDAQ/C-L~2A/bbo` for `C-L*`.
    pub fn subject(&self, out: &mut String) {
        out.clear();
        out.push('/');
        out.push_str(self.venue);
        out.push('/');
        for char in self.symbol.chars() {
            // A subscriber could not ask for it: there a star is a pattern, and `%` begins an escape of addresses.
            match char {
                '*' => out.push_str("~2A"),
                '%' => out.push_str("~25"),
                '~' => out.push_str("~7E"),
                char => out.push(char),
            }
        }
        out.push('/');
        out.push_str(self.channel.name());
    }
}

/// State of one subject.
#[derive(Clone, Debug)]
pub enum Image<'a> {
    /// The image of [`Channel::Trade`].
    Trade(Trade),
    /// The image of [`Channel::Bbo`].
    Bbo(Bbo),
    /// The image of [`Channel::Book`].
    Book(Book<'a>),
    /// The image of [`Channel::Status`].
    Status(Status),
    /// The image of [`Channel::Imbalance`].
    Imbalance(Imbalance),
}

impl Image<'_> {
    /// The channel that shows it.
    pub fn channel(&self) -> Channel {
        match self {
            Image::Trade(_) => Channel::Trade,
            Image::Bbo(_) => Channel::Bbo,
            Image::Book(_) => Channel::Book,
            Image::Status(_) => Channel::Status,
            Image::Imbalance(_) => Channel::Imbalance,
        }
    }
}

impl Image<'_> {
    /// Is it marked as incomplete? Only quotes and books can be.
    pub fn is_incomplete(&self) -> bool {
        match self {
            Image::Bbo(bbo) => bbo.incomplete,
            Image::Book(book) => book.incomplete,
            Image::Trade(_) | Image::Status(_) | Image::Imbalance(_) => false,
        }
    }
}

/// Side of an order.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Bid.
    Buy = b'B',
    /// Ask.
    Sell = b'S',
}

impl Side {
    /// Side of ITCH's letter.
    pub fn from_code(code: u8) -> Option<Side> {
        match code {
            b'B' => Some(Side::Buy),
            b'S' => Some(Side::Sell),
            _ => None,
        }
    }
}

/// How a trade came about.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeKind {
    /// Against a displayed order.
    Execution = 1,
    /// Against a hidden order.
    Hidden = 2,
    /// An auction.
    Cross = 3,
    /// The trade of this match number is taken back.
    Broken = 4,
}

impl TradeKind {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            TradeKind::Execution => "execution",
            TradeKind::Hidden => "hidden",
            TradeKind::Cross => "cross",
            TradeKind::Broken => "broken",
        }
    }
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// In units of 1/10000.
    pub price: u32,
    /// Shares.
    pub shares: u64,
    /// Side of the resting order; none in a cross.
    pub side: Option<Side>,
    /// Day-unique number of the trade.
    pub match_number: u64,
    /// How it came about.
    pub kind: TradeKind,
}

/// Best bid and offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bbo {
    /// Highest bid.
    pub bid: Option<Level>,
    /// Lowest ask.
    pub ask: Option<Level>,
    /// Messages are missing from which orders may have come: there may be more, and less, than this.
    pub incomplete: bool,
}

/// The best [`BOOK_LEVELS`](crate::limits::BOOK_LEVELS) of both sides.
#[derive(Clone, Debug)]
pub struct Book<'a> {
    /// Highest first.
    pub bids: Levels<'a>,
    /// Lowest first.
    pub asks: Levels<'a>,
    /// As in [`Bbo`].
    pub incomplete: bool,
    /// What the first encoding to need it computed for all.
    pub(crate) crc: OnceCell<u32>,
}

/// Whether an instrument trades.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradingState {
    /// Trading.
    Trading = b'T',
    /// Halted.
    Halted = b'H',
    /// Paused.
    Paused = b'P',
    /// Quotation only.
    QuotationOnly = b'Q',
}

impl TradingState {
    /// State of ITCH's letter.
    pub fn from_code(code: u8) -> Option<TradingState> {
        [TradingState::Trading, TradingState::Halted, TradingState::Paused, TradingState::QuotationOnly]
            .into_iter()
            .find(|&state| state as u8 == code)
    }
}

/// Trading state and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it trades.
    pub state: TradingState,
    /// Printable ASCII padded with spaces, as the exchange sends it.
    pub(crate) reason: [u8; 4],
}

impl Status {
    /// Why, as a code of up to four letters; empty where the exchange gives none.
    pub fn reason(&self) -> &str {
        core::str::from_utf8(&self.reason).unwrap_or_default().trim_end_matches(' ')
    }
}

/// Order imbalance before an auction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imbalance {
    /// Shares paired at the reference price.
    pub paired: u64,
    /// Shares not paired.
    pub imbalance: u64,
    /// In units of 1/10000; 0 is none.
    pub near: u32,
    /// In units of 1/10000; 0 is none.
    pub far: u32,
    /// In units of 1/10000.
    pub reference: u32,
    /// ITCH's letter: `B` buy, `S` sell, `N` none, `O` too few orders, `P` paused. Printable ASCII.
    pub direction: u8,
    /// ITCH's letter: `O` opening, `C` closing, `H` halt or new issue, `A` extended close. Printable ASCII.
    pub cross: u8,
}
