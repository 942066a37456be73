//! Sessions with lists of their own, and with sets that they share: everybody gets what is theirs, once, in order,
//! whatever they change, however they read.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Checker, Client, ENGINES, PATIENCE, Received};
use fanblade_worker::{Batching, Command, Limits};
use serde_json::Value;

const SUBJECTS: usize = 48;
/// Some subscribe to what does not exist yet.
const SUBJECTS_LATER: usize = 56;

fn name(subject: usize) -> String {
    format!("/V/S{}/{}", subject / 4, ["bbo", "trade", "book", "status"][subject % 4])
}

fn publish(blade: &mut Blade, subject: &str, data: &str) {
    blade.publish(subject, data);
}

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// A client that knows what it has asked for, and checks each frame.
struct Watcher {
    client: Client,
    random: Random,
    all: bool,
    filters: BTreeSet<String>,
    /// Of each subject that it has: the number of its last frame, from the reply on.
    last: BTreeMap<String, u64>,
    newest: BTreeMap<String, Value>,
    frames: u64,
}

impl Watcher {
    fn new(address: SocketAddr, number: u64) -> Self {
        let client = Client::connect(address, "/v1/stream", None);
        Self {
            client,
            random: Random(number),
            all: number.is_multiple_of(2),
            filters: BTreeSet::new(),
            last: BTreeMap::new(),
            newest: BTreeMap::new(),
            frames: 0,
        }
    }

    fn wants(&self, subject: &str) -> bool {
        self.filters.iter().any(|filter| fanblade_ring::subject::matches(filter, subject))
    }

    /// One message: a frame is checked, a reply's subjects noted. Returns what it was a reply to.
    fn take(&mut self, message: &Value) -> Option<String> {
        if let Some(op) = message["op"].as_str() {
            if op == "notice" {
                assert_eq!((&message["kind"], self.all), (&"lagging".into(), false), "{message}");
                return None;
            }
            assert_ne!(op, "error", "{message}");
            for told in message["subjects"].as_array().unwrap() {
                if op == "subscribed"
                    && let Some(seq) = told["seq"].as_u64()
                {
                    // Its newest comes with the reply, if it has none of it yet.
                    let subject = told["subject"].as_str().unwrap().to_owned();
                    self.last.entry(subject).or_insert(seq.saturating_sub(1));
                }
            }
            return (message["more"] != true).then(|| op.to_owned());
        }
        let subject = message["s"].as_str().unwrap_or_else(|| panic!("not a frame: {message}"));
        assert!(self.wants(subject), "{message} to somebody who has {:?}", self.filters);
        let (seq, prev) = (message["q"].as_u64().unwrap(), message["p"].as_u64().unwrap());
        // A subject that is new since has no frame before.
        let is_snapshot = !self.newest.contains_key(subject);
        let last = self.last.insert(subject.to_owned(), seq).unwrap_or(0);
        assert!(seq > last, "{subject}: {seq} after {last}, {:?}", self.filters);
        if self.all && !is_snapshot {
            assert_eq!(prev, last, "{subject}: {message}");
        }
        self.newest.insert(subject.to_owned(), message["d"].clone());
        self.frames += 1;
        None
    }

    fn until(&mut self, op: &str) {
        loop {
            let message = self.client.message();
            if let Some(done) = self.take(&message) {
                assert_eq!(done, op);
                return;
            }
        }
    }

    fn change(&mut self) {
        let is_more = self.filters.is_empty() || self.random.below(5) < 3;
        let count = 1 + self.random.below(4);
        if is_more {
            // Mostly single subjects; some patterns that few have; some sets that many come to.
            let filters: Vec<String> = match self.random.below(6) {
                0 => vec![format!("/V/S{}/*", self.random.below(SUBJECTS_LATER / 4))],
                1 => vec!["/V/S1/**".to_owned(), "/V/*/status".to_owned(), name(3)],
                2 => vec!["/V/S2/*".to_owned(), name(7)],
                _ => (0..count).map(|_| name(self.random.below(SUBJECTS_LATER))).collect(),
            };
            self.filters.extend(filters.iter().cloned());
            let texts: Vec<&str> = filters.iter().map(String::as_str).collect();
            self.client.subscribe(&texts, if self.all { "all" } else { "conflate" });
            self.until("subscribed");
        } else {
            let count = if self.random.below(4) == 0 { self.filters.len() } else { count };
            let filters: Vec<String> = self.filters.iter().take(count).cloned().collect();
            self.client.send(&serde_json::json!({"op":"unsubscribe","subjects":filters}).to_string());
            self.until("unsubscribed");
            self.filters.retain(|filter| !filters.contains(filter));
            let kept: BTreeSet<String> = self.last.keys().filter(|subject| self.wants(subject)).cloned().collect();
            self.last.retain(|subject, _| kept.contains(subject));
            self.newest.retain(|subject, _| kept.contains(subject));
        }
    }

