//! Venues as their documentation describes them, played by servers of our own: the values that the examples in
//! docs/examples make of their messages arrive at a subscriber, and gaps are told.

mod common;
#[path = "common/venue.rs"]
mod venue;

use serde_json::{Value, json};
use venue::{Subscriber, Venue};

const COINBASE: &str = include_str!("../../../docs/examples/coinbase.toml");
const KRAKEN: &str = include_str!("../../../docs/examples/kraken.toml");
const BINANCE: &str = include_str!("../../../docs/examples/binance.toml");

#[test]
fn coinbase_books_tickers_and_trades() {
    let venue = Venue::new();
    let blade = venue.blade(COINBASE, "");
    let mut upstream = venue.accept();
    upstream.expect(&json!({"type": "subscribe", "product_ids": ["BTC-USD", "ETH-USD"],
        "channels": ["level2_batch", "ticker", "matches", "heartbeat"]}));
    assert!(upstream.headers.iter().any(|(name, value)| name == "user-agent" && value.starts_with("fanblade/")));
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(
        r#"{"type":"subscriptions","channels":[{"name":"level2_50","product_ids":["BTC-USD"],"account_ids":null}]}"#,
    );
    let status = blade.until("it waits for values", |status| status["feed"]["state"] == "catching_up");
    assert_eq!(status["ready"], false);

    upstream.send(
        r#"{"type":"snapshot","product_id":"BTC-USD","asks":[["60010.55","0.57753524"],["60010.60","2"]],
           "bids":[["60010.10","0.45054140"],["59000.00","1.00000000"]],"time":"2026-03-01T12:00:00.000001Z"}"#,
    );
    let frame = subscriber.frame();
    assert_eq!((&frame["s"], &frame["q"], &frame["p"]), (&json!("/COINBASE/BTC-USD/book"), &json!(1), &json!(0)));
    let bids = json!([["60010.10", "0.45054140"], ["59000.00", "1.00000000"]]);
    assert_eq!(frame["d"], json!({"bids": bids, "asks": [["60010.55", "0.57753524"], ["60010.60", "2"]]}));
    upstream.send(
        r#"{"type":"l2update","product_id":"BTC-USD","changes":[["buy","60010.20","0.5"],["sell","60010.55","0.00000000"],
           ["buy","59000.00","0"]],"time":"2026-03-01T12:00:01.000002Z"}"#,
    );
    let frame = subscriber.frame();
    let bids = json!([["60010.20", "0.5"], ["60010.10", "0.45054140"]]);
    assert_eq!(frame["d"], json!({"bids": bids, "asks": [["60010.60", "2"]]}));
    assert_eq!((&frame["p"], &frame["t"]), (&json!(1), &json!("1772366401000002000")), "2026-03-01T12:00:01.000002Z");
    assert_eq!(blade.until("ready", |status| status["ready"] == true)["feed"]["state"], "live");

    let ticker = r#"{"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","price":"1285.22","open_24h":"1310.79",
        "volume_24h":"245532.79269678","low_24h":"1280.52","high_24h":"1313.8","volume_30d":"9788783.60117027",
        "best_bid":"1285.04","best_bid_size":"0.46688654","best_ask":"1285.27","best_ask_size":"1.56637040","side":"buy",
        "time":"2026-03-01T12:00:02.5Z","trade_id":370843401,"last_size":"11.4396987"}"#;
    upstream.send(ticker);
    assert_eq!(subscriber.value("/COINBASE/ETH-USD/ticker"), serde_json::from_str::<Value>(ticker).unwrap());
    assert!(subscriber.newest_text().contains(r#""t":"1772366402500000000""#), "{}", subscriber.newest_text());

    let trade = |kind: &str, id: u64| {
        format!(
            r#"{{"type":"{kind}","trade_id":{id},"sequence":{},"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8",
            "taker_order_id":"132fb6ae-456b-4654-b4e0-d681ac05cea1","time":"2026-03-01T12:00:03Z","product_id":"BTC-USD",
            "size":"5.23512","price":"60010.25","side":"sell"}}"#,
            50 * id
        )
    };
    for (kind, id) in [("last_match", 10), ("match", 11), ("match", 11), ("match", 14)] {
        upstream.send(&trade(kind, id));
    }
    let ids = [(); 3].map(|()| subscriber.value("/COINBASE/BTC-USD/trade")["trade_id"].take());
    assert_eq!(ids, [10, 11, 14].map(Value::from), "11 came twice");
    let gap = json!({"op": "notice", "kind": "gap", "subject": "/COINBASE/BTC-USD/trade", "from": 11, "to": 13});
    assert_eq!(subscriber.notice("gap"), gap);

    // The newest trade is lost, and no other follows it.
    let heartbeat = r#"{"type":"heartbeat","sequence":900,"last_trade_id":15,"product_id":"BTC-USD","time":"2026-03-01T12:00:04Z"}"#;
    upstream.send(heartbeat);
    upstream.send(heartbeat);
    assert_eq!(subscriber.notice("gap")["to"], 15);

    upstream.send(r#"{"type":"error","message":"Failed to subscribe","reason":"XYZ-USD is not a valid product"}"#);
    let status = blade.until("the refusal", |status| status["feed"]["troubles"]["refused"] == 1);
    blade.until_logged("the server says: XYZ-USD is not a valid product");
    let feed = &status["feed"];
    assert_eq!((&feed["subject_gaps"], &feed["gaps"], &feed["gap_messages"]), (&json!(2), &json!(2), &json!(3)));
    assert_eq!((&feed["duplicates"], &feed["malformed"]), (&json!(1), &json!(0)));
    // The answer to the subscription matches no rule.
    blade.until_metric("fanblade_feed_unmatched_total", 1.0);
}

