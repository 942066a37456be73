//! Books against hand-made messages. The checksums were computed with Python's zlib.

use super::*;

const SNAPSHOT: &str = r#"{"symbol":"BTC/USD",
    "bids":[{"price":99.5,"qty":1.00000000},{"price":99.4,"qty":0.25000000},{"price":0.9,"qty":0.00700000}],
    "asks":[{"price":100.1,"qty":0.00100000},{"price":100.2,"qty":12.50000000}],"checksum":1044361937}"#;

/// `1001` `100000` `1002` `1250000000`, then `995` `100000000` `994` `25000000` `9` `700000`.
fn kraken() -> Book {
    let mut book = Book::default();
    book.take(BookFormat::Kraken, SNAPSHOT, true, 10, 100).unwrap();
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
    assert_eq!(book.take(BookFormat::Kraken, &quoted, true, 10, 100), Ok(()), "prices as text are the same");
}

#[test]
fn updates_change_add_and_remove_levels() {
    let mut book = kraken();
    let update = r#"{"symbol":"BTC/USD","bids":[{"price":99.50,"qty":0}],"asks":[{"price":100.15,"qty":3.00000000},
        {"price":100.2,"qty":1.00000000}],"checksum":3532065839,"timestamp":"2026-01-31T10:00:00.000001Z"}"#;
    assert_eq!(book.take(BookFormat::Kraken, update, false, 10, 100), Ok(()));
    let shown = book.show(2).unwrap();
    assert!(shown.starts_with(r#"{"bids":[["99.4","0.25000000"],["0.9","0.00700000"]],"asks":[["100.1","0.00100000"],["100.15","3.00000000"]]"#), "{shown}");
    assert_eq!(book.updates(), 1);
}

#[test]
fn a_wrong_checksum_ends_the_trust_until_a_snapshot() {
    let mut book = kraken();
    let update = r#"{"bids":[{"price":99.3,"qty":1.00000000}],"asks":[],"checksum":7}"#;
    let fault = book.take(BookFormat::Kraken, update, false, 10, 100).unwrap_err();
    assert!(matches!(fault, BookFault::Checksum { stated: 7, .. }), "{fault}");
    assert!(!book.is_whole() && book.len() == 0 && book.updates() == 1);
    assert_eq!(book.take(BookFormat::Kraken, SNAPSHOT, true, 10, 100), Ok(()));
    assert!(book.is_whole() && book.updates() == 0);
}

#[test]
fn levels_beyond_the_depth_are_dropped() {
    let mut book = Book::default();
    // `1001` `1`, `1002` `1` and `999` `1`, `998` `1` are left.
    let snapshot = r#"{"bids":[{"price":99.7,"qty":1},{"price":99.9,"qty":1},{"price":99.8,"qty":1}],
        "asks":[{"price":100.3,"qty":1},{"price":100.1,"qty":1},{"price":100.2,"qty":1}],"checksum":1001838924}"#;
    assert_eq!(book.take(BookFormat::Kraken, snapshot, true, 2, 100), Ok(()));
    assert_eq!(book.len(), 4);
}

#[test]
fn coinbase_s_changes_are_applied() {
    let mut book = Book::default();
    let snapshot = r#"{"type":"snapshot","product_id":"BTC-USD","bids":[["10101.10","0.45054140"]],
        "asks":[["10102.55","0.57753524"],["10102.56","1"]]}"#;
    assert_eq!(book.take(BookFormat::Coinbase, snapshot, true, usize::MAX, 100), Ok(()));
    let update = r#"{"type":"l2update","product_id":"BTC-USD","time":"2026-01-31T10:00:00.000001Z",
        "changes":[["buy","10101.20","0.5"],["sell","10102.55","0.00000000"]]}"#;
    assert_eq!(book.take(BookFormat::Coinbase, update, false, usize::MAX, 100), Ok(()));
    let expected = r#"{"bids":[["10101.20","0.5"],["10101.10","0.45054140"]],"asks":[["10102.56","1"]]}"#;
    assert_eq!(book.show(10), Some(expected));
    let wrong = r#"{"changes":[["hold","1","1"]]}"#;
    assert!(matches!(book.take(BookFormat::Coinbase, wrong, false, 10, 100), Err(BookFault::Malformed(_))));
    assert!(!book.is_whole());
}

#[test]
fn what_is_no_book_is_refused() {
    for wrong in [
        "{}",
        "[]",
        r#"{"bids":[],"asks":[]}"#,
        r#"{"bids":[],"asks":[],"checksum":-1}"#,
        r#"{"bids":[{"price":-1,"qty":1}],"asks":[],"checksum":0}"#,
        r#"{"bids":[{"price":1e9,"qty":1}],"asks":[],"checksum":0}"#,
        r#"{"bids":[{"price":1,"qty":null}],"asks":[],"checksum":0}"#,
        r#"{"bids":[{"price":1}],"asks":[],"checksum":0}"#,
        r#"{"bids":{"price":1},"asks":[],"checksum":0}"#,
    ] {
        let fault = Book::default().take(BookFormat::Kraken, wrong, true, 10, 100);
        assert!(matches!(fault, Err(BookFault::Malformed(_))), "{wrong}: {fault:?}");
    }
    let too_long = Book::default().take(BookFormat::Kraken, SNAPSHOT, true, 10, 4);
    assert_eq!(too_long, Err(BookFault::TooLong));
}

#[test]
fn decimals_are_exact() {
    assert_eq!(decimal("0.1"), decimal("00.100"));
    assert!(decimal("45285.2") < decimal("45285.21") && decimal("9") < decimal("10"));
    assert_eq!(decimal("1."), decimal("1"));
    let longest = "9".repeat(18);
    assert!(decimal(&format!("{longest}.{longest}")).is_some());
    for wrong in ["", ".5", "-1", "1e3", "1.2.3", "1,5", " 1", &format!("1{longest}"), &format!("0.{longest}1")] {
        assert_eq!(decimal(wrong), None, "{wrong}");
    }
}
