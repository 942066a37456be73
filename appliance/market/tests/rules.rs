//! What each message does to the books, one rule after the other.
#![expect(clippy::needless_pass_by_value, reason = "expected values are written in place with json!")]

mod common;

use common::*;
use fanblade_feed::UnixNs;
use fanblade_feed::itch::ItchError;
use fanblade_market::limits::{LEVELS_PER_SIDE_MAX, TRADES_REMEMBERED_MAX};
use fanblade_market::{Channel, InstrumentId, Market, MarketError, Skipped};
use serde_json::{Value, json};

fn bbo(bid: Value, ask: Value) -> Published {
    published("/X/A/bbo", json!({"bid": bid, "ask": ask}))
}

fn book_of(bids: Value, asks: Value) -> Published {
    published("/X/A/book", book(bids, asks))
}

fn trade(px: u32, sz: u64, side: Value, match_number: u64, kind: &str) -> Published {
    published("/X/A/trade", json!({"px": px, "sz": sz, "side": side, "match": match_number, "kind": kind}))
}

/// The message must publish nothing and be counted under `reason`, once.
#[track_caller]
fn skips(bench: &mut Bench, message: Vec<u8>, reason: Skipped) {
    let before = bench.market.counters().skipped(reason);
    assert_eq!(bench.apply(message), []);
    assert_eq!(bench.market.counters().skipped(reason), before + 1);
}

/// One bid: 300 shares at 1000 under reference 1.
fn with_a_bid() -> Bench {
    let mut bench = Bench::new();
    let expected = [bbo(json!([1000, 300, 1]), Value::Null), book_of(json!([[1000, 300, 1]]), json!([]))];
    assert_eq!(bench.apply(add(5, "A", 1, b'B', 300, 1000)), expected);
    bench
}

#[test]
fn add_publishes_quotes() {
    let mut bench = with_a_bid();
    let expected =
        [bbo(json!([1000, 300, 1]), json!([1001, 7, 1])), book_of(json!([[1000, 300, 1]]), json!([[1001, 7, 1]]))];
    assert_eq!(bench.apply(add_mpid(5, "A", 2, b'S', 7, 1001)), expected);
    // Behind the best: the book only.
    let expected = [book_of(json!([[1000, 300, 1], [999, 5, 1]]), json!([[1001, 7, 1]]))];
    assert_eq!(bench.apply(add(5, "A", 3, b'B', 5, 999)), expected);
    // One more at the best.
    let expected = [
        bbo(json!([1000, 301, 2]), json!([1001, 7, 1])),
        book_of(json!([[1000, 301, 2], [999, 5, 1]]), json!([[1001, 7, 1]])),
    ];
    assert_eq!(bench.apply(add(5, "A", 4, b'B', 1, 1000)), expected);
    assert_eq!(bench.market.orders(), 4);
}

#[test]
fn book_shows_ten_levels() {
    let mut bench = Bench::new();
    for depth in 0..10 {
        assert_eq!(bench.apply(add(5, "A", depth.into(), b'S', 1, 1000 + depth)).len(), if depth == 0 { 2 } else { 1 });
    }
    // The eleventh is not shown; nor is what happens to it.
    assert_eq!(bench.apply(add(5, "A", 10, b'S', 9, 1010)), []);
    assert_eq!(bench.apply(cancel(5, 10, 1)), []);
    // Until a better one leaves.
    let levels: Vec<_> = (1000..1009).map(|price| json!([price, 1, 1])).chain([json!([1010, 8, 1])]).collect();
    assert_eq!(bench.apply(delete(5, 9)), [book_of(json!([]), levels.into())]);
}

#[test]
fn execution_trades_at_the_orders_price() {
    let mut bench = with_a_bid();
    let expected = [
        trade(1000, 100, json!("B"), 77, "execution"),
        bbo(json!([1000, 200, 1]), Value::Null),
        book_of(json!([[1000, 200, 1]]), json!([])),
    ];
    assert_eq!(bench.apply(executed(5, 1, 100, 77)), expected);
    let expected =
        [trade(1000, 200, json!("B"), 78, "execution"), bbo(Value::Null, Value::Null), book_of(json!([]), json!([]))];
    assert_eq!(bench.apply(executed(5, 1, 200, 78)), expected);
    assert_eq!(bench.market.orders(), 0);
}

#[test]
fn execution_with_price_trades_at_that_price() {
    let mut bench = with_a_bid();
    let published = bench.apply(executed_at(5, 1, 100, 77, b'Y', 1234));
    assert_eq!(published[0], trade(1234, 100, json!("B"), 77, "execution"));
    assert_eq!(published[1], bbo(json!([1000, 200, 1]), Value::Null));
}

