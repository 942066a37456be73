//! Messages by hand, and a market whose every update is encoded both ways and checked on the way out.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::needless_pass_by_value,
    unreachable_pub,
    reason = "each test binary uses its own part of this module; expected values are written in place with json!"
)]

use std::collections::HashMap;

use fanblade_feed::UnixNs;
use fanblade_feed::itch::{self, Header, stock};
use fanblade_market::encode::{self, binary};
use fanblade_market::{Market, MarketError, Update};
use serde_json::{Value, json};
use zerocopy::{FromBytes, IntoBytes};

/// 2019-12-30 00:00 in New York.
pub const MIDNIGHT_UNIX_NS: UnixNs = UnixNs(1_577_682_000_000_000_000);
pub const TIME_NS: u64 = 34_200_123_456_789;

/// One update as its subscribers would understand it.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    pub subject: String,
    pub data: Value,
}

pub fn published(subject: &str, data: Value) -> Published {
    Published { subject: subject.to_owned(), data }
}

pub struct Bench {
    pub market: Market,
    pub seq: u64,
    newest: HashMap<String, u64>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::of(Market::with_orders_max("X", MIDNIGHT_UNIX_NS, 1 << 12))
    }

    pub fn of(market: Market) -> Bench {
        Bench { market, seq: 0, newest: HashMap::new() }
    }

    /// What the message published; it must be well-formed.
    pub fn apply(&mut self, message: impl AsRef<[u8]>) -> Vec<Published> {
        self.try_apply(message.as_ref()).expect("a well-formed message")
    }

    pub fn try_apply(&mut self, bytes: &[u8]) -> Result<Vec<Published>, MarketError> {
        self.seq += 1;
        let mut all = Vec::new();
        let (seq, newest) = (self.seq, &mut self.newest);
        self.market.apply(seq, bytes, &mut |update| {
            assert_eq!(update.seq, seq);
            let mut subject = String::new();
            update.subject(&mut subject);
            let prev = newest.insert(subject.clone(), seq).unwrap_or(0);
            assert_ne!(prev, seq, "two updates of {subject} from one message");
            all.push(Published { data: both_encodings(update, &subject, prev), subject });
        })?;
        Ok(all)
    }
}

/// The image as JSON gives it, after making sure that the binary encoding gives the same.
fn both_encodings(update: &Update<'_>, subject: &str, prev: u64) -> Value {
    let (seq, ts_ns) = (update.seq, update.ts_ns);
    // Its own copy, so that neither encoding profits from what the other computed.
    let image = update.image.clone();
    let mut text = b"left alone ".to_vec();
    encode::json(&mut text, subject, seq, prev, ts_ns, &update.image);
    let text = text.strip_prefix(b"left alone ").expect("appended");
    let mut value: Value = serde_json::from_slice(text).expect("JSON");
    let data = value["d"].take();
    assert_eq!(value, json!({"s": subject, "q": seq, "p": prev, "t": ts_ns.to_string(), "d": null}));

    let mut packed = b"left alone ".to_vec();
    encode::binary(&mut packed, 77, seq, prev, ts_ns, &image);
    let packed = packed.strip_prefix(b"left alone ").expect("appended");
    let (head, body) = binary::Head::ref_from_prefix(packed).expect("a head");
    let flags = u16::from(data.get("incomplete").is_some());
    let expected = (1, update.channel as u16, flags, 77, seq, prev, ts_ns.0);
    let actual = (
        head.version,
        head.channel.into(),
        head.flags.get(),
        head.sid.get(),
        head.seq.get(),
        head.prev.get(),
        head.ts_ns.get(),
    );
    assert_eq!(actual, expected);
    let mut unpacked = unpack(head.channel, body);
    if flags != 0 {
        unpacked["incomplete"] = true.into();
    }
    assert_eq!(unpacked, data);
    data
}

fn unpack(channel: u8, body: &[u8]) -> Value {
    let letter = |code: u8| char::from(code).to_string();
    let level = |level: &binary::Level| json!([level.price.get(), level.shares.get(), level.orders.get()]);
    let best = |best: &binary::Level| if best.orders.get() == 0 { Value::Null } else { level(best) };
    match channel {
        1 => {
            let trade = binary::Trade::ref_from_bytes(body).expect("a trade");
            let kind = ["execution", "hidden", "cross", "broken"][usize::from(trade.kind) - 1];
            let side = if trade.side == 0 { Value::Null } else { letter(trade.side).into() };
            json!({"px": trade.price.get(), "sz": trade.shares.get(), "side": side,
                   "match": trade.match_number.get(), "kind": kind})
        }
        2 => {
            let bbo = binary::Bbo::ref_from_bytes(body).expect("a bbo");
            json!({"bid": best(&bbo.bid), "ask": best(&bbo.ask)})
        }
        3 => {
            let book = binary::Book::ref_from_bytes(body).expect("a book");
            let (bids, no_bids) = book.bids.split_at(book.bids_len.into());
            let (asks, no_asks) = book.asks.split_at(book.asks_len.into());
            assert!(no_bids.iter().chain(no_asks).all(|level| level.as_bytes() == [0; 16]));
            let side = |levels: &[binary::Level]| Value::from(levels.iter().map(level).collect::<Vec<_>>());
            book_data(side(bids), side(asks), book.crc.get())
        }
        4 => {
            let status = binary::Status::ref_from_bytes(body).expect("a status");
            let reason = std::str::from_utf8(itch::trim(&status.reason)).expect("ASCII");
            json!({"state": letter(status.state), "reason": reason})
        }
        5 => {
            let it = binary::Imbalance::ref_from_bytes(body).expect("an imbalance");
            json!({"paired": it.paired.get(), "imbalance": it.imbalance.get(), "dir": letter(it.direction),
                   "near": it.near.get(), "far": it.far.get(), "ref": it.reference.get(), "cross": letter(it.cross)})
        }
        _ => panic!("channel {channel}"),
    }
}

