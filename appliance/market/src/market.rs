//! All books of one venue.

use fanblade_feed::UnixNs;
use fanblade_feed::itch::Message;

use crate::books::{Books, Output};
use crate::counters::Counters;
use crate::error::MarketError;
use crate::image::{Bbo, Book, Imbalance, InstrumentId, Status, Update};
use crate::instruments::{self, Refusal};
use crate::limits::ORDERS_MAX;

/// The state of one venue for one session, made from its messages.
///
/// ```
/// use fanblade_feed::UnixNs;
/// use fanblade_feed::itch::{AddOrder, Header, stock};
/// use fanblade_market::{Market, encode};
/// use zerocopy::IntoBytes;
///
/// let mut market = Market::new("NASDAQ", UnixNs(1_577_682_000_000_000_000));
/// let message = AddOrder {
///     header: Header::new(AddOrder::KIND, 13, 0, 34_200_123_456_789),
///     reference: 4242.into(),
///     side: b'B',
///     shares: 300.into(),
///     stock: stock("AAPL"),
///     price: 2_897_200.into(),
/// };
/// let (mut subject, mut lines) = (String::new(), Vec::new());
/// market.apply(7, message.as_bytes(), &mut |update| {
///     let mut json = Vec::new();
///     update.subject(&mut subject);
///     encode::json(&mut json, &subject, update.seq, 0, update.ts_ns, &update.image);
///     lines.push(String::from_utf8(json).unwrap());
/// })?;
/// assert_eq!(
///     lines[0],
///     r#"{"s":"/NASDAQ/AAPL/bbo","q":7,"p":0,"t":"1577716200123456789","d":{"bid":[2897200,300,1],"ask":null}}"#
/// );
/// # Ok::<(), fanblade_market::MarketError>(())
/// ```
#[derive(Debug)]
pub struct Market {
    venue: String,
    midnight_ns: UnixNs,
    books: Books,
    counters: Counters,
    /// Timestamp of the newest message.
    newest_ns: u64,
    incomplete: bool,
}

impl Market {
    /// An empty market. `venue` is the first segment of its subjects; `midnight_ns` is the midnight that its
    /// messages count from (Eastern time).
    pub fn new(venue: &str, midnight_ns: UnixNs) -> Market {
        Market::with_orders_max(venue, midnight_ns, ORDERS_MAX)
    }

    /// An empty market with room for so many live orders, instead of [`ORDERS_MAX`].
    pub fn with_orders_max(venue: &str, midnight_ns: UnixNs, orders_max: usize) -> Market {
        Market {
            venue: venue.to_owned(),
            midnight_ns,
            books: Books::new(orders_max),
            counters: Counters::default(),
            newest_ns: 0,
            incomplete: false,
        }
    }

    /// Applies one message, all of `bytes`, and lends each image that it changed to `sink`: at most one per
    /// channel and instrument, the trade before the quotes. An error means that the message was malformed;
    /// it changed nothing and is counted, as is every message that was left out for another reason.
    pub fn apply(&mut self, seq: u64, bytes: &[u8], sink: &mut impl FnMut(&Update<'_>)) -> Result<(), MarketError> {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.counters.malformed += 1;
                return Err(error.into());
            }
        };
        let header = message.header();
        self.counters.messages[usize::from(header.kind)] += 1;
        if let Message::SystemEvent(event) = &message
            && event.event == SYSTEM_OPENS
        {
            self.incomplete = false;
        }
        self.newest_ns = header.timestamp.get();
        let ts_ns = self.midnight_ns.plus(self.newest_ns);
        let incomplete = self.incomplete;
        let mut output = Output { seq, ts_ns, venue: &self.venue, counters: &mut self.counters, incomplete, sink };
        match self.books.apply(&message, &mut output) {
            Ok(()) => Ok(()),
            Err(Refusal::Skipped(reason)) => {
                self.counters.skipped[reason as usize] += 1;
                Ok(())
            }
            Err(Refusal::Malformed(error)) => {
                self.counters.malformed += 1;
                Err(error)
            }
        }
    }

    /// Lends every image of the present state to `sink`, as message `seq` left it: trading states, imbalances, quotes
    /// and books of all instruments, in the order of their numbers. Trades are events, not states.
    pub fn images(&mut self, seq: u64, sink: &mut impl FnMut(&Update<'_>)) {
        let ts_ns = self.midnight_ns.plus(self.newest_ns);
        let incomplete = self.incomplete;
        let mut output = Output { seq, ts_ns, venue: &self.venue, counters: &mut self.counters, incomplete, sink };
        self.books.images(&mut output);
    }

    /// A new session begins: all orders, instruments and trades are forgotten. Counters go on.
    /// Nothing is published; that everything is void is what the new epoch says.
    pub fn reset(&mut self) {
        self.books.clear();
        self.incomplete = false;
    }

    /// Messages were missed: quotes and books are marked as incomplete until [`Market::reset`], or until the exchange
    /// says that its system opens, before which nobody can have entered an order.
    pub fn set_incomplete(&mut self) {
        self.incomplete = true;
    }

    /// Are quotes and books marked as incomplete?
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// A new day begins: the midnight that messages count from now.
    pub fn set_midnight(&mut self, midnight_ns: UnixNs) {
        self.midnight_ns = midnight_ns;
    }

    /// First segment of the subjects.
    pub fn venue(&self) -> &str {
        &self.venue
    }

    /// What was applied, left out, and published.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number of live orders.
    pub fn orders(&self) -> usize {
        self.books.orders.len()
    }

    /// Number of instruments that have a symbol.
    pub fn instruments_len(&self) -> usize {
        self.books.instruments.len()
    }

    /// The instruments, in the order of their numbers.
    pub fn instruments(&self) -> impl Iterator<Item = Instrument<'_>> {
        self.books.instruments.iter().map(|(locate, entry)| Instrument { id: InstrumentId(locate), entry })
    }

    /// One instrument, if a message has named it.
    pub fn instrument(&self, id: InstrumentId) -> Option<Instrument<'_>> {
        let entry = self.books.instruments.entry(id.0);
        entry.is_known().then_some(Instrument { id, entry })
    }
}

/// What is known of one instrument.
#[derive(Clone, Copy, Debug)]
pub struct Instrument<'a> {
    id: InstrumentId,
    entry: &'a instruments::Entry,
}

impl<'a> Instrument<'a> {
    /// Its number.
    pub fn id(&self) -> InstrumentId {
        self.id
    }

    /// Its symbol.
    pub fn symbol(&self) -> &'a str {
        self.entry.symbol()
    }

    /// Its trading state; unknown until the exchange tells it.
    pub fn status(&self) -> Option<Status> {
        self.entry.status
    }

    /// Its imbalance, as last told.
    pub fn imbalance(&self) -> Option<Imbalance> {
        self.entry.imbalance
    }

    /// Its best quotes.
    pub fn bbo(&self) -> Bbo {
        self.entry.bbo()
    }

    /// Its best levels.
    pub fn book(&self) -> Book<'a> {
        self.entry.book()
    }
}

/// "Start of system hours": from now on orders may be entered (ITCH 5.0, section 4.1).
const SYSTEM_OPENS: u8 = b'S';