#[test]
fn execution_not_printable_changes_the_book_only() {
    let mut bench = with_a_bid();
    let expected = [bbo(json!([1000, 200, 1]), Value::Null), book_of(json!([[1000, 200, 1]]), json!([]))];
    assert_eq!(bench.apply(executed_at(5, 1, 100, 77, b'N', 1234)), expected);
    skips(&mut bench, broken(5, 77), Skipped::UnknownTrade);
}

#[test]
fn execution_of_more_than_is_left_removes_the_order() {
    let mut bench = with_a_bid();
    let expected =
        [trade(1000, 301, json!("B"), 77, "execution"), bbo(Value::Null, Value::Null), book_of(json!([]), json!([]))];
    assert_eq!(bench.apply(executed(5, 1, 301, 77)), expected);
    assert_eq!((bench.market.orders(), bench.market.counters().shares_excess), (0, 1));
}

#[test]
fn cancel_shrinks_then_removes() {
    let mut bench = with_a_bid();
    assert_eq!(bench.apply(cancel(5, 1, 299))[0], bbo(json!([1000, 1, 1]), Value::Null));
    assert_eq!(bench.apply(cancel(5, 1, 1))[0], bbo(Value::Null, Value::Null));
    skips(&mut bench, cancel(5, 1, 1), Skipped::UnknownReference);
}

#[test]
fn delete_removes() {
    let mut bench = with_a_bid();
    let expected = [bbo(Value::Null, Value::Null), book_of(json!([]), json!([]))];
    assert_eq!(bench.apply(delete(5, 1)), expected);
    skips(&mut bench, delete(5, 1), Skipped::UnknownReference);
}

#[test]
fn replace_keeps_side_and_instrument() {
    let mut bench = with_a_bid();
    let expected = [bbo(json!([998, 50, 1]), Value::Null), book_of(json!([[998, 50, 1]]), json!([]))];
    assert_eq!(bench.apply(replace(5, 1, 2, 50, 998)), expected);
    skips(&mut bench, delete(5, 1), Skipped::UnknownReference);
    // Under its own reference.
    assert_eq!(bench.apply(replace(5, 2, 2, 60, 998))[0], bbo(json!([998, 60, 1]), Value::Null));
}

#[test]
fn replace_by_the_same_publishes_nothing() {
    let mut bench = with_a_bid();
    let suppressed = bench.market.counters().unchanged_suppressed;
    assert_eq!(bench.apply(replace(5, 1, 2, 300, 1000)), []);
    assert_eq!(bench.market.counters().unchanged_suppressed, suppressed + 2);
    assert_eq!(bench.apply(delete(5, 2)).len(), 2);
}

#[test]
fn replace_of_the_unknown_places_nothing() {
    let mut bench = Bench::new();
    skips(&mut bench, replace(5, 1, 2, 50, 998), Skipped::UnknownReference);
    skips(&mut bench, delete(5, 2), Skipped::UnknownReference);
}

#[test]
fn replace_by_the_impossible_still_removes() {
    for (new_reference, shares, price, reason) in [
        (2, 0, 1000, Skipped::SharesZero),
        (2, 300, 0, Skipped::PriceZero),
        (9, 300, 1000, Skipped::DuplicateReference),
    ] {
        let mut bench = with_a_bid();
        bench.apply(add(5, "A", 9, b'S', 1, 2000));
        let published = bench.apply(replace(5, 1, new_reference, shares, price));
        assert_eq!(published[0], bbo(Value::Null, json!([2000, 1, 1])));
        assert_eq!((bench.market.orders(), bench.market.counters().skipped(reason)), (1, 1));
    }
}

#[test]
fn hidden_trade_and_cross_leave_the_book_alone() {
    let mut bench = with_a_bid();
    assert_eq!(bench.apply(hidden(5, "A", b'B', 20, 1050, 8)), [trade(1050, 20, json!("B"), 8, "hidden")]);
    let shares = u64::from(u32::MAX) + 5;
    assert_eq!(bench.apply(cross(5, "A", shares, 1060, 9)), [trade(1060, shares, Value::Null, 9, "cross")]);
    skips(&mut bench, cross(5, "A", 0, 0, 10), Skipped::CrossEmpty);
    skips(&mut bench, hidden(5, "A", b'B', 0, 1, 11), Skipped::SharesZero);
}

