//! NASDAQ TotalView-ITCH 5.0: the layouts of its 23 messages, big-endian and without padding.
//!
//! Reading and building share one definition: [`Message::parse`] lends a typed view of received bytes, and a
//! struct filled in by hand gives its bytes by [`zerocopy::IntoBytes::as_bytes`]. Nothing is copied, nothing
//! allocated. Only lengths and type bytes are checked here; what the codes inside mean is `market`'s business.
//!
//! Every message begins with the same 11 bytes ([`Header`]). Prices are `u32` in units of 1/10000 ("Price(4)"),
//! the market-wide circuit breaker's are `u64` in units of 10^-8 ("Price(8)"). Text is ASCII, padded with spaces
//! on the right; [`trim`] takes the padding off.
//!
//! Source: "Nasdaq TotalView-ITCH 5.0" specification, section 1 ("Message Formats").

use core::fmt;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What all messages begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Type byte: `A` is an [`AddOrder`] and so on.
    pub kind: u8,
    /// Number of the instrument, dense, valid for one day; 0 where the message concerns the whole market.
    pub locate: U16,
    /// Nasdaq's internal tracking number.
    pub tracking: U16,
    /// Nanoseconds since midnight, Eastern time.
    pub timestamp: U48,
}

impl Header {
    /// A header for a message that is about to be built.
    pub fn new(kind: u8, locate: u16, tracking: u16, timestamp_ns: u64) -> Header {
        Header { kind, locate: U16::new(locate), tracking: U16::new(tracking), timestamp: U48::new(timestamp_ns) }
    }
}

/// A 48-bit big-endian integer; zerocopy has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct U48([u8; 6]);

impl U48 {
    /// Greatest value: as nanoseconds, a little over 78 hours.
    pub const MAX: u64 = (1 << 48) - 1;

    /// `value`, or [`U48::MAX`] where it is greater than that.
    pub fn new(value: u64) -> U48 {
        let [_, _, a, b, c, d, e, f] = value.min(U48::MAX).to_be_bytes();
        U48([a, b, c, d, e, f])
    }

    /// The value.
    pub fn get(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Debug for U48 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), formatter)
    }
}

/// A ticker as it stands in a message: ASCII, padded with spaces on the right.
pub type Stock = [u8; 8];

/// `symbol` as a message has it; longer ones are cut at 8 bytes.
pub fn stock(symbol: &str) -> Stock {
    let mut padded = [b' '; 8];
    for (to, from) in padded.iter_mut().zip(symbol.bytes()) {
        *to = from;
    }
    padded
}

/// A text field without the spaces on its right.
pub fn trim(field: &[u8]) -> &[u8] {
    let len = field.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    field.get(..len).unwrap_or_default()
}

/// Why bytes are no ITCH message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItchError {
    /// Framing may carry messages of no bytes; ITCH has none.
    #[error("an empty ITCH message")]
    Empty,
    /// No such type in version 5.0.
    #[error("unknown ITCH message type {:?} ({actual_len} bytes)", char::from(*kind))]
    UnknownKind {
        /// First byte.
        kind: u8,
        /// Bytes in the message.
        actual_len: usize,
    },
    /// Each type has exactly one length.
    #[error("ITCH message {:?} must have {expected_len} bytes, has {actual_len}", char::from(*kind))]
    WrongLength {
        /// First byte.
        kind: u8,
        /// What the type calls for.
        expected_len: usize,
        /// Bytes in the message.
        actual_len: usize,
    },
}

