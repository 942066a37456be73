//! Books of venues, played by servers of our own that follow the venues' documentation. The blade keeps and checks the
//! books, and marks them for old and new subscribers while they may be wrong.

mod common;
#[path = "common/venue.rs"]
mod venue;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use fanblade_testkit::{Blade, PATIENCE};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use venue::{Subscriber, Venue};

const KRAKEN: &str = include_str!("../../../docs/examples/kraken.toml");
const OKX: &str = include_str!("../../../docs/examples/okx.toml");
const BINANCE: &str = include_str!("../../../docs/examples/binance-book.toml");
const BITFINEX: &str = include_str!("../../../docs/examples/bitfinex.toml");
const GEMINI: &str = include_str!("../../../docs/examples/gemini.toml");

fn crc(text: &str) -> i32 {
    crc32fast::hash(text.as_bytes()).cast_signed()
}

fn trouble(blade: &Blade, kind: &str) -> u64 {
    blade.status()["feed"]["troubles"][kind].as_u64().unwrap_or(0)
}

#[test]
fn a_level_with_an_exponent_is_a_level_and_a_bad_one_costs_only_itself() {
    let venue = Venue::new();
    let blade = venue.blade(KRAKEN, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(
        r#"{"channel":"book","type":"snapshot","data":[{"symbol":"ETH/USD","bids":[{"price":0.5,"qty":1.00000000},
        {"price":0.4,"qty":1e-8}],"asks":[{"price":0.6,"qty":2.00000000}],"checksum":1112441159}]}"#,
    );
    let value = subscriber.value("/KRAKEN/ETH~2FUSD/book");
    assert_eq!(value["bids"], json!([["0.5", "1.00000000"], ["0.4", "0.00000001"]]));
    assert_eq!(value.get("incomplete"), None);

    upstream.send(
        r#"{"channel":"book","type":"update","data":[{"symbol":"ETH/USD","bids":[{"price":0.5,"qty":"many"},
        {"price":0.3,"qty":3}],"asks":[],"checksum":7}]}"#,
    );
    let value = subscriber.value("/KRAKEN/ETH~2FUSD/book");
    assert_eq!(value["bids"], json!([["0.4", "0.00000001"], ["0.3", "3"]]));
    assert_eq!(value["incomplete"], true);
    blade.until("what was told", |status| status["feed"]["troubles"]["bad_level"] == 1);
    blade.until_logged("`many` is no level of a book; it is left out");
}

#[test]
fn what_is_not_known_to_be_right_is_marked_for_old_and_new_subscribers() {
    let venue = Venue::new();
    let blade = venue.blade(KRAKEN, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    let snapshot = |upstream: &mut venue::Upstream| {
        let checksum = crc("600102100000600101200000").cast_unsigned();
        upstream.send(&format!(
            r#"{{"channel":"book","type":"snapshot","data":[{{"symbol":"BTC/USD","bids":[{{"price":60010.1,"qty":0.200000}}],
            "asks":[{{"price":60010.2,"qty":0.100000}}],"checksum":{checksum}}}]}}"#
        ));
    };
    snapshot(&mut upstream);
    let subject = "/KRAKEN/BTC~2FUSD/book";
    let whole = subscriber.value(subject);
    let mut marked = whole.clone();
    marked["incomplete"] = true.into();

    upstream.send(
        r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":60010.1,"qty":0}],"asks":[],
        "checksum":7}]}"#,
    );
    assert_eq!(subscriber.value(subject), marked, "at once, with what was known last");
    assert_eq!(Subscriber::new(&blade).value(subject), marked, "to one who comes later");
    snapshot(&mut upstream);
    assert_eq!(subscriber.value(subject), whole);
    assert_eq!(Subscriber::new(&blade).value(subject), whole);

    drop(upstream);
    assert_eq!(subscriber.value(subject), marked, "without a connection nobody knows");
    let mut upstream = venue.accept();
    assert_eq!(Subscriber::new(&blade).value(subject), marked);
    snapshot(&mut upstream);
    assert_eq!(subscriber.value(subject), whole);
}