fn book_data(bids: Value, asks: Value, crc: u32) -> Value {
    assert_eq!(crc, crc32(&json!([bids, asks]).to_string()), "as a subscriber would check it");
    json!({"bids": bids, "asks": asks, "crc": crc})
}

/// A book's image, with the checksum that a subscriber expects.
pub fn book(bids: Value, asks: Value) -> Value {
    let crc = crc32(&json!([bids, asks]).to_string());
    book_data(bids, asks, crc)
}

/// Bit by bit from the definition (IEEE 802.3, reflected), owing nothing to the code under test.
pub fn crc32(text: &str) -> u32 {
    !text.bytes().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

fn header(kind: u8, locate: u16) -> Header {
    Header::new(kind, locate, 2, TIME_NS)
}

pub fn add(locate: u16, symbol: &str, reference: u64, side: u8, shares: u32, price: u32) -> Vec<u8> {
    let message = itch::AddOrder {
        header: header(b'A', locate),
        reference: reference.into(),
        side,
        shares: shares.into(),
        stock: stock(symbol),
        price: price.into(),
    };
    message.as_bytes().to_vec()
}

pub fn add_mpid(locate: u16, symbol: &str, reference: u64, side: u8, shares: u32, price: u32) -> Vec<u8> {
    let message = itch::AddOrderMpid {
        header: header(b'F', locate),
        reference: reference.into(),
        side,
        shares: shares.into(),
        stock: stock(symbol),
        price: price.into(),
        attribution: *b"NITE",
    };
    message.as_bytes().to_vec()
}

pub fn executed(locate: u16, reference: u64, shares: u32, match_number: u64) -> Vec<u8> {
    let message = itch::OrderExecuted {
        header: header(b'E', locate),
        reference: reference.into(),
        shares: shares.into(),
        match_number: match_number.into(),
    };
    message.as_bytes().to_vec()
}

pub fn executed_at(locate: u16, reference: u64, shares: u32, match_number: u64, printable: u8, price: u32) -> Vec<u8> {
    let message = itch::OrderExecutedPrice {
        header: header(b'C', locate),
        reference: reference.into(),
        shares: shares.into(),
        match_number: match_number.into(),
        printable,
        price: price.into(),
    };
    message.as_bytes().to_vec()
}

pub fn cancel(locate: u16, reference: u64, shares: u32) -> Vec<u8> {
    let message =
        itch::OrderCancel { header: header(b'X', locate), reference: reference.into(), shares: shares.into() };
    message.as_bytes().to_vec()
}

pub fn delete(locate: u16, reference: u64) -> Vec<u8> {
    itch::OrderDelete { header: header(b'D', locate), reference: reference.into() }.as_bytes().to_vec()
}

pub fn replace(locate: u16, reference: u64, new_reference: u64, shares: u32, price: u32) -> Vec<u8> {
    let message = itch::OrderReplace {
        header: header(b'U', locate),
        reference: reference.into(),
        new_reference: new_reference.into(),
        shares: shares.into(),
        price: price.into(),
    };
    message.as_bytes().to_vec()
}

pub fn hidden(locate: u16, symbol: &str, side: u8, shares: u32, price: u32, match_number: u64) -> Vec<u8> {
    let message = itch::Trade {
        header: header(b'P', locate),
        reference: 0.into(),
        side,
        shares: shares.into(),
        stock: stock(symbol),
        price: price.into(),
        match_number: match_number.into(),
    };
    message.as_bytes().to_vec()
}

pub fn cross(locate: u16, symbol: &str, shares: u64, price: u32, match_number: u64) -> Vec<u8> {
    let message = itch::CrossTrade {
        header: header(b'Q', locate),
        shares: shares.into(),
        stock: stock(symbol),
        price: price.into(),
        match_number: match_number.into(),
        cross_type: b'O',
    };
    message.as_bytes().to_vec()
}

pub fn broken(locate: u16, match_number: u64) -> Vec<u8> {
    itch::BrokenTrade { header: header(b'B', locate), match_number: match_number.into() }.as_bytes().to_vec()
}

pub fn action(locate: u16, symbol: &str, state: u8, reason: [u8; 4]) -> Vec<u8> {
    let message =
        itch::TradingAction { header: header(b'H', locate), stock: stock(symbol), state, reserved: b' ', reason };
    message.as_bytes().to_vec()
}

pub fn noii(locate: u16, symbol: &str, paired: u64, direction: u8) -> Vec<u8> {
    let message = itch::Noii {
        header: header(b'I', locate),
        paired: paired.into(),
        imbalance: 500.into(),
        direction,
        stock: stock(symbol),
        far_price: 11.into(),
        near_price: 12.into(),
        reference_price: 13.into(),
        cross_type: b'O',
        price_variation: b'L',
    };
    message.as_bytes().to_vec()
}

pub fn directory(locate: u16, symbol: &str) -> Vec<u8> {
    // Only number and symbol matter here; the rest is what zeroes mean.
    let mut bytes = vec![0; itch::StockDirectory::LEN];
    let message = itch::StockDirectory::mut_from_bytes(&mut bytes).expect("its length");
    message.header = header(b'R', locate);
    message.stock = stock(symbol);
    bytes
}

pub fn system_event(event: u8) -> Vec<u8> {
    itch::SystemEvent { header: header(b'S', 0), event }.as_bytes().to_vec()
}

/// The messages of a BinaryFILE, up to where it ends or breaks off.
pub fn binary_file(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (len, tail) = rest.split_first_chunk()?;
        let (message, tail) = tail.split_at_checked(u16::from_be_bytes(*len).into())?;
        rest = tail;
        Some(message)
    })
}