/// One table makes the structs, their constants, the enum and its parser, so that they cannot disagree.
macro_rules! messages {
    ($(
        $(#[$attribute:meta])*
        $kind:literal $len:literal $name:ident { $( $(#[$field_attribute:meta])* $field:ident: $type:ty, )* }
    )*) => {
        $(
            $(#[$attribute])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
            #[repr(C)]
            pub struct $name {
                /// What all messages begin with.
                pub header: Header,
                $( $(#[$field_attribute])* pub $field: $type, )*
            }

            impl $name {
                /// Type byte.
                pub const KIND: u8 = $kind;
                /// Bytes in the message.
                pub const LEN: usize = $len;
            }

            const _: () = assert!(size_of::<$name>() == $len);
        )*

        /// A message, lent from the bytes in which it arrived.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message<'a> {
            $( $(#[$attribute])* $name(&'a $name), )*
        }

        /// Every type byte with its message's length and name.
        pub const KINDS: &[(u8, usize, &str)] = &[$( ($kind, $len, stringify!($name)), )*];

        impl<'a> Message<'a> {
            /// The message that `bytes` are, all of them.
            pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, ItchError> {
                let kind = *bytes.first().ok_or(ItchError::Empty)?;
                let actual_len = bytes.len();
                match kind {
                    $( $kind => match $name::ref_from_bytes(bytes) {
                        Ok(message) => Ok(Message::$name(message)),
                        Err(_) => Err(ItchError::WrongLength { kind, expected_len: $len, actual_len }),
                    }, )*
                    _ => Err(ItchError::UnknownKind { kind, actual_len }),
                }
            }

            /// What all messages begin with.
            pub fn header(&self) -> &'a Header {
                match self {
                    $( Message::$name(message) => &message.header, )*
                }
            }
        }
    };
}

messages! {
    /// Start and end of the day's phases.
    b'S' 12 SystemEvent {
        /// `O` start of messages, `S` start of system hours, `Q` start of market hours, `M` end of market hours,
        /// `E` end of system hours, `C` end of messages.
        event: u8,
    }

    /// Introduces an instrument and its `locate`.
    b'R' 39 StockDirectory {
        /// Ticker.
        stock: Stock,
        /// Listing market.
        market_category: u8,
        /// Deficient, delinquent, bankrupt, …
        financial_status: u8,
        /// Shares in a round lot.
        round_lot_size: U32,
        /// `Y`: only round lots are accepted.
        round_lots_only: u8,
        /// Class of security.
        issue_classification: u8,
        /// Sub-type of security.
        issue_subtype: [u8; 2],
        /// `P` live, `T` test.
        authenticity: u8,
        /// Short sale threshold.
        short_sale_threshold: u8,
        /// `Y`: a new issue.
        ipo: u8,
        /// Limit-up limit-down tier.
        luld_tier: u8,
        /// `Y`: exchange traded product.
        etp: u8,
        /// Leverage factor of the product.
        etp_leverage: U32,
        /// `Y`: inverse.
        inverse: u8,
    }

    /// Halts, pauses and resumptions.
    b'H' 25 TradingAction {
        /// Ticker.
        stock: Stock,
        /// `H` halted, `P` paused, `Q` quotation only, `T` trading.
        state: u8,
        /// Reserved.
        reserved: u8,
        /// Why, as a code of up to four letters.
        reason: [u8; 4],
    }

    /// Short sale price restriction.
    b'Y' 20 RegSho {
        /// Ticker.
        stock: Stock,
        /// `0` none, `1` in effect since today, `2` still in effect.
        action: u8,
    }

    /// A market participant's standing in an instrument.
    b'L' 26 ParticipantPosition {
        /// Participant.
        mpid: [u8; 4],
        /// Ticker.
        stock: Stock,
        /// `Y`: primary market maker.
        primary: u8,
        /// Market maker mode.
        mode: u8,
        /// Participant state.
        state: u8,
    }

    /// Market-wide circuit breaker: the day's levels, Price(8).
    b'V' 35 MwcbLevels {
        /// Level 1.
        level1: U64,
        /// Level 2.
        level2: U64,
        /// Level 3.
        level3: U64,
    }

    /// Market-wide circuit breaker: a level was breached.
    b'W' 12 MwcbStatus {
        /// `1`, `2` or `3`.
        level: u8,
    }

    /// When quoting in a new issue begins.
    b'K' 28 IpoQuoting {
        /// Ticker.
        stock: Stock,
        /// Seconds since midnight.
        release_time: U32,
        /// `A` anticipated, `C` cancelled or postponed.
        qualifier: u8,
        /// Price(4).
        price: U32,
    }

    /// Limit-up limit-down auction collar.
    b'J' 35 LuldCollar {
        /// Ticker.
        stock: Stock,
        /// Price(4).
        reference_price: U32,
        /// Price(4).
        upper_price: U32,
        /// Price(4).
        lower_price: U32,
        /// Times the collar was extended.
        extension: U32,
    }

    /// One venue of the operator halts or resumes.
    b'h' 21 OperationalHalt {
        /// Ticker.
        stock: Stock,
        /// `Q` Nasdaq, `B` BX, `X` PSX.
        market: u8,
        /// `H` halted, `T` resumed.
        action: u8,
    }

    /// An order enters the displayed book.
    b'A' 36 AddOrder {
        /// Day-unique order reference.
        reference: U64,
        /// `B` or `S`.
        side: u8,
        /// Displayed shares.
        shares: U32,
        /// Ticker.
        stock: Stock,
        /// Price(4).
        price: U32,
    }

    /// An order enters the displayed book, with its owner's name.
    b'F' 40 AddOrderMpid {
        /// Day-unique order reference.
        reference: U64,
        /// `B` or `S`.
        side: u8,
        /// Displayed shares.
        shares: U32,
        /// Ticker.
        stock: Stock,
        /// Price(4).
        price: U32,
        /// Participant.
        attribution: [u8; 4],
    }

    /// An order trades at its own price.
    b'E' 31 OrderExecuted {
        /// Order reference.
        reference: U64,
        /// Shares traded.
        shares: U32,
        /// Day-unique number of the trade.
        match_number: U64,
    }

    /// An order trades at another price than its own.
    b'C' 36 OrderExecutedPrice {
        /// Order reference.
        reference: U64,
        /// Shares traded.
        shares: U32,
        /// Day-unique number of the trade.
        match_number: U64,
        /// `N`: not to be counted in volume, since a cross will report it.
        printable: u8,
        /// Price(4).
        price: U32,
    }

    /// An order shrinks.
    b'X' 23 OrderCancel {
        /// Order reference.
        reference: U64,
        /// Shares taken away.
        shares: U32,
    }

    /// An order leaves the book.
    b'D' 19 OrderDelete {
        /// Order reference.
        reference: U64,
    }

    /// An order gives way to another of the same instrument and side.
    b'U' 35 OrderReplace {
        /// The order that leaves.
        reference: U64,
        /// The order that enters.
        new_reference: U64,
        /// Displayed shares of the new order.
        shares: U32,
        /// Price(4) of the new order.
        price: U32,
    }

    /// A trade against a hidden order.
    b'P' 44 Trade {
        /// Always 0 in recent years.
        reference: U64,
        /// `B` or `S`; always `B` in recent years.
        side: u8,
        /// Shares traded.
        shares: U32,
        /// Ticker.
        stock: Stock,
        /// Price(4).
        price: U32,
        /// Day-unique number of the trade.
        match_number: U64,
    }

    /// The bulk trade of an auction; of no shares where nothing crossed.
    b'Q' 40 CrossTrade {
        /// Shares traded.
        shares: U64,
        /// Ticker.
        stock: Stock,
        /// Price(4).
        price: U32,
        /// Day-unique number of the trade.
        match_number: U64,
        /// `O` opening, `C` closing, `H` halt or new issue.
        cross_type: u8,
    }

    /// A trade never was.
    b'B' 19 BrokenTrade {
        /// Number of the trade.
        match_number: U64,
    }

    /// Net order imbalance indicator, before an auction.
    b'I' 50 Noii {
        /// Shares paired at the reference price.
        paired: U64,
        /// Shares not paired.
        imbalance: U64,
        /// `B` buy, `S` sell, `N` none, `O` too few orders, `P` paused.
        direction: u8,
        /// Ticker.
        stock: Stock,
        /// Price(4).
        far_price: U32,
        /// Price(4).
        near_price: U32,
        /// Price(4).
        reference_price: U32,
        /// `O` opening, `C` closing, `H` halt or new issue, `A` extended trading close.
        cross_type: u8,
        /// How far the near price lies from the reference, as a code.
        price_variation: u8,
    }

    /// Retail price improvement interest.
    b'N' 20 Rpii {
        /// Ticker.
        stock: Stock,
        /// `B`, `S`, `A` both, `N` none.
        interest: u8,
    }

    /// Direct listing with capital raise: price discovery.
    b'O' 48 DirectListing {
        /// Ticker.
        stock: Stock,
        /// `Y`: eligible to be released.
        open_eligibility: u8,
        /// Price(4).
        minimum_price: U32,
        /// Price(4).
        maximum_price: U32,
        /// Price(4).
        near_price: U32,
        /// Nanoseconds since midnight.
        near_time: U64,
        /// Price(4).
        lower_collar: U32,
        /// Price(4).
        upper_collar: U32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: [u8; 36] = [
        0x41, 0x00, 0x0d, 0x00, 0x00, 0x1f, 0x1a, 0xce, 0xd9, 0xf0, 0x01, 0, 0, 0, 0, 0, 0, 0x10, 0x92, 0x42, 0, 0, 0,
        0x64, 0x41, 0x41, 0x50, 0x4c, 0x20, 0x20, 0x20, 0x20, 0x00, 0x1c, 0xfb, 0xec,
    ];
    const EXECUTED: [u8; 31] = [
        0x45, 0x00, 0x0d, 0x00, 0x00, 0x1f, 0x1a, 0xce, 0xd9, 0xf3, 0xe9, 0, 0, 0, 0, 0, 0, 0x10, 0x92, 0, 0, 0, 0x28,
        0, 0, 0, 0, 0, 0, 0x03, 0x09,
    ];

    #[test]
    fn reads_the_published_vectors() {
        let Ok(Message::AddOrder(add)) = Message::parse(&ADD) else { panic!("not an AddOrder") };
        assert_eq!((add.header.locate.get(), add.header.tracking.get()), (13, 0));
        assert_eq!(add.header.timestamp.get(), 0x1f1a_ced9_f001);
        assert_eq!((add.reference.get(), add.side, add.shares.get()), (4242, b'B', 100));
        assert_eq!((trim(&add.stock), add.price.get()), (&b"AAPL"[..], 1_899_500));

        let Ok(Message::OrderExecuted(executed)) = Message::parse(&EXECUTED) else { panic!("not an OrderExecuted") };
        assert_eq!((executed.reference.get(), executed.shares.get(), executed.match_number.get()), (4242, 40, 777));
    }

    #[test]
    fn builds_the_published_vectors() {
        let add = AddOrder {
            header: Header::new(AddOrder::KIND, 13, 0, 0x1f1a_ced9_f001),
            reference: U64::new(4242),
            side: b'B',
            shares: U32::new(100),
            stock: stock("AAPL"),
            price: U32::new(1_899_500),
        };
        assert_eq!(add.as_bytes(), ADD);
        let executed = OrderExecuted {
            header: Header::new(OrderExecuted::KIND, 13, 0, 0x1f1a_ced9_f3e9),
            reference: U64::new(4242),
            shares: U32::new(40),
            match_number: U64::new(777),
        };
        assert_eq!(executed.as_bytes(), EXECUTED);
    }

    #[test]
    fn each_type_has_exactly_one_length() {
        // Independent of the table above: the lengths of the specification, as two other implementations have them.
        let lengths = "S12 R39 H25 Y20 L26 V35 W12 K28 J35 h21 A36 F40 E31 C36 X23 D19 U35 P44 Q40 B19 I50 N20 O48";
        assert_eq!(lengths.split(' ').count(), KINDS.len());
        for entry in lengths.split(' ') {
            let (kind, expected_len) = (entry.as_bytes()[0], entry[1..].parse::<usize>().expect("a number"));
            for actual_len in 1..80 {
                let mut bytes = vec![0; actual_len];
                bytes[0] = kind;
                match Message::parse(&bytes) {
                    Ok(message) => assert_eq!((actual_len, message.header().kind), (expected_len, kind)),
                    Err(error) => {
                        assert_ne!(actual_len, expected_len, "{entry}");
                        assert_eq!(error, ItchError::WrongLength { kind, expected_len, actual_len });
                    }
                }
            }
        }
    }

    #[test]
    fn refuses_other_types() {
        assert_eq!(Message::parse(&[]), Err(ItchError::Empty));
        let known: Vec<u8> = KINDS.iter().map(|&(kind, ..)| kind).collect();
        for kind in (0..=255).filter(|kind| !known.contains(kind)) {
            let expected = ItchError::UnknownKind { kind, actual_len: 36 };
            assert_eq!(Message::parse(&[kind; 36]), Err(expected));
        }
    }

    #[test]
    fn offsets_are_those_of_the_specification() {
        // Bytes numbered from 0, so that each field tells where it lies.
        let numbered = |kind| {
            let mut bytes: Vec<u8> = (0..50).collect();
            bytes[0] = kind;
            bytes
        };
        let at = |offset: u8| u32::from_be_bytes([offset, offset + 1, offset + 2, offset + 3]);

        let bytes = numbered(b'R');
        let Ok(Message::StockDirectory(message)) = Message::parse(&bytes[..39]) else { panic!() };
        assert_eq!((message.market_category, message.financial_status, message.round_lot_size.get()), (19, 20, at(21)));
        assert_eq!((message.issue_subtype, message.authenticity, message.luld_tier), ([27, 28], 29, 32));
        assert_eq!((message.etp_leverage.get(), message.inverse), (at(34), 38));

        let bytes = numbered(b'I');
        let Ok(Message::Noii(message)) = Message::parse(&bytes) else { panic!() };
        assert_eq!((message.direction, message.stock[0], message.far_price.get()), (27, 28, at(36)));
        assert_eq!((message.near_price.get(), message.reference_price.get()), (at(40), at(44)));
        assert_eq!((message.cross_type, message.price_variation), (48, 49));

        let bytes = numbered(b'P');
        let Ok(Message::Trade(message)) = Message::parse(&bytes[..44]) else { panic!() };
        assert_eq!((message.side, message.shares.get(), message.price.get()), (19, at(20), at(32)));

        let bytes = numbered(b'C');
        let Ok(Message::OrderExecutedPrice(message)) = Message::parse(&bytes[..36]) else { panic!() };
        assert_eq!((message.shares.get(), message.printable, message.price.get()), (at(19), 31, at(32)));

        let bytes = numbered(b'U');
        let Ok(Message::OrderReplace(message)) = Message::parse(&bytes[..35]) else { panic!() };
        assert_eq!((message.shares.get(), message.price.get()), (at(27), at(31)));

        let bytes = numbered(b'O');
        let Ok(Message::DirectListing(message)) = Message::parse(&bytes[..48]) else { panic!() };
        assert_eq!((message.near_price.get(), message.lower_collar.get()), (at(28), at(40)));
    }

    #[test]
    fn helpers() {
        assert_eq!(U48::new(u64::MAX).get(), U48::MAX);
        assert_eq!(U48::new(0x0102_0304_0506).as_bytes(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(trim(b"        "), b"");
        assert_eq!(trim(b" A B  "), b" A B");
        assert_eq!((stock("A"), stock("TOOLONGBYFAR")), (*b"A       ", *b"TOOLONGB"));
        let error = Message::parse(&ADD[..35]).expect_err("too short");
        assert_eq!(error.to_string(), "ITCH message 'A' must have 36 bytes, has 35");
    }
}