    /// Reads, changes and pauses at random until the end is near; then everything that it has must come to its end.
    fn run(mut self, is_over: &AtomicBool, changes: &AtomicU64, ends: &AtomicU64) -> u64 {
        while !is_over.load(Relaxed) {
            match self.random.below(12) {
                0..3 => {
                    self.change();
                    changes.fetch_add(1, Relaxed);
                }
                // So long that its socket fills.
                3 => std::thread::sleep(Duration::from_millis(self.random.below(60) as u64)),
                _ => {
                    for _ in 0..1 + self.random.below(200) {
                        match self.client.receive_within(Duration::from_millis(5)) {
                            Some(Received::Text(message)) => assert_eq!(self.take(&message), None),
                            None => break,
                            other => panic!("instead of a frame: {other:?}"),
                        }
                    }
                }
            }
        }
        ends.fetch_add(1, Relaxed);
        let wanted: Vec<String> = (0..SUBJECTS_LATER).map(name).filter(|subject| self.wants(subject)).collect();
        let begun = Instant::now();
        while wanted.iter().any(|subject| self.newest.get(subject).is_none_or(|data| data["last"] != true)) {
            assert!(begun.elapsed() < PATIENCE, "the last of {wanted:?} does not come: {:?}", self.newest);
            if let Some(Received::Text(message)) = self.client.receive_within(Duration::from_secs(1)) {
                assert_eq!(self.take(&message), None);
            }
        }
        assert_eq!(self.client.receive_within(Duration::from_millis(20)), None, "more than the last");
        self.frames
    }
}

