//! Books of all formats against hand-made messages. The checksums in figures were computed with Python's zlib.

use super::*;

const SNAPSHOT: &str = r#"{"symbol":"BTC/USD",
    "bids":[{"price":99.5,"qty":1.00000000},{"price":99.4,"qty":0.25000000},{"price":0.9,"qty":0.00700000}],
    "asks":[{"price":100.1,"qty":0.00100000},{"price":100.2,"qty":12.50000000}],"checksum":1044361937}"#;

const BOUNDS: Bounds = Bounds { depth: 10, room: 100 };

/// Makes the book take a message. `is_snapshot` stands for what some formats say outside the book's own text.
fn take(book: &mut Book, format: BookFormat, text: &str, is_snapshot: bool) -> Result<bool, BookFault> {
    take_within(book, format, text, is_snapshot, BOUNDS)
}

fn take_within(
    book: &mut Book,
    format: BookFormat,
    text: &str,
    is_snapshot: bool,
    bounds: Bounds,
) -> Result<bool, BookFault> {
    let kind = Some(if is_snapshot { r#""snapshot""# } else { r#""update""# });
    let change = format.read(Message { text, kind, is_first: is_snapshot }).map_err(BookFault::Malformed)?;
    book.take(format, &change, bounds)
}

/// `1001` `100000` `1002` `1250000000`, then `995` `100000000` `994` `25000000` `9` `700000`.
fn kraken() -> Book {
    let mut book = Book::default();
    take(&mut book, BookFormat::Kraken, SNAPSHOT, true).unwrap();
    book
}

#[test]
fn kraken_s_checksum_is_over_digits_asks_first() {
    let mut book = kraken();
    assert!(book.is_whole());
    let expected = r#"{"bids":[["99.5","1.00000000"],["99.4","0.25000000"],["0.9","0.00700000"]],"asks":[["100.1","0.00100000"],["100.2","12.50000000"]],"checksum":1044361937}"#;
    assert_eq!(book.show(10), Some(expected));
    assert_eq!(book.show(10), None, "it has not changed");
    let quoted = SNAPSHOT.replace("99.5,", "\"99.5\",").replace(":0.00100000", ":\"0.00100000\"");
    assert_eq!(take(&mut book, BookFormat::Kraken, &quoted, true), Ok(true), "prices as text are the same");
}

#[test]
fn updates_change_add_and_remove_levels() {
    let mut book = kraken();
    let update = r#"{"symbol":"BTC/USD","bids":[{"price":99.50,"qty":0}],"asks":[{"price":100.15,"qty":3.00000000},
        {"price":100.2,"qty":1.00000000}],"checksum":3532065839,"timestamp":"2026-01-31T10:00:00.000001Z"}"#;
    assert_eq!(take(&mut book, BookFormat::Kraken, update, false), Ok(true));
    let shown = book.show(2).unwrap();
    assert!(shown.starts_with(r#"{"bids":[["99.4","0.25000000"],["0.9","0.00700000"]],"asks":[["100.1","0.00100000"],["100.15","3.00000000"]]"#), "{shown}");
    assert_eq!(book.updates(), 1);
}

#[test]
fn a_wrong_checksum_ends_the_trust_until_a_snapshot() {
    let mut book = kraken();
    let update = r#"{"bids":[{"price":99.3,"qty":1.00000000}],"asks":[],"checksum":7}"#;
    let fault = take(&mut book, BookFormat::Kraken, update, false).unwrap_err();
    assert!(matches!(fault, BookFault::Checksum { stated: 7, .. }), "{fault}");
    assert!(!book.is_whole() && book.len() == 0 && book.updates() == 1);
    assert_eq!(take(&mut book, BookFormat::Kraken, SNAPSHOT, true), Ok(true));
    assert!(book.is_whole() && book.updates() == 0);
}

#[test]
fn levels_beyond_the_depth_are_dropped() {
    let mut book = Book::default();
    // `1001` `1`, `1002` `1` and `999` `1`, `998` `1` are left.
    let snapshot = r#"{"bids":[{"price":99.7,"qty":1},{"price":99.9,"qty":1},{"price":99.8,"qty":1}],
        "asks":[{"price":100.3,"qty":1},{"price":100.1,"qty":1},{"price":100.2,"qty":1}],"checksum":1001838924}"#;
    assert_eq!(take_within(&mut book, BookFormat::Kraken, snapshot, true, Bounds { depth: 2, room: 100 }), Ok(true));
    assert_eq!(book.len(), 4);
}

#[test]
fn coinbase_s_changes_are_applied() {
    let mut book = Book::default();
    let snapshot = r#"{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],
        "asks":[["10102.55","0.57753524"],["10102.56","1"]]}"#;
    assert_eq!(take(&mut book, BookFormat::Coinbase, snapshot, true), Ok(true));
    let update = r#"{"type":"l2update","product_id":"BTC-USD","time":"2026-01-31T10:00:00.000001Z",
        "changes":[["buy","10101.20","0.5"],["sell","10102.55","0.00000000"]]}"#;
    assert_eq!(take(&mut book, BookFormat::Coinbase, update, false), Ok(true));
    let expected = r#"{"bids":[["10101.20","0.5"],["10101.10","0.45054140"]],"asks":[["10102.56","1"]]}"#;
    assert_eq!(book.show(10), Some(expected));
    let wrong = r#"{"changes":[["hold","1","1"],["buy","10101.10","0"]]}"#;
    assert_eq!(take(&mut book, BookFormat::Coinbase, wrong, false), Ok(true));
    let expected = r#"{"bids":[["10101.20","0.5"]],"asks":[["10102.56","1"]],"incomplete":true}"#;
    assert_eq!(book.show(10), Some(expected), "what could be read went in");
}

