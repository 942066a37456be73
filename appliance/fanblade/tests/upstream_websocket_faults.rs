//! What can go wrong with a venue: connections that break or are never made, invalid messages, silence. Each fault is
//! logged in one line, counted, and over when the venue is well again.

mod common;
#[path = "common/venue.rs"]
mod venue;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use fanblade_testkit::Blade;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use venue::{Subscriber, Upstream, Venue};

const PLAIN: &str = r#"
[feed]
source = "websocket"
[feed.websocket]
url = "ws://here/feed"
subscribe = ['{"op":"subscribe"}']
[[feed.websocket.map]]
match = { "/n" = "*" }
subject = "/V/{/s}/value"
"#;

fn value(symbol: &str, number: u64) -> String {
    format!(r#"{{"s":"{symbol}","n":{number}}}"#)
}

/// The blade's next connection, once it has subscribed.
fn subscribed(venue: &Venue) -> Upstream {
    let mut upstream = venue.accept();
    upstream.expect(&json!({"op": "subscribe"}));
    upstream
}

fn disconnections(status: &Value) -> u64 {
    status["feed"]["troubles"]["disconnected"].as_u64().unwrap_or(0)
}

#[test]
fn a_connection_that_breaks_is_made_anew_and_everybody_is_told() {
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "");
    let mut upstream = subscribed(&venue);
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(&value("a", 1));
    upstream.send(&value("a", 2));
    assert_eq!([(); 2].map(|()| subscriber.frame()["q"].take()), [1, 2].map(Value::from));
    let epoch = blade.until("live", |status| status["feed"]["state"] == "live")["epoch"].clone();

    upstream.close(1001, "going for lunch");
    assert_eq!(subscriber.notice("stale")["source"], "websocket");
    let mut upstream = subscribed(&venue);
    blade.until_logged("/feed: the server has closed with 1001: going for lunch; again in ");
    let status = blade.until("stale", |status| status["feed"]["state"] == "stale");
    assert_eq!(status["ready"], true, "the last values are served");
    upstream.send(&value("a", 3));
    // What was lost in between is unknown, so a new numbering begins. (The subscriber may have got the first epoch's
    // notice, too, if it was there before.)
    while subscriber.notice("epoch")["epoch"] == epoch {}
    let frame = subscriber.frame();
    assert_eq!((&frame["q"], &frame["p"], &frame["d"]["n"]), (&json!(1), &json!(0), &json!(3)));
    subscriber.notice("live");

    // The connection breaks without a close.
    drop(upstream);
    subscriber.notice("stale");
    let mut upstream = subscribed(&venue);
    upstream.send(&value("a", 4));
    subscriber.notice("live");
    let status = blade.until("two breaks", |status| disconnections(status) == 2);
    assert_eq!(status["feed"]["gaps"], 0, "a break is no gap of a known length, but a new epoch");
    let wait = Duration::from_millis(100);
    assert!(blade.log().lines().filter_map(announced_wait).all(|announced| announced <= wait), "{}", blade.log());
}

fn announced_wait(line: &str) -> Option<Duration> {
    let ms = line.split_once("; again in ")?.1.strip_suffix(" ms")?.parse().ok()?;
    Some(Duration::from_millis(ms))
}

#[test]
fn no_message_ends_anything_but_itself() {
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "message_len_max = 65536");
    let mut upstream = subscribed(&venue);
    let mut subscriber = Subscriber::new(&blade);
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let wrong = [
        "",
        "{",
        "nonsense",
        r#"{"n":1}"#,
        r#"{"n":1,"s":null}"#,
        r#"{"n":1,"s":{}}"#,
        r#"{"n":1,"s":""}"#,
        "{\"n\":1,\"s\":\"\u{0}\"}",
        r#"{"n":1,"s":"\ud800"}"#,
        r#"{"n":1,"s":"a"}{"n":2,"s":"a"}"#,
        r#"{"n":1,"s":"a",}"#,
        &deep,
    ];
    for message in wrong {
        upstream.send(message);
    }
    upstream.send_message(Message::binary(vec![0xff; 100]));
    for unmatched in ["[]", "7", "null", "\"n\"", r#"{"n":null,"s":"a"}"#, r#"{"N":1}"#] {
        upstream.send(unmatched);
    }
    upstream.send_message(Message::binary(value("binary", 1)));
    upstream.send(&value("text", 2));
    assert_eq!(subscriber.value("/V/binary/value")["n"], 1, "text in a binary frame is text");
    assert_eq!(subscriber.value("/V/text/value")["n"], 2);
    let malformed = wrong.len() as u64 + 1;
    let status = blade.until("all faults", |status| status["feed"]["malformed"] == malformed);
    assert_eq!(status["feed"]["troubles"]["malformed"], malformed);
    blade.until_metric("fanblade_feed_unmatched_total", 6.0);
    blade.until_logged("not JSON: EOF while parsing");

    // Longer than the blade's limit, so it cannot find where the next message begins.
    let _ = upstream.try_send(&value(&"x".repeat(70_000), 3));
    upstream.wait_for_end();
    blade.until("the end of the connection", |status| disconnections(status) == 1);
    blade.until_logged("`message_len_max` is 65536");
    subscribed(&venue).send(&value("text", 4));
    assert_eq!(subscriber.value("/V/text/value")["n"], 4);
}

