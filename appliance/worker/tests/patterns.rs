//! Patterns by the hundred: what they select, and what the others notice of them.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Client, ENGINES, PATIENCE, Received, now_us};
use fanblade_ring::subject::matches;
use fanblade_wire::frame::Opcode;
use serde_json::json;

/// Numbers by chance, the same each time (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }

    fn of(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.below(choices.len())]
    }

    /// A subject, a pattern, or either.
    fn filter(&mut self, stars: bool) -> String {
        let choices = if stars { &["a", "b", "c", "*", "*"][..] } else { &["a", "b", "c"] };
        let mut text = String::new();
        for _ in 0..2 + self.below(3) {
            text = format!("{text}/{}", self.of(choices));
        }
        if stars && self.below(4) == 0 { format!("{text}/**") } else { text }
    }
}

#[test]
fn sessions_with_patterns_get_what_these_select_whatever_comes_and_goes() {
    // In passes that do next to nothing, too.
    for (engine, pass_steps_max) in ENGINES.into_iter().zip([40_000, 40, 40, 40_000]) {
        let mut config = BladeConfig::default();
        config.limits.pass_steps_max = pass_steps_max;
        // However slow the machine is, nobody is pinged.
        config.limits.ping_interval_ms = 600_000;
        config.limits.requests_per_s_max = 10_000;
        let mut blade = Blade::start_with(engine, config);
        let mut chance = Chance(0x5EED);
        let mut sessions: Vec<(Client, BTreeSet<String>)> =
            (0..12).map(|_| (blade.client(), BTreeSet::new())).collect();
        for _ in 0..40 {
            for (client, held) in &mut sessions {
                let gone: Vec<String> = held.iter().filter(|_| chance.below(3) == 0).cloned().collect();
                let fresh: BTreeSet<String> = (0..1 + chance.below(6)).map(|_| chance.filter(true)).collect();
                if !gone.is_empty() {
                    client.send(&json!({"op": "unsubscribe", "subjects": gone}).to_string());
                    assert_eq!(client.message()["op"], "unsubscribed", "{engine}");
                    held.retain(|filter| !gone.contains(filter));
                }
                client
                    .send(&json!({"op": "subscribe", "subjects": fresh, "mode": "all", "snapshot": false}).to_string());
                loop {
                    let reply = client.message();
                    assert_eq!(reply["op"], "subscribed", "{engine}: {reply}");
                    if reply["more"] != true {
                        break;
                    }
                }
                held.extend(fresh);
            }
            // Some of them are new.
            let published: Vec<(String, u64)> = (0..10)
                .map(|_| {
                    let subject = chance.filter(false);
                    let seq = blade.publish(&subject, "1");
                    (subject, seq)
                })
                .collect();
            for (client, held) in &mut sessions {
                for (subject, seq) in &published {
                    if held.iter().any(|filter| matches(filter, subject)) {
                        let frame = client.message();
                        assert_eq!(
                            (frame["s"].as_str(), frame["q"].as_u64()),
                            (Some(&**subject), Some(*seq)),
                            "{engine}"
                        );
                    }
                }
            }
        }
        // And nothing else.
        for (client, _) in &mut sessions {
            client.send(r#"{"op":"ping"}"#);
            assert_eq!(client.message()["op"], "pong", "{engine}");
        }
        assert_eq!(blade.stat("requests_waited") > 0, pass_steps_max == 40, "{engine}");
        drop(sessions);
        blade.wait_stat("sessions", |n| n == 0);
        blade.wait_stat("groups", |n| n == 0);
    }
}

/// Makes, holds and lets go of very many patterns for a while, at the permitted rate; how many requests were answered.
fn toggle(address: SocketAddr, stop: &AtomicBool, number: usize) -> u64 {
    let mut client = Client::connect(address, "/v1/stream", None);
    let mut answered = 0;
    for round in 0_u64.. {
        // Other ones each time, which nobody has matched yet.
        let subjects: Vec<String> = (0..900).map(|n| format!("/X/*/{}", round * 900 + n + number as u64)).collect();
        for op in ["subscribe", "unsubscribe"] {
            client.send(&json!({"op": op, "subjects": subjects}).to_string());
            loop {
                match client.receive_within(PATIENCE) {
                    Some(Received::Text(reply)) if reply["op"] == "error" => {
                        assert_eq!(reply["code"], "too_many_requests", "{reply}");
                        std::thread::sleep(Duration::from_millis(50));
                        break;
                    }
                    Some(Received::Text(reply)) if reply["op"] == format!("{op}d") => {
                        answered += 1;
                        break;
                    }
                    Some(Received::Ping) => client.send_frame(Opcode::Pong, b""),
                    Some(Received::Text(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            std::thread::sleep(Duration::from_millis(25));
            if stop.load(Relaxed) {
                return answered;
            }
        }
    }
    answered
}

#[test]
fn who_toggles_hundreds_of_patterns_holds_nobody_up_over_epoll() {
    who_toggles_hundreds_of_patterns_holds_nobody_up("epoll");
}

#[test]
fn who_toggles_hundreds_of_patterns_holds_nobody_up_over_uring() {
    who_toggles_hundreds_of_patterns_holds_nobody_up("uring");
}

/// Two of them, beside a subscriber of one subject of many.
fn who_toggles_hundreds_of_patterns_holds_nobody_up(engine: &str) {
    let mut blade = Blade::start(engine);
    for symbol in 0..400 {
        for channel in ["bbo", "book", "trade", "status", "imbalance"] {
            blade.publish(&format!("/X/S{symbol}/{channel}"), "0");
        }
    }
    let mut reader = blade.client();
    reader.send(r#"{"op":"subscribe","subjects":["/X/S7/bbo"],"mode":"all","snapshot":false}"#);
    assert_eq!(reader.message()["op"], "subscribed");
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = blade.address;
    let (calm, beside) = std::thread::scope(|scope| {
        let mut measure = |time: Duration| -> Vec<u64> {
            let begun = Instant::now();
            let mut ages = Vec::new();
            while begun.elapsed() < time {
                blade.publish("/X/S7/bbo", &json!({"us": now_us()}).to_string());
                let frame = reader.message();
                ages.push(now_us().saturating_sub(frame["d"]["us"].as_u64().unwrap()));
                std::thread::sleep(Duration::from_millis(1));
            }
            ages
        };
        let calm = measure(Duration::from_secs(1));
        let (stop, answered) = (&stop, &answered);
        for number in 0..2 {
            scope.spawn(move || answered.fetch_add(toggle(address, stop, number * 1_000_000_000), Relaxed));
        }
        let beside = measure(Duration::from_secs(4));
        stop.store(true, Relaxed);
        (calm, beside)
    });
    let (calm_us, beside_us) = (p99(calm), p99(beside));
    println!("{engine}: p99 {calm_us} µs in the calm, {beside_us} µs beside; {} requests", answered.load(Relaxed));
    // Wide, for machines that do other things: a request took half a second.
    assert!(beside_us < 3 * calm_us + 100_000, "{engine}: {calm_us} to {beside_us} µs");
    assert!(answered.load(Relaxed) > 4, "{engine}: nobody toggled");
}

fn p99(mut ages: Vec<u64>) -> u64 {
    ages.sort_unstable();
    assert!(!ages.is_empty(), "nothing came");
    ages[ages.len() * 99 / 100]
}