/// The checksum of levels as Kraken computes it: over the digits of prices and quantities.
fn kraken_checksum(levels: &[(&str, &str)]) -> u32 {
    let digits: String = levels.iter().flat_map(|(price, quantity)| [*price, *quantity]).collect();
    crc32fast::hash(digits.as_bytes())
}

#[test]
fn kraken_books_are_verified_and_trades_are_counted() {
    let venue = Venue::new();
    let blade = venue.blade(KRAKEN, "");
    let mut upstream = venue.accept();
    assert_eq!(upstream.path, "/v2");
    let book = |method: &str, symbols: &[&str]| {
        let mut request = json!({"method": method, "params": {"channel": "book", "symbol": symbols, "depth": 10}});
        if method == "subscribe" {
            request["params"]["snapshot"] = true.into();
        }
        request
    };
    upstream.expect(&book("subscribe", &["BTC/USD", "ETH/USD"]));
    upstream.expect(&json!({"method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": true}}));
    let mut subscriber = Subscriber::new(&blade);
    for chatter in [
        r#"{"channel":"status","data":[{"api_version":"v2","connection_id":7,"system":"online","version":"2.0.4"}],"type":"update"}"#,
        r#"{"method":"subscribe","result":{"channel":"book","depth":10,"snapshot":true,"symbol":"BTC/USD"},"success":true,
            "time_in":"2026-03-01T12:00:00.000001Z","time_out":"2026-03-01T12:00:00.000002Z"}"#,
        r#"{"channel":"heartbeat"}"#,
    ] {
        upstream.send(chatter);
    }
    let snapshot = format!(
        r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{{"price":60010.1,"qty":0.10000000}},
        {{"price":60009.0,"qty":1.54582015}}],"asks":[{{"price":60010.2,"qty":0.00100000}}],"checksum":{}}}]}}"#,
        kraken_checksum(&[("600102", "100000"), ("600101", "10000000"), ("600090", "154582015")]),
    );
    upstream.send(&snapshot);
    let value = subscriber.value("/KRAKEN/BTC~2FUSD/book");
    assert_eq!(value["bids"], json!([["60010.1", "0.10000000"], ["60009.0", "1.54582015"]]), "quantities as written");
    let update = |qty: &str, checksum: u32| {
        format!(
            r#"{{"channel":"book","type":"update","data":[{{"symbol":"BTC/USD","bids":[{{"price":60010.1,"qty":0}}],
            "asks":[{{"price":60010.3,"qty":{qty}}}],"checksum":{checksum},"timestamp":"2026-03-01T12:00:01.000001Z"}}]}}"#
        )
    };
    let checksum = kraken_checksum(&[("600102", "100000"), ("600103", "20000000"), ("600090", "154582015")]);
    upstream.send(&update("0.20000000", checksum));
    let value = subscriber.value("/KRAKEN/BTC~2FUSD/book");
    assert_eq!(value["asks"], json!([["60010.2", "0.00100000"], ["60010.3", "0.20000000"]]));
    assert_eq!(value["checksum"], checksum);

    // A message was lost: the checksum belongs to a book that the blade does not have.
    upstream.send(&update("0.30000000", 7));
    let gap = json!({"op": "notice", "kind": "gap", "subject": "/KRAKEN/BTC~2FUSD/book", "from": 1, "to": 2});
    assert_eq!(subscriber.notice("gap"), gap);
    assert_eq!(subscriber.value("/KRAKEN/BTC~2FUSD/book")["incomplete"], true);
    upstream.expect(&book("unsubscribe", &["BTC/USD"]));
    upstream.expect(&book("subscribe", &["BTC/USD"]));
    // A late update changes a book that the blade has dropped.
    upstream.send(&update("0.20000000", checksum));
    upstream.send(&snapshot);
    assert_eq!(subscriber.value("/KRAKEN/BTC~2FUSD/book")["asks"], json!([["60010.2", "0.00100000"]]));

    let trade = |kind: &str, ids: &[u64]| {
        let trades: Vec<String> = ids
            .iter()
            .map(|id| {
                format!(
                    r#"{{"symbol":"ETH/USD","side":"buy","price":1285.10,"qty":6.42300000,"ord_type":"limit","trade_id":{id},
                    "timestamp":"2026-03-01T12:00:02.000003Z"}}"#
                )
            })
            .collect();
        format!(r#"{{"channel":"trade","type":"{kind}","data":[{}]}}"#, trades.join(","))
    };
    upstream.send(&trade("snapshot", &[4_665_846, 4_665_847]));
    upstream.send(&trade("update", &[4_665_848, 4_665_850]));
    let ids = [(); 4].map(|()| subscriber.value("/KRAKEN/ETH~2FUSD/trade")["trade_id"].take());
    assert_eq!(ids, [4_665_846, 4_665_847, 4_665_848, 4_665_850].map(Value::from));
    assert!(subscriber.newest_text().contains(r#""price":1285.10,"qty":6.42300000,"#), "{}", subscriber.newest_text());
    let gap = json!({"op": "notice", "kind": "gap", "subject": "/KRAKEN/ETH~2FUSD/trade", "from": 4_665_848, "to": 4_665_849});
    assert_eq!(subscriber.notice("gap"), gap);

    upstream.send(
        r#"{"error":"Currency pair not supported XBT/USD","method":"subscribe","success":false,"symbol":"XBT/USD",
            "time_in":"2026-03-01T12:00:03Z","time_out":"2026-03-01T12:00:03Z"}"#,
    );
    let status = blade.until("the refusal", |status| status["feed"]["troubles"]["refused"] == 1);
    blade.until_logged("the server says: Currency pair not supported XBT/USD");
    assert_eq!(status["feed"]["troubles"]["checksum"], 1);
    blade.until_logged("the venue says 7");
    // The late update, which changed no book.
    blade.until_metric("fanblade_feed_stale_total", 1.0);
    blade.until_metric("fanblade_feed_unmatched_total", 3.0);
}