#[test]
fn what_prevents_a_connection_is_told_in_words() {
    let venue = Venue::new();
    let told = |blade: &Blade, words: &str| {
        blade.until(words, |status| disconnections(status) > 0);
        blade.until_logged(words);
        assert_eq!(blade.status()["ready"], false);
    };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let args = ["--workers", "1"];
    let blade = venue.blade_at(&format!("ws://{closed}/feed?key=secret"), PLAIN, "", &args);
    told(&blade, &format!("ws://{closed}/feed: {closed}: Connection refused (os error 111); again in "));
    assert!(!blade.log().contains("secret"), "{}", blade.log());

    let blade = venue.blade_at("ws://no-such-host.invalid/", PLAIN, "connect_ms_max = 3000", &args);
    let words = match blade.until("no name", |status| disconnections(status) > 0) {
        // Name servers that do not answer at all.
        _ if blade.log().contains("name servers") => "no answer from name servers within 3000 ms",
        _ => "`no-such-host.invalid` cannot be resolved: ",
    };
    told(&blade, words);

    // A server that accepts the connection and says nothing.
    let blade = venue.blade(PLAIN, "connect_ms_max = 200");
    let silent = venue.accept_tcp();
    told(&blade, "connected, but no answer to the opening handshake within 200 ms");
    drop((silent, blade));

    // A new venue each time, since a blade that has ended may have left a connection request behind.
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "");
    let mut stream = venue.accept_tcp();
    let _ = stream.read(&mut [0; 4_096]).unwrap();
    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\nnot from here").unwrap();
    told(&blade, "no WebSocket, but HTTP 403 Forbidden: not from here");
    drop(blade);

    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "");
    let mut stream = venue.accept_tcp();
    let _ = stream.read(&mut [0; 4_096]).unwrap();
    stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").unwrap();
    told(&blade, "the answer is not HTTP: invalid HTTP version");
    drop(blade);

    let venue = Venue::new();
    let blade = venue.blade_at(&format!("wss://{}/", venue.address()), PLAIN, "", &args);
    let mut stream = venue.accept_tcp();
    let _ = stream.read(&mut [0; 4_096]).unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    told(&blade, "TLS: received corrupt message of type InvalidContentType; does the server speak TLS at this port?");
}

#[test]
fn tls_is_verified_against_issuers_that_are_trusted() {
    let venue = Venue::new();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let server = Arc::new(server);
    let accept_tls = |venue: &Venue| {
        let connection = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
        rustls::StreamOwned::new(connection, venue.accept_tcp())
    };
    let url = |venue: &Venue| format!("wss://localhost:{}/feed", venue.address().port());
    let args = ["--workers", "1"];

    let blade = venue.blade_at(&url(&venue), PLAIN, "", &args);
    // The client goes away in the middle of the handshake.
    assert!(accept_tls(&venue).read(&mut [0; 1]).is_err());
    let words = "TLS: invalid peer certificate: UnknownIssuer; `ca_file` names the certificates of issuers of your own";
    blade.until(words, |status| disconnections(status) > 0);
    blade.until_logged(words);
    drop(blade);

    let venue = Venue::new();
    let ca_file = venue.file("ca.pem", &certified.cert.pem());
    let blade = venue.blade_at(&url(&venue), PLAIN, &format!("ca_file = \"{}\"", ca_file.display()), &args);
    let mut upstream = Upstream::accept(accept_tls(&venue));
    upstream.expect(&json!({"op": "subscribe"}));
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(&value("a", 1));
    assert_eq!(subscriber.value("/V/a/value")["n"], 1);
    drop(blade);

    let empty = venue.file("empty.pem", "");
    let config = PLAIN
        .replace("ws://here/feed", &url(&venue))
        .replace("subscribe =", &format!("ca_file = \"{}\"\nsubscribe =", empty.display()));
    let config = venue.file("config.toml", &config);
    let (code, _, stderr) = common::fanblade(&["run", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(stderr.contains("empty.pem: there is none"), "{stderr}");
}

#[test]
fn silence_is_told_and_a_dead_connection_given_up() {
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "silent_ms_max = 200\nidle_ms_max = 4000\nping_interval_ms = 100");
    let mut upstream = subscribed(&venue);
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(&value("a", 1));
    subscriber.frame();
    // The venue answers pings, but sends no messages. (Reading answers the pings.)
    let reader = std::thread::spawn(move || {
        let text = upstream.text_or_end();
        (upstream, text)
    });
    subscriber.notice("stale");
    blade.until("stale", |status| status["feed"]["state"] == "stale");
    blade.until_logged("stale: upstream is silent");
    // A pong for each ping, for longer than a dead connection is kept.
    let status = blade.until("pongs", |status| {
        assert_eq!(disconnections(status), 0, "{}", blade.log());
        status["feed"]["lines"][0]["packets"].as_u64() > Some(2 * 4_000 / 100)
    });
    assert_eq!(status["feed"]["state"], "stale", "pongs are no news: {status:#}");
    drop(blade);
    let (_, text) = reader.join().unwrap();
    assert_eq!(text, None, "nothing but pings until the end");

    // A message that no rule maps ends the silence as well.
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "silent_ms_max = 200");
    let mut upstream = subscribed(&venue);
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(&value("a", 1));
    subscriber.notice("stale");
    upstream.send(r#"{"heartbeat":1}"#);
    subscriber.notice("live");

    // The venue does not even read.
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, "idle_ms_max = 300\nping_interval_ms = 100");
    let upstream = subscribed(&venue);
    blade.until("given up", |status| disconnections(status) > 0);
    blade.until_logged("nothing has come for 300 ms; again in ");
    drop(upstream);
    subscribed(&venue);
}