/// A plausible stream of messages as a BinaryFILE: few instruments do most, prices wander, orders come and go near the
/// best, in about the proportions of a real day, once there are `orders` of them.
pub fn synthetic(seed: u64, instruments: u16, orders: usize, messages: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut mids: Vec<u32> = (0..=instruments).map(|_| 100_000 + random.small(3_000_000)).collect();
    let symbols: Vec<String> = (0..=instruments).map(|locate| format!("S{locate}")).collect();
    let mut live: Vec<(u64, u16, u32)> = Vec::new();
    let mut out = Vec::new();
    let (mut reference, mut match_number, mut newest_trade) = (1000, 50, (1, 0));
    for _ in 0..messages {
        let roll = if live.len() < orders { random.below(43) } else { random.below(100) };
        let shares = 100 * (1 + random.small(9));
        let picked = if live.is_empty() { 0 } else { live.len() - 1 - random.skewed(live.len()) };
        let message = match (roll, live.get(picked).copied()) {
            (0..43, _) | (_, None) => {
                let locate = 1 + u16::try_from(random.skewed(instruments.into())).expect("less than a u16");
                let mid = &mut mids[usize::from(locate)];
                *mid = *mid - 100 + 100 * random.small(3);
                let away = 100 * (1 + u32::try_from(random.skewed(60)).expect("less than 60"));
                reference += 1 + random.below(4);
                let (side, price) = if random.below(2) == 0 { (b'B', *mid - away) } else { (b'S', *mid + away) };
                live.push((reference, locate, shares));
                let make = if roll < 3 { add_mpid } else { add };
                make(locate, &symbols[usize::from(locate)], reference, side, shares, price)
            }
            (43..82, Some((old, locate, _))) => {
                live.swap_remove(picked);
                delete(locate, old)
            }
            (82..91, Some((old, locate, _))) => {
                reference += 1 + random.below(4);
                live[picked] = (reference, locate, shares);
                let price = mids[usize::from(locate)] + 100 * random.small(20);
                replace(locate, old, reference, shares, price)
            }
            (91..98, Some((old, locate, left))) => {
                match_number += 1 + random.below(3);
                newest_trade = (locate, match_number);
                let taken = shares.min(left);
                live[picked].2 -= taken;
                if taken == left {
                    live.swap_remove(picked);
                }
                match roll {
                    96 => executed_at(locate, old, taken, match_number, b'Y', mids[usize::from(locate)]),
                    97 => executed_at(locate, old, taken, match_number, b'N', mids[usize::from(locate)]),
                    _ => executed(locate, old, taken, match_number),
                }
            }
            (98, Some((old, locate, left))) if left > 100 => {
                live[picked].2 -= 100;
                cancel(locate, old, 100)
            }
            (_, Some((_, locate, _))) => {
                let (symbol, price) = (&symbols[usize::from(locate)], mids[usize::from(locate)]);
                let what = random.below(4);
                if what == 0 {
                    broken(newest_trade.0, newest_trade.1)
                } else {
                    match_number += 1;
                    newest_trade = (locate, match_number);
                    if what == 1 {
                        cross(locate, symbol, shares.into(), price, match_number)
                    } else {
                        hidden(locate, symbol, b'B', shares, price, match_number)
                    }
                }
            }
        };
        out.extend_from_slice(&u16::try_from(message.len()).expect("short").to_be_bytes());
        out.extend_from_slice(&message);
    }
    out
}

/// splitmix64: the same stream for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(end.into())).expect("less than a u32")
    }

    /// Small values are much likelier than great ones.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to `end`")]
    fn skewed(&mut self, end: usize) -> usize {
        let unit = self.below(1 << 53) as f64 / (1u64 << 53) as f64;
        ((end as f64 * unit.powi(4)) as usize).min(end - 1)
    }
}