#[test]
fn okx_books_pings_and_trades() {
    let venue = Venue::new();
    let blade = venue.blade(&OKX.replace("\"20s\"", "\"200ms\""), "silent_ms_max = 0");
    let mut upstream = venue.accept();
    assert_eq!(upstream.path, "/ws/v5/public");
    let request = |op: &str, args: &[(&str, &str)]| {
        let args: Vec<Value> = args.iter().map(|(channel, name)| json!({"channel": channel, "instId": name})).collect();
        json!({"op": op, "args": args})
    };
    upstream.expect(&request(
        "subscribe",
        &[("books", "BTC-USDT"), ("books", "ETH-USDT"), ("trades", "BTC-USDT"), ("trades", "ETH-USDT")],
    ));
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(r#"{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a4d3ae55"}"#);
    for _ in 0..2 {
        assert_eq!(upstream.text(), "ping");
        upstream.send("pong");
    }
    let book = |action: &str, seq: (i64, i64), bids: Value, asks: Value, text: &str| {
        json!({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [{"asks": asks, "bids": bids,
            "ts": "1772366400123", "checksum": crc(text), "prevSeqId": seq.0, "seqId": seq.1}]})
        .to_string()
    };
    let bids = json!([["8476.97", "256", "0", "12"], ["8475.55", "101", "0", "1"]]);
    let text = "8476.97:256:8476.98:415:8475.55:101";
    upstream.send(&book("snapshot", (-1, 10), bids, json!([["8476.98", "415", "0", "13"]]), text));
    let frame = subscriber.frame();
    assert_eq!((&frame["s"], &frame["t"]), (&json!("/OKX/BTC-USDT/book"), &json!("1772366400123000000")));
    assert_eq!(frame["d"]["bids"], json!([["8476.97", "256"], ["8475.55", "101"]]));
    assert_eq!(frame["d"]["checksum"].as_u64(), Some(u64::from(crc(text).cast_unsigned())));
    let gone = json!([["8476.97", "0", "0", "0"]]);
    upstream.send(&book("update", (10, 12), gone, json!([]), "8475.55:101:8476.98:415"));
    assert_eq!(subscriber.value("/OKX/BTC-USDT/book")["bids"], json!([["8475.55", "101"]]));

    // Numbers 13 to 15 are missing.
    upstream.send(&book("update", (15, 17), json!([["8470", "1", "0", "1"]]), json!([]), "?"));
    let value = subscriber.value("/OKX/BTC-USDT/book");
    assert_eq!((&value["bids"][1][0], &value["incomplete"]), (&json!("8470"), &json!(true)));
    let gap = json!({"op": "notice", "kind": "gap", "subject": "/OKX/BTC-USDT/book", "from": 12, "to": 15});
    assert_eq!(subscriber.notice("gap"), gap);
    for op in ["unsubscribe", "subscribe"] {
        let mut text = upstream.text();
        while text == "ping" {
            text = upstream.text();
        }
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), request(op, &[("books", "BTC-USDT")]));
    }
    upstream.send(&book("snapshot", (-1, 30), json!([["8476", "1", "0", "1"]]), json!([]), "8476:1"));
    assert_eq!(subscriber.value("/OKX/BTC-USDT/book").get("incomplete"), None);

    upstream.send(
        r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474","px":"42219.9",
        "sz":"0.12060306","side":"buy","ts":"1772366400124","count":"3"}]}"#,
    );
    assert_eq!(subscriber.value("/OKX/BTC-USDT/trade")["tradeId"], "130639474");
    upstream.send(r#"{"event":"error","code":"60012","msg":"Invalid request","connId":"a4d3ae55"}"#);
    let status = blade.until("the refusal", |status| status["feed"]["troubles"]["refused"] == 1);
    assert_eq!(status["feed"]["malformed"], 0, "the answers to our pings: {status:#}");
    // The answer to the subscription matches no rule.
    blade.until_metric("fanblade_feed_unmatched_total", 1.0);
}

/// A server that answers each GET as the test says, and reports the requested paths.
struct Rest {
    address: SocketAddr,
    paths: mpsc::Receiver<String>,
    answers: mpsc::Sender<String>,
}

impl Rest {
    fn new() -> Rest {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (paths_in, paths) = mpsc::channel();
        let (answers, answers_out) = mpsc::channel::<String>();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let _ = paths_in.send(head[0].split(' ').nth(1).unwrap_or_default().to_owned());
                let Ok(answer) = answers_out.recv() else { return };
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Rest { address, paths, answers }
    }

    /// The next requested path.
    fn path(&self) -> String {
        self.paths.recv_timeout(PATIENCE).unwrap()
    }