#[test]
fn the_venue_s_numbering_goes_on_over_connections_and_blades() {
    let keys = "seq = \"/n\"\nsequence = \"/n\"\nepoch = \"main\"\non_gap = \"reconnect\"";
    let venue = Venue::new();
    let blade = venue.blade(PLAIN, keys);
    let mut upstream = subscribed(&venue);
    upstream.send(&value("a", 41));
    blade.until("the epoch", |status| status["epoch"] == "main" && status["ring"]["published"] == 1);
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(&value("b", 42));
    assert_eq!([(); 2].map(|()| subscriber.frame()["q"].take()), [41, 42].map(Value::from));
    upstream.close(1000, "");

    let mut upstream = subscribed(&venue);
    upstream.send(&value("a", 42));
    upstream.send(&value("a", 43));
    let frame = subscriber.frame();
    assert_eq!((&frame["q"], &frame["p"]), (&json!(43), &json!(41)), "42 has been there");
    upstream.send(&value("a", 46));
    assert_eq!(subscriber.frame()["q"], 46);
    let notice = subscriber.notice("gap");
    assert_eq!((&notice["from"], &notice["to"]), (&json!(43), &json!(45)));
    // The blade reconnects, as configured.
    upstream.wait_for_end();
    let mut upstream = subscribed(&venue);
    blade.until("it was given up", |status| disconnections(status) == 2);
    upstream.send(&value("a", 47));
    assert_eq!(subscriber.frame()["p"], 46);
    let status = blade.until("what was missing", |status| status["feed"]["gap_messages"] == 2);
    assert_eq!((&status["epoch"], &status["feed"]["duplicates"]), (&json!("main"), &json!(1)));

    // A blade that starts now has the same numbering, but does not claim to have earlier values.
    let venue = Venue::new();
    let late = venue.blade(PLAIN, keys);
    let mut upstream = subscribed(&venue);
    upstream.send(&value("a", 47));
    late.until("the epoch", |status| status["epoch"] == "main" && status["ring"]["published"] == 1);
    let mut socket = tokio_tungstenite::tungstenite::connect(format!("ws://{}/v1/stream", late.data)).unwrap().0;
    socket
        .send(Message::text(
            r#"{"op":"subscribe","subjects":["/V/a/value"],"mode":"all","resume":{"epoch":"main","seq":43}}"#,
        ))
        .unwrap();
    let reply: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    assert_eq!((&reply["epoch"], &reply["subjects"][0]["recovered"]), (&json!("main"), &json!(false)), "{reply}");
}

#[test]
fn a_full_queue_is_felt_by_the_venue_and_nothing_is_lost() {
    let venue = Venue::new();
    // The sequencer begins when somebody has subscribed. Until then all messages wait.
    let blade =
        venue.blade_with(PLAIN, "idle_ms_max = 3000\nsilent_ms_max = 0", &["--workers", "1", "--wait-for", "1"]);
    let mut upstream = subscribed(&venue);
    upstream.stream().set_write_timeout(Some(Duration::from_secs(4))).unwrap();
    let padding = "x".repeat(4_000);
    let mut sent = 0;
    // The queue holds 8 MiB, the sockets some more.
    while sent < 20_000 && upstream.try_send(&format!(r#"{{"s":"a","n":{sent},"padding":"{padding}"}}"#)).is_ok() {
        sent += 1;
    }
    assert!((2_000..20_000).contains(&sent), "{sent} messages of 4 kB were taken before the blade stopped reading");
    assert_eq!(disconnections(&blade.status()), 0, "a pause of ours is no silence of the venue's");
    let mut subscriber = Subscriber::new(&blade);
    upstream.stream().set_write_timeout(None).unwrap();
    let flusher = std::thread::spawn(move || {
        while upstream.flush().is_err() {}
        upstream.send(&value("end", 0));
        upstream
    });
    let mut numbers = 0;
    loop {
        let frame = subscriber.frame();
        if frame["s"] == "/V/end/value" {
            break;
        }
        assert_eq!(frame["d"]["n"], numbers);
        numbers += 1;
    }
    assert!(numbers >= sent, "{numbers} of {sent}");
    drop(flusher.join().unwrap());
}

#[test]
fn a_feed_that_is_not_configured_says_where_to_look() {
    let (code, _, stderr) = common::fanblade(&["run", "--feed", "websocket"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("docs/UPSTREAM.md"), "{stderr}");
}