fn everybody_gets_their_own(engine: &str, batching: Vec<Batching>) {
    // Some subjects' frames are long, so that sockets fill; the ring holds all of it.
    let limits = Limits { requests_per_s_max: 10_000, ..Limits::default() };
    let config = BladeConfig { limits, batching, lane_len: 1 << 28, index_len: 1 << 18, ..BladeConfig::default() };
    let mut blade = Blade::start_with(engine, config);
    for subject in 0..SUBJECTS {
        blade.publish(&name(subject), "0");
    }
    let (is_over, changes, ends) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let watchers = 24;
    std::thread::scope(|scope| {
        let (address, is_over, changes, ends) = (blade.address, &is_over, &changes, &ends);
        let threads: Vec<_> = (0..watchers)
            .map(|number| scope.spawn(move || Watcher::new(address, number).run(is_over, changes, ends)))
            .collect();
        let mut random = Random(99);
        let filler = format!("\"{}\"", "x".repeat(12_000));
        let begun = Instant::now();
        for round in 0.. {
            if round >= 4_000 && changes.load(Relaxed) >= 1_000 {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{engine}: {changes:?} changes");
            let subjects = if round < 2_000 { SUBJECTS } else { SUBJECTS_LATER };
            let subject = random.below(subjects);
            publish(&mut blade, &name(subject), &round.to_string());
            if round % 100 == 0 {
                // More than some sockets take while their clients pause.
                (0..30).for_each(|n| publish(&mut blade, &name(n * 4 % SUBJECTS), &filler));
            }
            if round % 4 == 0 {
                std::thread::sleep(Duration::from_millis(round / 4).saturating_sub(begun.elapsed()));
            }
        }
        is_over.store(true, Relaxed);
        // Nobody changes anything any more.
        while ends.load(Relaxed) < watchers && threads.iter().all(|thread| !thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        (0..SUBJECTS_LATER).for_each(|subject| publish(&mut blade, &name(subject), r#"{"last":true}"#));
        let frames: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(frames > 10_000, "{engine}: {frames} frames: too gentle");
    });
    assert!(blade.stat("unsent") > 0, "{engine}: nobody was slow");
    assert_eq!((blade.stat("lapped"), blade.stat("protocol_errors")), (0, 0));
    blade.wait_stat("sessions", |n| n == 0);
    assert_eq!((blade.stat("own_lists"), blade.stat("own_subscriptions"), blade.stat("groups")), (0, 0, 0));
}

#[test]
fn ordering_across_shared_and_own() {
    for engine in ENGINES {
        everybody_gets_their_own(engine, Vec::new());
    }
}

#[test]
fn ordering_where_some_frames_wait() {
    for engine in ENGINES {
        let window = |subjects: &str, ms_max| Batching { subjects: subjects.to_owned(), ms_max, bytes_max: 8_000 };
        everybody_gets_their_own(engine, vec![window("/V/*/bbo", 20), window("/V/*/trade", 7)]);
    }
}

/// The eighth session of a set shares it; who changes has a list of its own.
#[test]
fn sets_are_shared_by_many_and_left_by_who_changes() {
    for engine in ENGINES.into_iter().filter(|engine| !engine.contains("shared")) {
        let mut blade = Blade::start(engine);
        let mut clients: Vec<Client> =
            (0..20).map(|_| blade.subscriber(&["/X/A/v", "/X/B/v", "/Y/**"], "all")).collect();
        blade.wait_stat("own_lists", |n| n == 7);
        assert_eq!((blade.stat("groups"), blade.stat("own_subscriptions")), (1, 21), "{engine}");
        // Whoever changes back has the others' set, and is again with them if they share it.
        for client in &mut clients[10..15] {
            client.send(r#"{"op":"unsubscribe","subjects":["/X/B/v"]}"#);
            assert_eq!(client.message()["op"], "unsubscribed");
        }
        blade.wait_stat("own_lists", |n| n == 12);
        for n in 1..=3u64 {
            ["/X/A/v", "/X/B/v", "/Y/C/v"].iter().for_each(|subject| publish(&mut blade, subject, &n.to_string()));
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let mut expected = vec!["/X/A/v", "/X/B/v", "/Y/C/v"];
            expected.retain(|subject| *subject != "/X/B/v" || !(10..15).contains(&at));
            for n in 1..=3u64 {
                for subject in &expected {
                    let message = client.message();
                    assert_eq!((&message["s"], &message["d"]), (&(*subject).into(), &n.into()), "{engine}, {at}");
                }
            }
        }
        // What is told to everybody comes to both, behind what they are owed, and so does the end.
        blade.publish("/X/A/v", "4");
        blade.worker.send(Command::Notice(r#"{"op":"notice","kind":"stale"}"#.to_owned()));
        for client in &mut clients {
            let mut told = [client.message(), client.message()];
            told.sort_by_key(|message| message["kind"].is_string());
            assert_eq!((&told[0]["d"], &told[1]["kind"]), (&4.into(), &"stale".into()), "{engine}");
        }
        blade.worker.send(Command::Drain { close_code: 1001, reconnect_ms_max: 0, deadline_ms: 30_000 });
        clients.iter_mut().for_each(|client| assert_eq!(client.close_code(), 1001, "{engine}"));
    }
}

/// A frame that two filters of one session select comes once; in `all`, if one of them is.
#[test]
fn a_frame_that_two_filters_select_comes_once_with_the_stronger_mode() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut client = blade.subscriber(&["/X/A/v", "/X/**", "/*/A/v"], "conflate");
        client.subscribe(&["/X/A/*"], "all");
        assert_eq!(client.message()["op"], "subscribed");
        let filler = "x".repeat(1_000);
        for n in 0..5_000u64 {
            blade.publish(["/X/A/v", "/X/B/v"][(n % 2) as usize], &format!(r#"{{"n":{n},"filler":"{filler}"}}"#));
        }
        blade.wait_stat("sessions_behind", |n| n == 1);
        let (mut next, mut others, mut dropped) = (0, 0, 0);
        while next < 5_000 || others + dropped < 2_500 {
            let message = client.message();
            match message["s"].as_str() {
                Some("/X/A/v") => {
                    assert_eq!(message["d"]["n"], next, "{engine}");
                    next += 2;
                }
                Some(_) => others += 1,
                None => dropped += message["dropped"].as_u64().unwrap(),
            }
        }
        assert_eq!(others + dropped, 2_500, "{engine}");
        assert!(dropped > 0, "{engine}: the test is too gentle");
    }
}

/// The publisher overtakes a worker that stands still, with frames under way to sessions of both kinds.
#[test]
fn who_is_overtaken_with_a_list_of_its_own_is_told_what_is_gone() {
    for engine in ENGINES {
        let window = Batching { subjects: "/W/**".to_owned(), ms_max: 60_000, bytes_max: 1 << 30 };
        let config =
            BladeConfig { index_len: 1_024, lane_len: 1 << 20, batching: vec![window], ..BladeConfig::default() };
        let mut blade = Blade::start_with(engine, config);
        let mut all = blade.subscriber(&["/W/A/v", "/V/A/v"], "all");
        let mut newest = blade.subscriber(&["/W/A/v", "/V/B/v"], "conflate");
        blade.publish("/W/A/v", "1");
        blade.wait_stat("descriptors", |n| n >= 1);
        // Far more than the ring holds, faster than anybody reads it.
        let begun = Instant::now();
        while blade.stat("lapped") == 0 {
            assert!(begun.elapsed() < PATIENCE, "{engine}: the worker keeps up with everything");
            for n in 0..20_000u64 {
                blade.publish(["/W/A/v", "/V/A/v", "/V/B/v"][(n % 3) as usize], &n.to_string());
            }
        }
        ["/W/A/v", "/V/A/v", "/V/B/v"].iter().for_each(|subject| publish(&mut blade, subject, "\"end\""));
        for (client, is_all) in [(&mut all, true), (&mut newest, false)] {
            let mut checker = Checker::default();
            // The frames of /W wait; whoever asks for something is given them.
            let mut asked = Instant::now();
            while checker.newest.len() < 2 || checker.newest.values().any(|data| data != "end") {
                assert!(begun.elapsed() < 2 * PATIENCE, "{engine}: {:?}", checker.newest);
                if asked.elapsed() > Duration::from_millis(500) {
                    client.send(r#"{"op":"list"}"#);
                    asked = Instant::now();
                }
                match client.receive_within(Duration::from_millis(600)) {
                    Some(Received::Text(message)) if message["op"] != "listed" => checker.take(&message, is_all),
                    Some(Received::Text(_)) | None => {}
                    // What may have been torn ends the session.
                    Some(Received::End) if blade.stat("lapped_closed") > 0 => break,
                    other => panic!("{engine}: {other:?}"),
                }
            }
        }
    }
}
