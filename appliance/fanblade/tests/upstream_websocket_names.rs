//! Names of instruments as venues have them: each has a subject of its own, a numbering, and a book.

mod common;
#[path = "common/venue.rs"]
mod venue;

use std::collections::HashMap;

use serde_json::{Value, json};
use venue::{Subscriber, Venue};

const BINANCE: &str = include_str!("../../../docs/examples/binance.toml");
const COINBASE: &str = include_str!("../../../docs/examples/coinbase.toml");

/// The name that a segment of a subject stands for.
fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'~' => {
                let digits = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                &after[2..]
            }
            byte => {
                bytes.push(byte);
                after
            }
        };
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn instruments_of_any_script_have_subjects_of_their_own() {
    let names = [
        "币安人生USDT",
        "客服小何USDT",
        "----USDT",
        "BTC/USD",
        "BTC-USD",
        "BTC USD",
        "btc-usd",
        "BTC-USD ",
        "*",
        "A~2FB",
        "A/B",
    ];
    let venue = Venue::new();
    let blade = venue.blade(BINANCE, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    // Overlapping numbers: in a shared numbering most of them would be duplicates, the others gaps.
    for (at, name) in names.iter().enumerate() {
        for id in 0..3 {
            let id = 1_000 - 10 * at + id;
            upstream.send(
                &json!({"data": {"e": "trade", "s": name, "t": id, "p": "0.5", "q": "1", "T": 1_700_000_000_000_u64}})
                    .to_string(),
            );
        }
        upstream.send(
            &json!({"data": {"u": at, "s": name, "b": format!("0.{at}1"), "B": "1", "a": "1", "A": "1"}}).to_string(),
        );
    }
    let mut trades: HashMap<String, u64> = HashMap::new();
    for _ in 0..names.len() * 4 {
        let frame = subscriber.frame();
        let subject = frame["s"].as_str().unwrap();
        let segments: Vec<&str> = subject.split('/').collect();
        assert_eq!(segments.len(), 4, "{subject}");
        assert_eq!(frame["d"]["s"], Value::from(unescaped(segments[2])), "{subject}");
        *trades.entry(subject.to_owned()).or_default() += 1;
    }
    assert_eq!(trades.len(), 2 * names.len());
    assert!(
        trades.iter().all(|(subject, count)| *count == if subject.ends_with("/trade") { 3 } else { 1 }),
        "{trades:?}"
    );
    let status = blade.status();
    assert_eq!((&status["feed"]["duplicates"], &status["feed"]["subject_gaps"]), (&json!(0), &json!(0)), "{status:#}");

    // Too long for a subject, and equal if they were cut.
    let long = "币".repeat(20);
    for _ in 0..3 {
        for end in ["A", "B"] {
            upstream.send(&json!({"data": {"e": "trade", "s": format!("{long}{end}"), "t": 1, "T": 1}}).to_string());
        }
    }
    blade.until("all six", |status| status["feed"]["malformed"] == 6);
    // A later message in the queue: when it arrives, all reports about the earlier ones are there.
    upstream.send(r#"{"data":{"e":"trade","s":"A","t":1,"T":1}}"#);
    subscriber.value("/BINANCE/A/trade");
    blade.until("each name once", |status| status["feed"]["troubles"]["bad_name"] == 2);
    blade.until_logged("a subject has at most 128 bytes");
}

#[test]
fn books_of_names_that_look_alike_are_two() {
    let venue = Venue::new();
    let blade = venue.blade(COINBASE, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    for (name, price) in [("币-USD", "1.5"), ("安-USD", "2.5")] {
        let snapshot = json!({"type": "snapshot", "product_id": name, "bids": [[price, "1"]], "asks": []});
        upstream.send(&snapshot.to_string());
    }
    upstream.send(&json!({"type": "l2update", "product_id": "币-USD", "changes": [["buy", "1.4", "3"]], "time": "2026-03-01T12:00:00Z"}).to_string());
    let frames = [(); 3].map(|()| subscriber.frame());
    assert_ne!(frames[0]["s"], frames[1]["s"]);
    assert_eq!(frames[2]["s"], frames[0]["s"]);
    assert_eq!(frames[2]["d"]["bids"], json!([["1.5", "1"], ["1.4", "3"]]));
}
