//! Requests that take longer than a pass has: what they are answered, and what others notice of them.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Client, ENGINES, Received, now_us};
use fanblade_worker::Limits;
use serde_json::{Value, json};

/// Passes in which next to nothing fits.
fn slowly() -> BladeConfig {
    let mut config = BladeConfig { index_len: 1 << 16, lane_len: 1 << 22, ..BladeConfig::default() };
    config.limits.pass_steps_max = 40;
    config.limits.ping_interval_ms = 600_000;
    config
}

fn many_subjects() -> BladeConfig {
    BladeConfig { index_len: 1 << 18, lane_len: 1 << 22, ..BladeConfig::default() }
}

fn market(blade: &mut Blade, symbols: usize) {
    for symbol in 0..symbols {
        for channel in ["bbo", "book", "trade", "status", "imbalance"] {
            blade.publish(&format!("/X/S{symbol}/{channel}"), "0");
        }
    }
}

fn subscribe(subjects: &[String]) -> String {
    json!({"op": "subscribe", "id": "s", "subjects": subjects, "mode": "all", "snapshot": false}).to_string()
}

fn texts(count: usize, text: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(text).collect()
}

#[test]
fn requests_are_answered_in_order_and_exactly_however_long_they_take() {
    for engine in ENGINES {
        let mut blade = Blade::start_with(engine, slowly());
        let mut client = blade.subscriber(&["/Y/live"], "all");
        market(&mut blade, 40);
        // The worker has seen all of it, so that it is there when the request comes.
        let mut other = blade.client();
        other.send(&json!({"op": "subscribe", "subjects": ["/X/S39/imbalance"]}).to_string());
        while other.message()["d"] != 0 {}
        let patterns = [texts(400, |n| format!("/X/*/new{n}")), texts(20, |n| format!("/X/S{n}/*"))].concat();
        client.send(&subscribe(&patterns));
        client.send(r#"{"op":"list","id":"l"}"#);
        client.send(&json!({"op": "unsubscribe", "id": "u", "subjects": patterns[..400]}).to_string());
        client.send(r#"{"op":"ping","id":"p"}"#);
        // Frames come in between, of what it has: none waits for a request.
        let (mut ops, mut selected, mut live) = (Vec::new(), 0, Vec::new());
        for seq in 0.. {
            blade.publish("/Y/live", &seq.to_string());
            let frame = loop {
                let message = client.message();
                if let Some(op) = message["op"].as_str() {
                    assert_ne!(op, "error", "{engine}: {message}");
                    if ops.last().map(String::as_str) != Some(op) {
                        ops.push(op.to_owned());
                    }
                    let subjects = message["subjects"].as_array().map_or(0, Vec::len);
                    match op {
                        "subscribed" => {
                            selected +=
                                message["subjects"].as_array().unwrap().iter().filter(|it| it["sid"].is_u64()).count();
                        }
                        "listed" => assert_eq!(subjects, 421, "{engine}"),
                        "unsubscribed" => assert_eq!(subjects, 400, "{engine}"),
                        _ => {}
                    }
                } else {
                    break message;
                }
            };
            live.push(frame["d"].as_u64().unwrap());
            if ops.last().map(String::as_str) == Some("pong") {
                break;
            }
        }
        assert_eq!(ops, ["subscribed", "listed", "unsubscribed", "pong"], "{engine}");
        assert_eq!(selected, 100, "{engine}");
        assert!((0..).zip(&live).all(|(expected, frame)| expected == *frame), "{engine}: {live:?}");
        assert!(blade.stat("requests_waited") > 0, "{engine}");
        blade.publish("/X/S3/trade", "7");
        blade.publish("/X/S3/new7", "8");
        assert_eq!((client.message()["d"].clone(), client.message()["d"].clone()), (json!(7), json!(8)), "{engine}");
    }
}

#[test]
fn who_leaves_before_its_request_is_through_leaves_nothing() {
    for engine in ENGINES {
        let mut blade = Blade::start_with(engine, slowly());
        market(&mut blade, 200);
        for _ in 0..4 {
            let mut client = blade.client();
            client.send(&subscribe(&texts(900, |n| format!("/*/*/{n}"))));
            client.send(&subscribe(&texts(5, |n| format!("/*/S{n}/*"))));
            blade.wait_stat("requests_waited", |n| n > 0);
            drop(client);
        }
        has_let_go(&blade, engine);
        // And nothing waits for what it would have said.
        let mut client = blade.subscriber(&["/*/S7/*"], "all");
        blade.publish("/X/S7/new", "1");
        while client.message()["d"] != 1 {}
    }
}

#[test]
fn distinct_filters_have_a_limit_that_is_told() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.filters_max = 3;
        let mut blade = Blade::start_with(engine, config);
        let ask = |client: &mut Client, subjects: &[&str]| {
            client.send(&json!({"op": "subscribe", "subjects": subjects, "snapshot": false}).to_string());
            client.message()
        };
        let (mut first, mut second) = (blade.client(), blade.client());
        assert_eq!(ask(&mut first, &["/X/A/there"])["op"], "subscribed", "{engine}");
        blade.publish("/X/A/there", "1");
        assert_eq!(first.message()["d"], 1);
        assert_eq!(ask(&mut first, &["/X/*/b", "/X/**", "/X/A/not", "/X/A/there"])["op"], "subscribed", "{engine}");
        // Others' filters are no more; nor are subjects that are there.
        assert_eq!(ask(&mut second, &["/X/**", "/X/A/there", "/X/A/not"])["op"], "subscribed", "{engine}");
        let refusal = ask(&mut second, &["/X/A/there", "/X/B/not"]);
        assert_eq!(refusal["code"], "too_many_filters", "{engine}: {refusal}");
        assert!(refusal["message"].as_str().unwrap().contains("`filters_max`"), "{refusal}");
        assert_eq!((blade.stat("filters"), blade.stat("filters_refused")), (3, 1), "{engine}");
        second.send(r#"{"op":"list"}"#);
        assert_eq!(second.message()["subjects"].as_array().unwrap().len(), 3, "a refused request changes nothing");
        // What comes into being is not counted any more; what goes makes room.
        blade.publish("/X/A/not", "2");
        assert_eq!((first.message()["d"].clone(), second.message()["d"].clone()), (json!(2), json!(2)));
        assert_eq!(ask(&mut second, &["/X/B/not"])["op"], "subscribed", "{engine}");
        first.send(&json!({"op": "unsubscribe", "subjects": ["/X/*/b"]}).to_string());
        assert_eq!(first.message()["op"], "unsubscribed");
        assert_eq!(ask(&mut second, &["/X/C/not"])["op"], "subscribed", "{engine}");
        assert_eq!(ask(&mut second, &["/X/D/not"])["code"], "too_many_filters", "{engine}");
        drop((first, second));
        has_let_go(&blade, engine);
    }
}

/// Nothing is left of sessions that have gone. What sessions have shared goes later, with others of its kind.
fn has_let_go(blade: &Blade, engine: &str) {
    blade.wait_stat("sessions", |n| n == 0);
    if !engine.ends_with("shared sets") {
        blade.wait_stat("filters", |n| n == 0);
    }
}

#[test]
fn patterns_that_overlap_too_often_are_refused() {
    for engine in ENGINES {
        let mut blade = Blade::start_with(engine, many_subjects());
        let mut client = blade.subscriber(&["/p/q"], "all");
        for n in 0..4_000 {
            blade.publish(&format!("/a/b/c/d/e{n}"), "0");
        }
        blade.publish("/p/q", "0");
        assert_eq!(client.message()["s"], "/p/q");
        let places = |stars: usize| -> String {
            ["a", "b", "c", "d"]
                .iter()
                .enumerate()
                .map(|(at, text)| if stars >> at & 1 == 1 { "/*".to_owned() } else { format!("/{text}") })
                .collect()
        };
        let patterns = texts(16, |stars| format!("{}/*", places(stars)));
        client.send(&subscribe(&[&patterns[..], &["/**".to_owned()]].concat()));
        let refusal = client.message();
        assert_eq!(refusal["code"], "too_many_subscriptions", "{engine}: {refusal}");
        client.send(&subscribe(&patterns));
        assert_eq!(client.message()["op"], "subscribed", "{engine}");
    }
}

/// What an attacker sends again and again; `None`: nothing more, and it stays.
type Attack = fn(u64) -> Option<Vec<String>>;

fn toggled(round: u64) -> Option<Vec<String>> {
    let filters = texts(900, |n| format!("/X/*/{}", round / 2 * 900 + n as u64));
    let op = ["subscribe", "unsubscribe"][usize::from(!round.is_multiple_of(2))];
    Some(vec![json!({"op": op, "subjects": filters}).to_string()])
}

/// New ones until there may be no more; then the next session's.
fn held(round: u64) -> Option<Vec<String>> {
    (round == 0).then(|| vec![subscribe(&texts(1_000, |n| format!("/*/*/{}-{n}", now_us())))])
}

fn starred(round: u64) -> Option<Vec<String>> {
    let long = "y".repeat(100);
    (round == 0).then(|| vec![subscribe(&texts(700, |n| format!("/*/{long}{}/*", now_us() + n as u64)))])
}

fn unknown(round: u64) -> Option<Vec<String>> {
    (round == 0).then(|| vec![subscribe(&texts(1_000, |n| format!("/X/NOBODY{}/bbo", now_us() * 1_000 + n as u64)))])
}

fn wide(round: u64) -> Option<Vec<String>> {
    let filters = ["/**", "/X/**", "/*/*/*", "/X/*/*", "/*/**"].map(str::to_owned);
    (round == 0).then(|| vec![subscribe(&filters)])
}

/// A session for each of its turns, as many as go in the time; how many requests were sent.
fn attack(blade: std::net::SocketAddr, attack: Attack, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    let mut sessions: Vec<Client> = Vec::new();
    while !stop.load(Relaxed) {
        let mut client = Client::connect(blade, "/v1/stream", None);
        let mut is_answered = true;
        for round in 0.. {
            let Some(requests) = attack(round).filter(|_| !stop.load(Relaxed)) else { break };
            // On a busy machine the worker answers more slowly than the rate that it permits.
            while !is_answered {
                is_answered = is_answer(client.receive());
            }
            requests.iter().for_each(|request| client.send(request));
            sent += requests.len() as u64;
            is_answered = false;
            // The permitted rate; answers are read.
            let until = Instant::now() + Duration::from_millis(20);
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if let Some(received) = client.receive_within(left) {
                    is_answered |= is_answer(received);
                }
            }
        }
        sessions.push(client);
        if sessions.len() == 60 {
            // All of them go at once.
            sessions.clear();
        }
    }
    sent
}