    fn answer(&self, status: &str, body: &str) {
        let len = body.len();
        self.answers.send(format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n{body}")).unwrap();
    }
}

#[test]
fn binance_books_are_fetched_and_followed() {
    let venue = Venue::new();
    let rest = Rest::new();
    let config = BINANCE.replace("https://data-api.binance.vision", &format!("http://{}", rest.address));
    let blade = venue.blade(&config, "");
    let mut upstream = venue.accept();
    upstream.expect(&json!({"method": "SUBSCRIBE", "id": 1, "params": ["btcusdt@depth@100ms", "ethusdt@depth@100ms"]}));
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(r#"{"result":null,"id":1}"#);
    let diff = |first: u64, last: u64, bids: Value| {
        json!({"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "E": 1_772_366_400_123_u64, "s": "BTCUSDT",
            "U": first, "u": last, "b": bids, "a": []}})
        .to_string()
    };
    upstream.send(&diff(157, 160, json!([["0.0024", "10"]])));
    assert_eq!(rest.path(), "/api/v3/depth?symbol=BTCUSDT&limit=1000");
    // Meanwhile the stream goes on, and the snapshot is older than all of it.
    upstream.send(&diff(161, 165, json!([["0.0023", "7"]])));
    rest.answer("200 OK", r#"{"lastUpdateId":150,"bids":[["0.0024","1"]],"asks":[["0.0026","100"]]}"#);
    blade.until("that it is too old", |status| status["feed"]["troubles"]["book_snapshot"] == 1);
    blade.until_logged("the snapshot at 150 is older than the first change, 157");
    // The blade asks for another one with the next change after a second.
    let began = Instant::now();
    let mut number = 166;
    let path = loop {
        upstream.send(&diff(number, number, json!([["0.0022", number.to_string()]])));
        number += 1;
        match rest.paths.recv_timeout(std::time::Duration::from_millis(200)) {
            Ok(path) => break path,
            Err(_) => assert!(began.elapsed() < PATIENCE),
        }
    };
    assert_eq!(path, "/api/v3/depth?symbol=BTCUSDT&limit=1000");
    rest.answer("200 OK", r#"{"lastUpdateId":158,"bids":[["0.0024","1"],["0.0021","5"]],"asks":[["0.0026","100"]]}"#);
    let value = subscriber.value("/BINANCE/BTCUSDT/book");
    let newest = (number - 1).to_string();
    assert_eq!(value["bids"], json!([["0.0024", "10"], ["0.0023", "7"], ["0.0022", newest], ["0.0021", "5"]]));
    assert_eq!((&value["asks"], value.get("incomplete")), (&json!([["0.0026", "100"]]), None));
    upstream.send(&diff(number, number + 3, json!([["0.0024", "0"]])));
    let frame = subscriber.frame();
    assert_eq!((&frame["d"]["bids"][0], &frame["t"]), (&json!(["0.0023", "7"]), &json!("1772366400123000000")));
    upstream.send(&diff(number, number + 3, json!([["0.0001", "1"]])));

    // Three numbers are missing.
    let first = number + 7;
    upstream.send(&diff(first, first, json!([["0.0020", "1"]])));
    let value = subscriber.value("/BINANCE/BTCUSDT/book");
    assert_eq!((&value["bids"][0], &value["incomplete"]), (&json!(["0.0023", "7"]), &json!(true)));
    let notice = subscriber.notice("gap");
    assert_eq!((&notice["from"], &notice["to"]), (&json!(number + 3), &json!(first - 1)));
    let began = Instant::now();
    let mut next = first + 1;
    while rest.paths.recv_timeout(std::time::Duration::from_millis(200)).is_err() {
        upstream.send(&diff(next, next, json!([])));
        next += 1;
        assert!(began.elapsed() < PATIENCE);
    }
    rest.answer("200 OK", &format!(r#"{{"lastUpdateId":{first},"bids":[["0.0020","1"]],"asks":[]}}"#));
    let value = subscriber.value("/BINANCE/BTCUSDT/book");
    assert_eq!(value, json!({"bids": [["0.0020", "1"]], "asks": []}));
    blade.until("the change that the snapshot has", |status| status["feed"]["duplicates"] == 1);
}

#[test]
fn a_book_that_cannot_be_fetched_is_told_in_words() {
    let venue = Venue::new();
    let rest = Rest::new();
    let config = BINANCE.replace("https://data-api.binance.vision", &format!("http://{}", rest.address));
    let blade = venue.blade(&config, "");
    let mut upstream = venue.accept();
    let mut number = 1;
    let mut ask_until = |done: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !done() {
            upstream.send(&format!(
                r#"{{"data":{{"e":"depthUpdate","E":1,"s":"A/B&c","U":{number},"u":{number},"b":[],"a":[]}}}}"#
            ));
            number += 1;
            assert!(began.elapsed() < PATIENCE, "{}", blade.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    rest.answer("400 Bad Request", r#"{"code":-1121,"msg":"Invalid symbol."}"#);
    rest.answer("200 OK", "[]");
    rest.answer("429 Too Many Requests", "slowly");
    ask_until(&|| trouble(&blade, "book_snapshot") == 3);
    assert_eq!(rest.path(), "/api/v3/depth?symbol=A%2FB%26c&limit=1000", "a name cannot be more than a value");
    blade.until_logged("HTTP 400 Bad Request: {\"code\":-1121");
    blade.until("not the present", |status| status["feed"]["state"] == "catching_up");
}

#[test]
fn a_book_is_fetched_over_tls_from_one_who_is_trusted() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let server = rustls::ServerConfig::builder().with_no_client_auth();
    let server = Arc::new(server.with_single_cert(vec![certified.cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust the server sends nothing.
            if stream.read(&mut [0; 4_096]).is_ok_and(|len| len > 0) {
                let body = r#"{"lastUpdateId":9,"bids":[["1","2"]],"asks":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + body).as_bytes());
            }
        }
    });
    let config = BINANCE.replace("https://data-api.binance.vision", &format!("https://localhost:{port}"));
    let diff = r#"{"data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":8,"u":10,"b":[["1","3"]],"a":[]}}"#;

    let venue = Venue::new();
    let blade = venue.blade(&config, "");
    let mut upstream = venue.accept();
    upstream.send(diff);
    blade.until_logged("TLS: invalid peer certificate: UnknownIssuer");
    drop((upstream, blade));

    let venue = Venue::new();
    let file = venue.file("ca.pem", &certified.cert.pem());
    let blade = venue.blade(&config, &format!("ca_file = \"{}\"", file.display()));
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(diff);
    assert_eq!(subscriber.value("/BINANCE/BTCUSDT/book"), json!({"bids": [["1", "3"]], "asks": []}));
}

#[test]
fn bitfinex_channels_are_what_was_announced() {
    let venue = Venue::new();
    let blade = venue.blade(BITFINEX, "");
    let mut upstream = venue.accept();
    assert_eq!(upstream.path, "/ws/2");
    upstream.expect(&json!({"event": "conf", "flags": 131_072}));
    upstream.text();
    upstream.text();
    let mut subscriber = Subscriber::new(&blade);
    for message in [
        r#"{"event":"info","version":2,"serverId":"a","platform":{"status":1}}"#,
        "[17082,[[7254.7,3,3.3]]]",
        r#"{"event":"subscribed","channel":"book","chanId":17082,"symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"25","pair":"BTCUSD"}"#,
        r#"{"event":"subscribed","channel":"ticker","chanId":224555,"symbol":"tBTCUSD","pair":"BTCUSD"}"#,
        "[17082,[[7254.7,3,3.3],[7254.8,1,-1e-7]]]",
    ] {
        upstream.send(message);
    }
    let value = subscriber.value("/BITFINEX/tBTCUSD/book");
    assert_eq!(value, json!({"bids": [["7254.7", "3.3"]], "asks": [["7254.8", "0.0000001"]]}));
    upstream.send(r#"[224555,"hb"]"#);
    upstream.send("[224555,[7616.5,31.89,7617.5,43.35,-550.8,-0.0674,7617.1,8314.71,8257.8,7500]]");
    assert_eq!(subscriber.value("/BITFINEX/tBTCUSD/ticker")[0], 7616.5);
    upstream.send(&format!(r#"[17082,"cs",{}]"#, crc("7254.7:3.3:7254.8:-1e-7")));
    assert!(subscriber.value("/BITFINEX/tBTCUSD/book")["checksum"].is_u64());
    upstream.send("[17082,[7254.6,1,0.5]]");
    assert_eq!(subscriber.value("/BITFINEX/tBTCUSD/book")["bids"][1], json!(["7254.6", "0.5"]));
    upstream.send(r#"[17082,"cs",1]"#);
    assert_eq!(subscriber.value("/BITFINEX/tBTCUSD/book")["incomplete"], true);
    upstream.wait_for_end();
    // An info message, a message of a channel that was not yet announced, and a heartbeat.
    blade.until_metric("fanblade_feed_unmatched_total", 3.0);

    // Channel numbers are valid for one connection only.
    let mut upstream = venue.accept();
    upstream.send("[17082,[[1,1,1]]]");
    upstream.send(r#"{"event":"subscribed","channel":"book","chanId":17082,"symbol":"tETHUSD"}"#);
    upstream.send("[17082,[[2,1,1]]]");
    assert_eq!(subscriber.value("/BITFINEX/tETHUSD/book")["bids"], json!([["2", "1"]]));
    blade.until("what was told", |status| status["feed"]["troubles"]["checksum"] == 1);
}

#[test]
fn gemini_books_begin_with_the_connection() {
    let venue = Venue::new();
    let blade = venue.blade(GEMINI, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    let changes = |upstream: &mut venue::Upstream, changes: &str| {
        upstream.send(&format!(r#"{{"type":"l2_updates","symbol":"BTCUSD","changes":{changes}}}"#));
    };
    changes(&mut upstream, r#"[["buy","9122.04","0.00121425"],["sell","9122.07","0.98942292"]]"#);
    let whole = json!({"bids": [["9122.04", "0.00121425"]], "asks": [["9122.07", "0.98942292"]]});
    assert_eq!(subscriber.value("/GEMINI/BTCUSD/book"), whole);
    changes(&mut upstream, r#"[["buy","9122.04","0"]]"#);
    assert_eq!(subscriber.value("/GEMINI/BTCUSD/book")["bids"], json!([]));
    drop(upstream);
    assert_eq!(subscriber.value("/GEMINI/BTCUSD/book")["incomplete"], true);
    let mut upstream = venue.accept();
    changes(&mut upstream, r#"[["buy","1","1"]]"#);
    assert_eq!(
        subscriber.value("/GEMINI/BTCUSD/book"),
        json!({"bids": [["1", "1"]], "asks": []}),
        "nothing of the former"
    );
}

/// Kraken v1 has the channel's name, with the depth in it, and the pair at the end of an array.
const KRAKEN_V1: &str = r#"
[feed]
source = "websocket"
[feed.websocket]
url = "wss://ws.kraken.com"
[[feed.websocket.map]]
match = { "/-2" = "book*" }
subject = "/KRAKEN/{/-1}/book"
book = "kraken_v1"
on_gap = "resubscribe"
resubscribe = ['{"event":"subscribe","pair":["{/-1}"],"subscription":{"name":"book","depth":10}}']
"#;

#[test]
fn kraken_v1_has_names_at_the_end_and_prefixes() {
    let venue = Venue::new();
    let blade = venue.blade(KRAKEN_V1, "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(r#"{"channelID":0,"channelName":"book-10","event":"subscriptionStatus","pair":"XBT/USD"}"#);
    upstream
        .send(r#"[0,{"as":[["5541.3","2.50700000","1.5"]],"bs":[["5541.2","1.52900000","1.5"]]},"book-10","XBT/USD"]"#);
    let subject = "/KRAKEN/XBT~2FUSD/book";
    assert_eq!(subscriber.value(subject)["asks"], json!([["5541.3", "2.50700000"]]));
    let checksum = crc("55414300000000554121529000005540100000000").cast_unsigned();
    upstream.send(&format!(
        r#"[0,{{"a":[["5541.3","0.00000000","1.6"],["5541.4","3.00000000","1.6"]]}},
        {{"b":[["5540","1.00000000","1.6"]],"c":"{checksum}"}},"book-10","XBT/USD"]"#
    ));
    let value = subscriber.value(subject);
    assert_eq!((&value["bids"][1][0], &value["checksum"]), (&json!("5540"), &json!(checksum)));
    upstream.send(r#"[0,{"b":[["5539","1","1.7"]],"c":"7"},"book-10","XBT/USD"]"#);
    assert_eq!(subscriber.value(subject)["incomplete"], true);
    let again = json!({"event": "subscribe", "pair": ["XBT/USD"], "subscription": {"name": "book", "depth": 10}});
    upstream.expect(&again);
}