#[test]
fn broken_trade_is_shown_as_it_was() {
    let mut bench = with_a_bid();
    bench.apply(executed(5, 1, 100, 77));
    bench.apply(cross(5, "A", 4, 1060, 78));
    skips(&mut bench, broken(6, 77), Skipped::LocateMismatch);
    assert_eq!(bench.apply(broken(5, 77)), [trade(1000, 100, json!("B"), 77, "broken")]);
    assert_eq!(bench.apply(broken(5, 78)), [trade(1060, 4, Value::Null, 78, "broken")]);
    skips(&mut bench, broken(5, 77), Skipped::UnknownTrade);
    skips(&mut bench, broken(5, 79), Skipped::UnknownTrade);
}

#[test]
fn broken_trade_from_long_ago_is_counted() {
    let mut bench = with_a_bid();
    bench.apply(executed(5, 1, 100, 7));
    bench.apply(executed(5, 1, 100, 7 + TRADES_REMEMBERED_MAX as u64));
    skips(&mut bench, broken(5, 7), Skipped::UnknownTrade);
}

#[test]
fn status_is_unknown_until_told() {
    let mut bench = Bench::new();
    assert_eq!(bench.apply(directory(5, "A")), []);
    assert_eq!(bench.market.instrument(InstrumentId(5)).map(|it| (it.symbol(), it.status())), Some(("A", None)));
    let status = |state: &str, reason: &str| [published("/X/A/status", json!({"state": state, "reason": reason}))];
    assert_eq!(bench.apply(action(5, "A", b'T', *b"    ")), status("T", ""));
    assert_eq!(bench.apply(action(5, "A", b'T', *b"    ")), []);
    assert_eq!(bench.apply(action(5, "A", b'H', *b"T1  ")), status("H", "T1"));
    assert_eq!(bench.apply(action(5, "A", b'P', *b"LUDP")), status("P", "LUDP"));
    assert_eq!(bench.apply(action(5, "A", b'Q', *b"\"\\  ")), status("Q", "\"\\"));
}

#[test]
fn imbalance_when_it_changes() {
    let mut bench = Bench::new();
    let expected = json!({"paired": 90, "imbalance": 500, "dir": "S", "near": 12, "far": 11, "ref": 13, "cross": "O"});
    assert_eq!(bench.apply(noii(5, "A", 90, b'S')), [published("/X/A/imbalance", expected)]);
    assert_eq!(bench.apply(noii(5, "A", 90, b'S')), []);
    assert_eq!(bench.apply(noii(5, "A", 91, b'"'))[0].data["dir"], "\"");
}

#[test]
fn crossed_books_are_shown_and_counted() {
    let mut bench = with_a_bid();
    assert_eq!(bench.apply(add(5, "A", 2, b'S', 7, 990))[0], bbo(json!([1000, 300, 1]), json!([990, 7, 1])));
    assert_eq!(bench.market.counters().quotes_crossed, 1);
}

#[test]
fn contradictions_are_skipped_and_counted() {
    let mut bench = with_a_bid();
    skips(&mut bench, add(5, "A", 1, b'S', 1, 1), Skipped::DuplicateReference);
    skips(&mut bench, add(5, "A", 2, b'B', 0, 1000), Skipped::SharesZero);
    skips(&mut bench, add(5, "A", 2, b'B', 1, 0), Skipped::PriceZero);
    skips(&mut bench, add(0, "B", 2, b'B', 1, 1000), Skipped::LocateZero);
    skips(&mut bench, add(5, "B", 2, b'B', 1, 1000), Skipped::SymbolMismatch);
    skips(&mut bench, add(6, "A", 2, b'B', 1, 1000), Skipped::SymbolMismatch);
    skips(&mut bench, directory(5, "B"), Skipped::SymbolMismatch);
    skips(&mut bench, executed(5, 1, 0, 3), Skipped::SharesZero);
    skips(&mut bench, cancel(5, 1, 0), Skipped::SharesZero);
    skips(&mut bench, cancel(6, 1, 1), Skipped::LocateMismatch);
    skips(&mut bench, delete(0, 1), Skipped::LocateMismatch);
    let instrument = bench.market.instrument(InstrumentId(5)).expect("named");
    assert_eq!(instrument.bbo().bid.map(|level| (level.price, level.shares, level.orders)), Some((1000, 300, 1)));
    assert_eq!((bench.market.orders(), bench.market.instruments_len()), (1, 1));
}