#[test]
fn what_is_no_book_is_refused() {
    use BookFormat::{Binance, Bitfinex, Coinbase, Gemini, Kraken, KrakenV1, Okx};
    for (format, wrong) in [
        (Kraken, "{}"),
        (Kraken, "[]"),
        (Kraken, r#"[[],[],0]"#),
        (Kraken, r#"{"bids":[],"asks":[]}"#),
        (Kraken, r#"{"bids":[],"asks":[],"checksum":1.5}"#),
        (Kraken, r#"{"bids":[],"asks":[],"checksum":4294967296}"#),
        (Kraken, r#"{"bids":[],"bids":[],"asks":[],"checksum":0}"#),
        (Kraken, r#"{"bids":{"price":1},"asks":[],"checksum":0}"#),
        (Coinbase, r#"[[],[]]"#),
        (Coinbase, r#"{"bids":[]}"#),
        (Gemini, r#"{"type":"l2_updates"}"#),
        (Gemini, r#"[[]]"#),
        (KrakenV1, "{}"),
        (KrakenV1, r#"[1,{"c":"1"},"book-10","XBT/USD"]"#),
        (KrakenV1, r#"[1,{"a":{}},"book-10","XBT/USD"]"#),
        (Bitfinex, r#"{"0":1}"#),
        (Bitfinex, "[]"),
        (Bitfinex, "[1]"),
        (Bitfinex, r#"[1,"cs"]"#),
        (Bitfinex, r#"[1,"cs","x"]"#),
        (Okx, r#"[[],[]]"#),
        (Okx, r#"{"bids":[],"asks":[],"seqId":-2}"#),
        (Binance, r#"{"U":1,"u":2,"b":[]}"#),
        (Binance, r#"{"U":3,"u":2,"b":[],"a":[]}"#),
        (Binance, r#"[1,2,null,[],[]]"#),
    ] {
        let fault = take(&mut Book::default(), format, wrong, true);
        assert!(matches!(fault, Err(BookFault::Malformed(_))), "{wrong}: {fault:?}");
    }
    let too_long = take_within(&mut Book::default(), Kraken, SNAPSHOT, true, Bounds { depth: 10, room: 4 });
    assert_eq!(too_long, Err(BookFault::TooLong));
}

#[test]
fn a_level_that_cannot_be_read_is_left_out_and_the_book_marked() {
    for (bad, what) in [
        (r#"{"price":"x","qty":1}"#, "x"),
        (r#"{"price":1,"qty":null}"#, "null"),
        (r#"{"price":1}"#, r#"{"price":1}"#),
        ("[1,1]", "[1,1]"),
        ("7", "7"),
        (r#"{"price":1,"qty":-1}"#, "-1"),
        (r#"{"price":1e999,"qty":1}"#, "1e999"),
        (r#"{"price":"NaN","qty":1}"#, "NaN"),
    ] {
        let text = format!(r#"{{"bids":[{{"price":2,"qty":1}},{bad}],"asks":[],"checksum":7}}"#);
        let message = Message { text: &text, kind: Some("\"snapshot\""), is_first: true };
        let change = BookFormat::Kraken.read(message).unwrap();
        assert_eq!((change.bad.count, change.bad.first.as_str()), (1, what));
        let mut book = Book::default();
        // The rest of the book cannot be verified, but is better than nothing.
        assert_eq!(book.take(BookFormat::Kraken, &change, BOUNDS), Ok(true), "{bad}");
        assert_eq!(book.show(10), Some(r#"{"bids":[["2","1"]],"asks":[],"incomplete":true}"#), "{bad}");
    }
    // If the new quantity of a level cannot be read, the old one is wrong.
    let mut book = kraken();
    let update = r#"{"bids":[{"price":99.50,"qty":"?"}],"asks":[],"checksum":0}"#;
    assert_eq!(take(&mut book, BookFormat::Kraken, update, false), Ok(true));
    assert!(book.show(1).unwrap().starts_with(r#"{"bids":[["99.4","0.25000000"]]"#));
    assert_eq!(take(&mut book, BookFormat::Kraken, SNAPSHOT, true), Ok(true));
    assert!(book.is_whole() && book.show(1).unwrap().ends_with(r#""checksum":1044361937}"#), "a snapshot mends it");
}

#[test]
fn numbers_are_what_they_mean_however_they_are_written() {
    // 0.00000001 as 1e-8, `6` `200000000` `5` `100000000` `4` `1`.
    let snapshot = r#"{"symbol":"ETH/USD","bids":[{"price":0.5,"qty":1.00000000},{"price":0.4,"qty":1e-8}],
        "asks":[{"price":0.6,"qty":2.00000000}],"checksum":1112441159}"#;
    let mut book = Book::default();
    assert_eq!(take(&mut book, BookFormat::Kraken, snapshot, true), Ok(true));
    assert!(book.show(10).unwrap().contains(r#"["0.4","0.00000001"]"#), "written out");
    // 5E-7 is 0.00000050 to a venue that prints eight places: `5` or `50`.
    for digits in ["6200000000510000000045", "62000000005100000000450"] {
        let checksum = crc32fast::hash(digits.as_bytes());
        let text = snapshot.replace("1e-8", "5E-7").replace("1112441159", &checksum.to_string());
        assert_eq!(take(&mut book, BookFormat::Kraken, &text, true), Ok(true), "{digits}");
    }
    // Other spellings of the same price.
    for price in ["0.50", "5e-1", "0.05E1", "\"+0.5\"", "\"00.5\"", "\".5\""] {
        let mut book = Book::default();
        let snapshot = r#"{"bids":[["0.5","1"]],"asks":[]}"#;
        assert_eq!(take(&mut book, BookFormat::Coinbase, snapshot, true), Ok(true));
        let update = format!(r#"{{"changes":[["buy",{price},"0e5"]]}}"#);
        assert_eq!(take(&mut book, BookFormat::Coinbase, &update, false), Ok(true));
        assert_eq!(book.show(10), Some(r#"{"bids":[],"asks":[]}"#), "{price}");
    }
    // Prices below zero are in order; and two prices differ that are the same in floating point.
    let mut book = Book::default();
    let snapshot =
        r#"{"bids":[["-37.63","1"],["-40.32","2"],["9007199254740993","3"],["9007199254740992","4"]],"asks":[]}"#;
    assert_eq!(take(&mut book, BookFormat::Coinbase, snapshot, true), Ok(true));
    let expected =
        r#"{"bids":[["9007199254740993","3"],["9007199254740992","4"],["-37.63","1"],["-40.32","2"]],"asks":[]}"#;
    assert_eq!(book.show(10), Some(expected));
    // A double in full, and zeros without end.
    let long = format!(
        r#"{{"bids":[["0.1000000000000000055511151231257827021181583404541015625","1"],["3","1.{}"]],"asks":[]}}"#,
        "0".repeat(10_000)
    );
    assert_eq!(take(&mut book, BookFormat::Coinbase, &long, true), Ok(true));
    let shown = book.show(10).unwrap();
    assert!(shown.contains("5625\",\"1\"]") && shown.contains(r#"["3","1"]"#), "{shown}");
}

#[test]
fn what_is_lost_is_marked_once_and_until_a_snapshot() {
    let mut book = kraken();
    assert_eq!(
        {
            book.lose();
            book.show(10)
        },
        None,
        "nothing was passed on"
    );
    let mut book = kraken();
    let whole = book.show(10).unwrap().to_owned();
    let wrong = r#"{"bids":[],"asks":[],"checksum":7}"#;
    assert!(take(&mut book, BookFormat::Kraken, wrong, false).is_err());
    let marked = whole.replace(r#""checksum":1044361937}"#, r#""checksum":1044361937,"incomplete":true}"#);
    assert_eq!(book.show(10), Some(marked.as_str()), "what was passed on last");
    assert_eq!(book.show(10), None);
    assert_eq!(take(&mut book, BookFormat::Kraken, SNAPSHOT, true), Ok(true));
    assert_eq!(book.show(10), Some(whole.as_str()));
    book.doubt();
    assert!(book.show(10).unwrap().ends_with(r#","incomplete":true}"#));
    assert_eq!(book.show(10), None);
    assert!(!book.is_whole() && book.is_kept());
}

#[test]
fn gemini_s_first_message_is_the_book() {
    let mut book = Book::default();
    let first = r#"{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","9122.04","0.00121425"],["sell","9122.07","0.98942292"]],"trades":[]}"#;
    assert_eq!(take(&mut book, BookFormat::Gemini, first, true), Ok(true));
    let next = r#"{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","9122.04","0"],["buy","9121.00","2"]]}"#;
    assert_eq!(take(&mut book, BookFormat::Gemini, next, false), Ok(true));
    assert_eq!(book.show(10), Some(r#"{"bids":[["9121.00","2"]],"asks":[["9122.07","0.98942292"]]}"#));
}

#[test]
fn bitfinex_s_rows_are_price_count_amount() {
    let mut book = Book::default();
    let mut next =
        |text: &str| take(&mut book, BookFormat::Bitfinex, text, false).map(|_| book.show(10).map(str::to_owned));
    let snapshot = "[17082,[[7254.7,3,3.3],[7254.5,1,1e-7],[7254.8,2,-0.5]]]";
    let shown = r#"{"bids":[["7254.7","3.3"],["7254.5","0.0000001"]],"asks":[["7254.8","0.5"]]}"#;
    assert_eq!(next(snapshot), Ok(Some(shown.to_owned())));
    assert_eq!(next(r#"[17082,"hb"]"#), Ok(None));
    // The checksum is a signed number, over a text that has the numbers as they were sent.
    let stated = |text: &str| crc32fast::hash(text.as_bytes()).cast_signed();
    let check = format!(r#"[17082,"cs",{}]"#, stated("7254.7:3.3:7254.8:-0.5:7254.5:1e-7"));
    let checked = next(&check).unwrap().unwrap();
    assert!(checked.contains(r#"]],"checksum":"#), "{checked}");
    let gone = r#"{"bids":[["7254.5","0.0000001"]],"asks":[["7254.8","0.5"]]}"#;
    assert_eq!(next("[17082,[7254.7,0,1]]"), Ok(Some(gone.to_owned())), "no orders, and the sign says which side");
    let asks = r#"{"bids":[["7254.5","0.0000001"]],"asks":[]}"#;
    assert_eq!(next("[17082,[7254.8,0,-1]]"), Ok(Some(asks.to_owned())));
    assert!(matches!(next(r#"[17082,"cs",7]"#), Err(BookFault::Checksum { stated: 7, .. })));
    let empty = r#"{"bids":[],"asks":[]}"#;
    assert_eq!(next("[17082,[]]"), Ok(Some(empty.to_owned())), "an empty book is one");
    let bad = next("[17082,[7254.8,1,0]]").unwrap().unwrap();
    assert_eq!(bad, r#"{"bids":[],"asks":[],"incomplete":true}"#);
}

#[test]
fn kraken_v1_s_books_come_in_one_or_two_parts() {
    let mut book = Book::default();
    let snapshot = r#"[336,{"as":[["0.05005","0.00000500","1582905487.684110"],["0.05010","0.00000500","1582905486.187983"]],
        "bs":[["0.05000","0.00000500","1582905487.439814"]]},"book-10","XBT/USD"]"#;
    assert_eq!(take(&mut book, BookFormat::KrakenV1, snapshot, false), Ok(true));
    let checksum = crc32fast::hash(b"50105005015500500500049990500");
    let update = format!(
        r#"[336,{{"a":[["0.05005","0.00000000","1.1"],["0.05010","5.00000000","1.1"],["0.05015","0.00000500","1.2","r"]]}},
        {{"b":[["0.04999","0.00000500","1.3"]],"c":"{checksum}"}},"book-10","XBT/USD"]"#
    );
    let fault = take(&mut book, BookFormat::KrakenV1, &update, false);
    let digits = "5010500000000501550050005004999500";
    assert_eq!(
        fault,
        Err(BookFault::Checksum { computed: crc32fast::hash(digits.as_bytes()), stated: checksum }),
        "asks first, without points and leading zeros"
    );
    assert_eq!(take(&mut book, BookFormat::KrakenV1, snapshot, false), Ok(true));
    let right = update.replace(&checksum.to_string(), &crc32fast::hash(digits.as_bytes()).to_string());
    assert_eq!(take(&mut book, BookFormat::KrakenV1, &right, false), Ok(true));
    assert!(book.show(10).unwrap().starts_with(r#"{"bids":[["0.05000","0.00000500"],["0.04999","0.00000500"]],"#));
}

fn okx(seq: &str, levels: &str, text: &str) -> String {
    let checksum = crc32fast::hash(text.as_bytes()).cast_signed();
    format!(r#"{{{levels},"ts":"1597026383085","checksum":{checksum},{seq}}}"#)
}

#[test]
fn okx_s_books_are_checked_in_turn_and_joined_by_numbers() {
    let mut book = Book::default();
    let levels = r#""asks":[["3366.8","9","0","3"],["3368","8","0","4"]],"bids":[["3366.1","7","0","3"]]"#;
    let snapshot = okx(r#""prevSeqId":-1,"seqId":10"#, levels, "3366.1:7:3366.8:9:3368:8");
    assert_eq!(take(&mut book, BookFormat::Okx, &snapshot, true), Ok(true));
    let empty = r#""asks":[],"bids":[]"#;
    let next = r#""asks":[["3368","0","0","0"]],"bids":[["3366","6","0","1"],["3365","1e-3","0","1"]]"#;
    let update = okx(r#""prevSeqId":10,"seqId":15"#, next, "3366.1:7:3366.8:9:3366:6:3365:1e-3");
    assert_eq!(take(&mut book, BookFormat::Okx, &update, false), Ok(true));
    assert_eq!(take(&mut book, BookFormat::Okx, &update, false), Ok(false), "it has been there");
    // First a message without changes; then the venue counts anew, and names the change that it follows.
    let quiet = okx(r#""prevSeqId":15,"seqId":15"#, empty, "3366.1:7:3366.8:9:3366:6:3365:1e-3");
    assert_eq!(take(&mut book, BookFormat::Okx, &quiet, false), Ok(true));
    let anew = okx(r#""prevSeqId":15,"seqId":3"#, empty, "3366.1:7:3366.8:9:3366:6:3365:0.001");
    assert_eq!(take(&mut book, BookFormat::Okx, &anew, false), Ok(true), "an exponent may be written out");
    let unchecked = r#"{"asks":[],"bids":[],"checksum":0,"prevSeqId":3,"seqId":4}"#;
    assert_eq!(take(&mut book, BookFormat::Okx, unchecked, false), Ok(true), "0 stands where there is none any more");
    let behind = okx(r#""prevSeqId":6,"seqId":7"#, empty, "");
    assert_eq!(take(&mut book, BookFormat::Okx, &behind, false), Err(BookFault::Missing { from: 5, to: 7 }));
    assert!(!book.is_whole() && book.is_kept());
    let wrong = okx(r#""prevSeqId":-1,"seqId":20"#, levels, "3366.8:9");
    assert!(matches!(take(&mut book, BookFormat::Okx, &wrong, true), Err(BookFault::Checksum { .. })));
}

#[test]
fn binance_s_changes_join_the_snapshot_and_each_other() {
    let snapshot = |last: u64| {
        let text = format!(r#"{{"lastUpdateId":{last},"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}}"#);
        let mut book = Book::default();
        assert_eq!(book.take(BookFormat::Binance, &binance_snapshot(&text).unwrap(), BOUNDS), Ok(true));
        book
    };
    let take = |book: &mut Book, numbers: &str| {
        let text =
            format!(r#"{{"e":"depthUpdate","s":"BNBBTC",{numbers},"b":[["0.0024","0"],["0.0023","7"]],"a":[]}}"#);
        take(book, BookFormat::Binance, &text, false)
    };
    let mut spot = snapshot(160);
    assert_eq!(take(&mut spot, r#""U":150,"u":159"#), Ok(false), "the snapshot has it");
    assert_eq!(take(&mut spot, r#""U":157,"u":165"#), Ok(true), "the snapshot has some of it");
    assert_eq!(take(&mut spot, r#""U":166,"u":166"#), Ok(true));
    assert_eq!(take(&mut spot, r#""U":166,"u":166"#), Ok(false));
    assert_eq!(spot.show(10), Some(r#"{"bids":[["0.0023","7"]],"asks":[["0.0026","100"]]}"#));
    assert_eq!(take(&mut spot, r#""U":170,"u":171"#), Err(BookFault::Missing { from: 167, to: 170 }));
    assert_eq!(take(&mut snapshot(100), r#""U":157,"u":165"#), Err(BookFault::Missing { from: 101, to: 157 }));

    let mut futures = snapshot(160);
    assert_eq!(take(&mut futures, r#""U":150,"u":159,"pu":140"#), Ok(false));
    assert_eq!(take(&mut futures, r#""U":157,"u":165,"pu":149"#), Ok(true), "it spans the snapshot's number");
    assert_eq!(take(&mut futures, r#""U":190,"u":195,"pu":165"#), Ok(true), "numbers that no message has");
    assert_eq!(take(&mut futures, r#""U":250,"u":260,"pu":220"#), Err(BookFault::Missing { from: 196, to: 221 }));
    for wrong in ["[]", "{}", r#"{"lastUpdateId":-1,"bids":[],"asks":[]}"#, r#"{"code":-1121,"msg":"Invalid symbol."}"#]
    {
        assert!(binance_snapshot(wrong).is_err(), "{wrong}");
    }
}