/// Whether this is the last reply to a request.
fn is_answer(received: Received) -> bool {
    match received {
        Received::Text(message) => message["op"].is_string() && message["more"].is_null(),
        Received::Close(code, reason) => panic!("{code} {reason}"),
        _ => false,
    }
}

#[test]
fn no_session_s_requests_hold_up_another_s_frames_over_epoll() {
    no_session_s_requests_hold_up_another_s_frames("epoll");
}

#[test]
fn no_session_s_requests_hold_up_another_s_frames_over_uring() {
    no_session_s_requests_hold_up_another_s_frames("uring");
}

/// Each attack beside a reader of one subject, in turns with the calm.
fn no_session_s_requests_hold_up_another_s_frames(engine: &str) {
    let attacks: [(&str, Attack); 5] =
        [("900 toggled", toggled), ("all held", held), ("stars", starred), ("unknown", unknown), ("wide", wide)];
    for (name, each) in attacks {
        let mut blade = Blade::start_with(engine, many_subjects());
        let mut reader = blade.subscriber(&["/X/S7/bbo"], "all");
        market(&mut blade, 400);
        while reader.message()["s"] != "/X/S7/bbo" {}
        let address = blade.address;
        let mut fresh = 0;
        let mut measure = |time: Duration| -> Vec<u64> {
            let (begun, mut ages) = (Instant::now(), Vec::new());
            while begun.elapsed() < time {
                // Subjects that are new come, too.
                fresh += 1;
                blade.publish(&format!("/X/N{fresh}/bbo"), "0");
                blade.publish("/X/S7/bbo", &json!({"us": now_us()}).to_string());
                let frame: Value = reader.message();
                ages.push(now_us().saturating_sub(frame["d"]["us"].as_u64().unwrap()));
                std::thread::sleep(Duration::from_millis(2));
            }
            ages.sort_unstable();
            ages
        };
        let (mut calm, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            calm.push(quantile(&measure(Duration::from_millis(150)), 0.9));
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let attackers = [0, 1].map(|_| scope.spawn(|| attack(address, each, &stop)));
                beside.push(quantile(&measure(Duration::from_millis(350)), 0.9));
                stop.store(true, Relaxed);
                assert!(
                    attackers.into_iter().map(|attacker| attacker.join().unwrap()).sum::<u64>() > 0,
                    "{name}: nobody"
                );
            });
        }
        let (calm_us, beside_us) = (calm.into_iter().max().unwrap(), beside.into_iter().min().unwrap());
        let steps = blade.stat("request_steps_max");
        println!("{engine}, {name}: p90 {calm_us} µs in the calm, {beside_us} µs beside; {steps} steps in a pass");
        // In steps, which no other load on the machine changes: what a pass has, and what cannot be left midway.
        let steps_max = 2 * Limits::default().pass_steps_max;
        assert!(steps > 0 && steps < steps_max, "{engine}, {name}: {steps} steps in a pass");
        // In time, with room for a machine that does other things: it was half a second.
        assert!(beside_us < 3 * calm_us + 40_000, "{engine}, {name}: {calm_us} to {beside_us} µs");
    }
}

fn quantile(sorted: &[u64], q: f64) -> u64 {
    assert!(!sorted.is_empty(), "nothing came");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`q` is less than 1")]
    let place = (sorted.len() as f64 * q) as usize;
    sorted[place]
}