#[test]
fn malformed_messages_say_what_is_wrong() {
    let mut bench = with_a_bid();
    let code = |kind, field, code| MarketError::Code { kind, field, code };
    for (message, expected) in [
        (vec![], ItchError::Empty.into()),
        (vec![b'z'; 9], ItchError::UnknownKind { kind: b'z', actual_len: 9 }.into()),
        (delete(5, 1)[..18].to_vec(), ItchError::WrongLength { kind: b'D', expected_len: 19, actual_len: 18 }.into()),
        (add(5, "A", 2, b'b', 1, 1), code(b'A', "side", b'b')),
        (add_mpid(5, "A", 2, 0, 1, 1), code(b'F', "side", 0)),
        (hidden(5, "A", b'?', 1, 1, 1), code(b'P', "side", b'?')),
        (executed_at(5, 1, 1, 1, b'?', 1), code(b'C', "printable", b'?')),
        (action(5, "A", b'X', *b"    "), code(b'H', "state", b'X')),
        (action(5, "A", b'T', *b"T\n  "), code(b'H', "reason", b'\n')),
        (noii(5, "A", 1, 0xff), code(b'I', "direction", 0xff)),
        (system_event(b'x'), code(b'S', "event", b'x')),
        (add(7, "A/B", 2, b'B', 1, 1), MarketError::Text { kind: b'A', field: "stock", text: *b"A/B     " }),
        (add(7, "\0\0\0\0\0\0\0\0", 2, b'B', 1, 1), MarketError::Text { kind: b'A', field: "stock", text: [0; 8] }),
    ] {
        let before = bench.market.counters().malformed;
        assert_eq!(bench.try_apply(&message), Err(expected), "{message:?}");
        assert_eq!(bench.market.counters().malformed, before + 1);
    }
    assert_eq!(bench.apply(delete(5, 1)).len(), 2, "all that changed nothing");
    let error = MarketError::Text { kind: b'A', field: "stock", text: *b"A/B\0    " };
    assert_eq!(error.to_string(), "ITCH message 'A': stock is \"A/B\\x00    \"");
}

#[test]
fn orders_max_is_a_limit() {
    let mut bench = Bench::of(Market::with_orders_max("X", UnixNs(0), 2));
    bench.apply(add(5, "A", 1, b'B', 1, 1));
    bench.apply(add(5, "A", 2, b'B', 1, 1));
    skips(&mut bench, add(5, "A", 3, b'B', 1, 1), Skipped::OrdersFull);
    bench.apply(replace(5, 2, 3, 1, 2));
    assert_eq!(bench.apply(delete(5, 3))[0], bbo(json!([1, 1, 1]), Value::Null));
}

#[test]
fn levels_max_is_a_limit() {
    let mut market = Market::with_orders_max("X", UnixNs(0), LEVELS_PER_SIDE_MAX + 2);
    for price in 1..=u32::try_from(LEVELS_PER_SIDE_MAX).expect("fits") {
        let added = market.apply(1, &add(5, "A", price.into(), b'B', 1, price), &mut |_| {});
        assert_eq!(added, Ok(()));
    }
    let mut bench = Bench::of(market);
    skips(&mut bench, add(5, "A", 0, b'B', 1, 1_000_000), Skipped::LevelsFull);
    skips(&mut bench, delete(5, 0), Skipped::UnknownReference);
    assert_eq!(bench.apply(add(5, "A", 0, b'B', 1, 1)), []);
    assert_eq!(bench.market.orders(), LEVELS_PER_SIDE_MAX + 1);
}

#[test]
fn reset_forgets_all_but_the_counters() {
    let mut bench = with_a_bid();
    bench.apply(executed(5, 1, 1, 77));
    bench.apply(action(5, "A", b'T', *b"    "));
    bench.apply(noii(5, "A", 1, b'B'));
    bench.market.reset();
    assert_eq!((bench.market.orders(), bench.market.instruments().count()), (0, 0));
    skips(&mut bench, delete(5, 1), Skipped::UnknownReference);
    skips(&mut bench, broken(5, 77), Skipped::UnknownTrade);
    // Number and symbol may go other ways now, and everything is new.
    assert_eq!(bench.apply(action(6, "A", b'T', *b"    ")).len(), 1);
    assert_eq!(bench.apply(noii(6, "A", 1, b'B')).len(), 1);
    assert_eq!(bench.apply(add(6, "A", 1, b'B', 300, 1000)).len(), 2);
    assert_eq!(bench.market.counters().messages(b'A'), 2);
}