#[test]
fn binance_depth_best_prices_and_trades() {
    let venue = Venue::new();
    let blade = venue.blade(BINANCE, "");
    let mut upstream = venue.accept();
    assert_eq!(upstream.path, "/stream");
    upstream.expect(&json!({"method": "SUBSCRIBE", "id": 1,
        "params": ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"]}));
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(r#"{"result":null,"id":1}"#);
    let depth = |first: u64, last: u64| {
        format!(
            r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1772366400123,"s":"BTCUSDT","U":{first},
            "u":{last},"b":[["60010.10000000","10.00000000"]],"a":[["60010.20000000","0.00000000"]]}}}}"#
        )
    };
    for (first, last) in [(157, 160), (161, 161), (165, 170)] {
        upstream.send(&depth(first, last));
    }
    let frame = subscriber.frame();
    assert_eq!((&frame["s"], &frame["t"]), (&json!("/BINANCE/BTCUSDT/depth"), &json!("1772366400123000000")));
    let value = json!({"e": "depthUpdate", "E": 1_772_366_400_123_u64, "s": "BTCUSDT", "U": 157, "u": 160,
        "b": [["60010.10000000", "10.00000000"]], "a": [["60010.20000000", "0.00000000"]]});
    assert_eq!(frame["d"], value, "the event without its envelope");
    assert_eq!([(); 2].map(|()| subscriber.value("/BINANCE/BTCUSDT/depth")["u"].take()), [161, 170].map(Value::from));
    let gap = json!({"op": "notice", "kind": "gap", "subject": "/BINANCE/BTCUSDT/depth", "from": 161, "to": 164});
    assert_eq!(subscriber.notice("gap"), gap);

    let best = r#"{"u":400900217,"s":"BTCUSDT","b":"60010.10000000","B":"31.21000000","a":"60010.20000000","A":"40.66000000"}"#;
    upstream.send(&format!(r#"{{"stream":"btcusdt@bookTicker","data":{best}}}"#));
    assert_eq!(subscriber.value("/BINANCE/BTCUSDT/bbo"), serde_json::from_str::<Value>(best).unwrap());
    for id in [12_345, 12_346, 12_348] {
        upstream.send(&format!(
            r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1772366400123,"s":"BTCUSDT","t":{id},"p":"60010.10000000",
            "q":"0.00100000","T":1772366400122,"m":true,"M":true}}}}"#
        ));
    }
    let ids = [(); 3].map(|()| subscriber.value("/BINANCE/BTCUSDT/trade")["t"].take());
    assert_eq!(ids, [12_345, 12_346, 12_348].map(Value::from));
    assert_eq!(subscriber.notice("gap")["subject"], "/BINANCE/BTCUSDT/trade");

    upstream.send(r#"{"error":{"code":2,"msg":"Invalid request: unknown stream"},"id":1}"#);
    upstream.send(r#"{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}"#);
    blade.until("both refusals", |status| status["feed"]["troubles"]["refused"] == 2);
    blade.until_logged("the server says: Invalid request: unknown stream");
}

/// Coinbase Advanced Trade: arrays within arrays, and a number for every message of the connection.
const ADVANCED: &str = r#"
[feed]
source = "websocket"
[feed.websocket]
url = "wss://advanced-trade-ws.coinbase.com"
sequence = "/sequence_num"
on_gap = "tell"
[[feed.websocket.map]]
match = { "/channel" = "ticker" }
each = "/events/*/tickers"
subject = "/COINBASE/{/product_id}/{^/channel}"
ts = "^/timestamp"
"#;

fn advanced(number: u64, products: &[&str]) -> String {
    let tickers: Vec<String> = products
        .iter()
        .map(|product| format!(r#"{{"type":"ticker","product_id":"{product}","price":"21932.98"}}"#))
        .collect();
    format!(
        r#"{{"channel":"ticker","client_id":"","timestamp":"2026-03-01T12:00:00.123456789Z","sequence_num":{number},
        "events":[{{"type":"update","tickers":[{}]}},{{"type":"update","tickers":[]}}]}}"#,
        tickers.join(",")
    )
}

#[test]
fn arrays_within_arrays_and_numbers_of_the_connection() {
    let venue = Venue::new();
    let blade = venue.blade(ADVANCED, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(&advanced(0, &["BTC-USD", "ETH-USD"]));
    upstream.send(r#"{"channel":"heartbeats","sequence_num":1,"events":[{"heartbeat_counter":1}]}"#);
    upstream.send(&advanced(2, &["BTC-USD"]));
    let frames = [(); 3].map(|()| subscriber.frame());
    let subjects = ["/COINBASE/BTC-USD/ticker", "/COINBASE/ETH-USD/ticker", "/COINBASE/BTC-USD/ticker"];
    assert_eq!(frames.each_ref().map(|frame| frame["s"].as_str().unwrap()), subjects);
    assert_eq!(frames.each_ref().map(|frame| &frame["q"]), [1, 2, 3].map(|q| json!(q)).each_ref(), "we count");
    assert_eq!(frames[0]["t"], "1772366400123456789");
    assert_eq!(frames[0]["d"], json!({"type": "ticker", "product_id": "BTC-USD", "price": "21932.98"}));

    // Messages 3 and 4 are missing, of unknown subjects. The blade skips one of its own numbers for them.
    upstream.send(&advanced(5, &["ETH-USD"]));
    assert_eq!(subscriber.frame()["q"], 5);
    let notice = subscriber.notice("gap");
    assert_eq!((&notice["source"], &notice["from"], &notice["to"]), (&json!("websocket"), &json!(3), &json!(4)));
    let status = blade.until("the trouble", |status| status["feed"]["troubles"]["messages_missing"] == 1);
    blade.until_logged("the server's messages 3 to 4 are missing");
    assert_eq!(status["feed"]["gaps"], 1);
}
