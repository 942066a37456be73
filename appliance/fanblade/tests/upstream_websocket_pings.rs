//! Texts that a venue expects so that it does not close, messages that carry no data, and rules that publish nothing.

mod common;
#[path = "common/venue.rs"]
mod venue;

use std::time::{Duration, Instant};

use fanblade_testkit::PATIENCE;
use serde_json::{Value, json};
use venue::{Subscriber, Venue};

const PLAIN: &str = r#"
[feed]
source = "websocket"
[feed.websocket]
url = "ws://here/feed"
silent_ms_max = 600
KEYS
[[feed.websocket.map]]
match = { "/n" = "*" }
subject = "/V/{/s}/value"
[[feed.websocket.map]]
match = { "/channel" = "bok" }
subject = "/V/{/s}/book"
"#;

fn config(keys: &str) -> String {
    PLAIN.replace("KEYS", keys)
}

#[test]
fn texts_are_sent_every_so_often_and_their_answers_are_signs_of_life() {
    let keys = r#"
[[feed.websocket.send]]
text = '{"id":"{unix_ms}","type":"ping","n":{count}}'
every_ms = "200ms"
reply = [{ "/type" = "pong" }, { "/op" = "pong" }]
[[feed.websocket.send]]
text = "ping"
every_ms = "300ms"
reply = "pong"
"#;
    let venue = Venue::new();
    let blade = venue.blade(&config(keys), "");
    let mut upstream = venue.accept();
    let mut subscriber = Subscriber::new(&blade);
    upstream.send(r#"{"s":"a","n":1}"#);
    subscriber.value("/V/a/value");
    let (mut texts, mut pings) = (0, 0);
    let began = Instant::now();
    while texts < 3 || pings < 3 {
        let text = upstream.text();
        if text == "ping" {
            pings += 1;
            upstream.send("pong");
            continue;
        }
        texts += 1;
        let text: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&text["type"], &text["n"]), (&json!("ping"), &json!(texts)));
        let ms: u64 = text["id"].as_str().unwrap().parse().unwrap();
        assert!(ms > 1_700_000_000_000, "{ms}");
        upstream.send(&json!({"id": text["id"], "type": "pong"}).to_string());
        assert!(began.elapsed() < PATIENCE);
    }
    // Such replies show that the venue is alive, but they do not end the silence.
    let reader = std::thread::spawn(move || {
        while let Some(text) = upstream.text_or_end() {
            let _ = upstream.try_send(if text == "ping" { "pong" } else { r#"{"op":"pong"}"# });
        }
    });
    subscriber.notice("stale");
    let status = blade.status();
    assert_eq!((&status["feed"]["malformed"], &status["feed"]["troubles"]["disconnected"]), (&json!(0), &Value::Null));
    assert_eq!(blade.metric("fanblade_feed_unmatched_total"), 0.0);
    drop(blade);
    reader.join().unwrap();
}

#[test]
fn a_venue_that_never_pauses_is_pinged_all_the_same() {
    let keys = "[[feed.websocket.send]]\ntext = \"ping\"\nevery_ms = \"100ms\"\n";
    let venue = Venue::new();
    let blade = venue.blade(&config(keys), "");
    let mut upstream = venue.accept();
    let stream = upstream.stream().try_clone().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let began = Instant::now();
    let mut pings = 0;
    while pings < 3 {
        for n in 0..500 {
            upstream.send(&format!(r#"{{"s":"a","n":{n}}}"#));
        }
        pings += upstream.texts_at_hand().iter().filter(|text| *text == "ping").count();
        assert!(began.elapsed() < PATIENCE, "{pings} pings");
    }
    assert!(blade.status()["ready"] == true);
}

#[test]
fn a_venue_s_own_pings_are_answered_in_its_words() {
    let keys = r#"
[[feed.websocket.answer]]
match = { "/ping" = "*" }
text = '{"pong":{/ping}}'
[[feed.websocket.answer]]
match = { "/method" = "public/heartbeat" }
text = '{"id":{/id},"method":"public/respond-heartbeat"}'
"#;
    let venue = Venue::new();
    let blade = venue.blade(&config(keys), "");
    let mut upstream = venue.accept();
    upstream.send(r#"{"ping":18446744073709551617}"#);
    assert_eq!(upstream.text(), r#"{"pong":18446744073709551617}"#, "digit for digit");
    upstream.send(r#"{"id":7,"method":"public/heartbeat","code":0}"#);
    assert_eq!(upstream.text(), r#"{"id":7,"method":"public/respond-heartbeat"}"#);
    upstream.send(r#"{"method":"public/heartbeat"}"#);
    blade.until_logged("there is no /id");
    blade.until("what could not be answered", |status| status["feed"]["malformed"] == 1);
    assert_eq!(blade.metric("fanblade_feed_unmatched_total"), 0.0);
}

#[test]
fn a_rule_that_publishes_nothing_is_told() {
    let venue = Venue::new();
    let blade = venue.blade(&config("rule_silent_ms_max = 400"), "");
    let mut upstream = venue.accept();
    let began = Instant::now();
    while blade.status()["feed"]["troubles"]["rule_silent"].is_null() {
        upstream.send(r#"{"s":"a","n":1}"#);
        upstream.send(r#"{"s":"a","channel":"book"}"#);
        std::thread::sleep(Duration::from_millis(20));
        assert!(began.elapsed() < PATIENCE);
    }
    let words =
        "rule 2, /V/{/s}/book, has published nothing for 0.4 s, and nothing on this connection: does its `match` fit?";
    blade.until_logged(words);
}