#[test]
fn quotes_are_marked_while_messages_are_missing() {
    let mut bench = with_a_bid();
    bench.market.set_incomplete();
    let marked = |mut published: Published| {
        published.data["incomplete"] = true.into();
        published
    };
    let (bids, asks) = (json!([[1000, 300, 1]]), json!([[1001, 7, 1]]));
    let expected = [
        marked(bbo(json!([1000, 300, 1]), json!([1001, 7, 1]))),
        marked(published("/X/A/book", book(bids.clone(), asks.clone()))),
    ];
    assert_eq!(bench.apply(add(5, "A", 2, b'S', 7, 1001)), expected);
    // Trades and states are what they are.
    assert_eq!(bench.apply(hidden(5, "A", b'B', 1, 1000, 9)), [trade(1000, 1, "B".into(), 9, "hidden")]);

    // Before the system opens nobody can have entered an order.
    assert_eq!(bench.apply(system_event(b'O')), []);
    assert!(bench.market.is_incomplete());
    assert_eq!(bench.apply(system_event(b'S')), []);
    assert!(!bench.market.is_incomplete());

    bench.market.set_incomplete();
    bench.market.reset();
    assert!(!bench.market.is_incomplete());
}

#[test]
fn a_state_is_published_as_a_whole() {
    let mut bench = with_a_bid();
    bench.apply(action(6, "B", b'H', *b"T1  "));
    bench.apply(hidden(5, "A", b'B', 1, 1000, 9));
    let mut images = Vec::new();
    let mut subject = String::new();
    bench.market.images(77, &mut |update| {
        update.subject(&mut subject);
        images.push((update.seq, subject.clone()));
    });
    let expected = ["/X/A/bbo", "/X/A/book", "/X/B/status", "/X/B/bbo", "/X/B/book"];
    assert_eq!(images, expected.map(|subject| (77, subject.to_owned())));
}

#[test]
fn time_counts_from_midnight() {
    let mut market = Market::new("NASDAQ", MIDNIGHT_UNIX_NS);
    let mut times = Vec::new();
    let applied = market.apply(1, &action(5, "A", b'T', *b"    "), &mut |update| times.push(update.ts_ns));
    market.set_midnight(UnixNs::NEVER);
    let late = market.apply(2, &action(5, "A", b'H', *b"    "), &mut |update| times.push(update.ts_ns));
    assert_eq!((applied, late, times), (Ok(()), Ok(()), vec![MIDNIGHT_UNIX_NS.plus(TIME_NS), UnixNs::NEVER]));
}

#[test]
fn counters_add_up() {
    let mut bench = with_a_bid();
    bench.apply(executed(5, 1, 100, 77));
    for event in *b"OSQMEC" {
        bench.apply(system_event(event));
    }
    bench.apply(system_event(b'C'));
    let counters = bench.market.counters();
    assert_eq!((counters.system_events(b'C'), counters.system_events(b'O'), counters.system_events(b'x')), (2, 1, 0));
    assert_eq!((counters.messages(b'A'), counters.messages(b'E'), counters.messages(b'S')), (1, 1, 7));
    assert_eq!(counters.messages_total(), 9);
    let updates = Channel::ALL.map(|channel| (channel.name(), counters.updates(channel)));
    assert_eq!(updates, [("trade", 1), ("bbo", 2), ("book", 2), ("status", 0), ("imbalance", 0)]);
}

#[test]
fn subject_and_symbol_are_escaped() {
    let mut bench = Bench::new();
    let published = bench.apply(action(5, "\"\\A", b'T', *b"    "));
    assert_eq!(published[0].subject, "/X/\"\\A/status");
}

#[test]
fn checksum_is_the_documented_one() {
    assert_eq!(crc32("123456789"), 0xcbf4_3926, "the CRC catalogue's check value");
    let bench = with_a_bid();
    let instrument = bench.market.instrument(InstrumentId(5)).expect("named");
    assert_eq!(fanblade_market::encode::crc(&instrument.book()), crc32("[[[1000,300,1]],[]]"));
}

#[test]
fn symbols_that_look_like_patterns_or_escapes_have_subjects_of_their_own() {
    let mut bench = Bench::new();
    for (locate, (symbol, segment)) in
        (1..).zip([("C-L*", "C-L~2A"), ("*", "~2A"), ("C-L~2A", "C-L~7E2A"), ("A%", "A~25"), ("A+", "A+")])
    {
        let [status] = &bench.apply(action(locate, symbol, b'T', *b"    "))[..] else { panic!("{symbol}") };
        assert_eq!(status.subject, format!("/X/{segment}/status"));
    }
}
