//! What sessions that do not read cost in memory, by an allocator that counts on the worker's thread; and that it comes
//! back.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Client, ENGINES, Observed, PATIENCE, Received, Step};
use fanblade_testkit::allocations::{self, Counting};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that the worker's thread has asked for and not given back, as of its last look at the sockets.
#[derive(Clone, Default)]
struct Scale(Arc<AtomicI64>);

impl Scale {
    fn blade(&self, engine: &str, mut config: BladeConfig) -> Blade {
        let scale = self.clone();
        config.wrap = Box::new(|engine| {
            Observed::boxed(engine, move |step| {
                if step == Step::Poll {
                    scale.0.store(allocations::bytes_held(), Relaxed);
                }
            })
        });
        Blade::start_with(engine, config)
    }

    fn bytes(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// What the worker holds once it has looked at its sockets again.
    fn settled(&self, blade: &Blade) -> i64 {
        let turns = blade.stat("turns");
        blade.wait_stat("turns", |n| n > turns + 1);
        self.bytes()
    }

    /// Waits until the worker holds at most `bytes`.
    fn wait_below(&self, bytes: i64, what: &str) {
        let begun = Instant::now();
        while self.bytes() > bytes {
            assert!(begun.elapsed() < PATIENCE, "{what}: {} bytes stay, of {bytes} at most", self.bytes());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

const SUBJECTS: usize = 10_000;

/// A blade with so many subjects, and its scale.
fn wide(engine: &str, config: BladeConfig) -> (Blade, Scale) {
    let scale = Scale::default();
    let mut blade = scale.blade(engine, BladeConfig { index_len: 1 << 20, ..config });
    let data = format!("\"{}\"", "x".repeat(100));
    for n in 0..SUBJECTS {
        blade.publish(&format!("/X/S{n}/bbo"), &data);
    }
    // The worker has all of it, and its tables are made.
    drop(blade.subscriber(&["/X/S1/bbo"], "conflate"));
    blade.wait_stat("sessions", |n| n == 0);
    (blade, scale)
}

/// So many that subscribe to everything and read nothing of the answer, whose sockets are full.
fn stuck(blade: &Blade, clients: u64) -> Vec<Client> {
    let unsent = blade.stat("unsent");
    let mut stuck: Vec<Client> = (0..clients).map(|_| blade.client()).collect();
    stuck.iter_mut().for_each(|client| client.subscribe(&["/X/**"], "all"));
    blade.wait_stat("unsent", |n| n >= unsent + clients);
    stuck
}

/// Answers to wide subscriptions that are not read are memory by the session, and not by the subject.
#[test]
fn who_does_not_read_its_answer_holds_little_however_many_subjects_there_are() {
    for engine in ENGINES {
        let (blade, scale) = wide(engine, BladeConfig::default());
        let clients = 100;
        // The first ones have the filter made, and the worker's scratch.
        let first = stuck(&blade, 10);
        let before = scale.settled(&blade);
        let stuck = stuck(&blade, clients);
        let each = (scale.settled(&blade) - before) / i64::try_from(clients).unwrap();
        println!("{engine}: {each} bytes for each who does not read");
        assert!(each < 32 << 10, "{engine}: {each} bytes");
        // The worker knows it, but for scratch, which grows with a burst.
        let counted = blade.stat("held_bytes") / clients + 2_048;
        assert!(counted + 1_024 > each.unsigned_abs(), "{engine}: {counted} counted of {each} bytes");
        drop((first, stuck));
        blade.wait_stat("sessions", |n| n == 0);
        // What the pool keeps of them is little.
        scale.wait_below(before + (512 << 10), engine);
    }
}

/// Waiting requests count by their bytes, whatever these are: a numbering's name is a text of any length.
#[test]
fn requests_that_wait_are_limited_in_bytes() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.requests_per_s_max = 1_000;
        let bytes_max = i64::try_from(config.limits.deferred_bytes_max).unwrap();
        let (blade, scale) = wide(engine, config);
        let clients = 20;
        let mut stuck = stuck(&blade, clients);
        let before = scale.settled(&blade);
        let asked = blade.stat("requests");
        let resume = serde_json::json!({"epoch": "x".repeat(100_000), "seq": 1});
        let request = serde_json::json!({"op": "subscribe", "subjects": ["/X/S1/bbo"], "resume": resume}).to_string();
        // Five fit.
        stuck.iter_mut().for_each(|client| (0..5).for_each(|_| client.send(&request)));
        blade.wait_stat("requests", |n| n >= asked + 5 * clients);
        let each = (scale.settled(&blade) - before) / i64::try_from(clients).unwrap();
        println!("{engine}: {each} bytes for each whose requests wait");
        assert!((500_000..bytes_max + (200 << 10)).contains(&each), "{engine}: {each} bytes");
        assert_eq!(blade.stat("deferred_closed"), 0, "{engine}");
        // The sixth does not, and takes them with it.
        stuck.iter_mut().for_each(|client| client.send(&request));
        blade.wait_stat("deferred_closed", |n| n == clients);
        scale.wait_below(before + (512 << 10), engine);
    }
}

/// Once all together hold too much, those end that take nothing, and nobody who reads, however much he holds himself.
#[test]
fn beyond_the_budget_those_end_that_take_nothing_and_nobody_who_reads() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.held_bytes_max = 2 << 20;
        config.limits.close_ms_max = 600_000;
        config.limits.requests_per_s_max = 10_000;
        let (blade, scale) = wide(engine, config);
        let before = scale.settled(&blade);
        // Subscribes to everything again and again, with requests that wait while it reads: more than any other holds.
        let over = Arc::new(AtomicI64::new(0));
        let mut reader = blade.client();
        let honest = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let (mut answers, mut all) = (0, Vec::new());
                all.resize(200, "/X/S1/not-there-yet-but-long-enough-to-be-something".to_owned());
                let many = serde_json::json!({"op": "unsubscribe", "subjects": all}).to_string();
                while over.load(Relaxed) == 0 {
                    reader.subscribe(&["/X/**"], "all");
                    (0..5).for_each(|_| reader.send(&many));
                    reader.send(r#"{"op":"unsubscribe","subjects":["/X/**"]}"#);
                    loop {
                        match reader.receive() {
                            Received::Text(message) if message["op"] == "unsubscribed" => break,
                            Received::Text(_) | Received::Ping => {}
                            other => panic!("who reads was ended: {other:?}"),
                        }
                    }
                    answers += 1;
                }
                answers
            }
        });
        let mut silent = Vec::new();
        let begun = Instant::now();
        while blade.stat("held_evicted") < 100 {
            assert!(begun.elapsed() < PATIENCE, "{engine}: nobody is ended");
            let mut client = blade.client();
            client.subscribe(&["/X/**"], "all");
            silent.push(client);
            let held = scale.bytes() - before;
            assert!(held < 6 << 20, "{engine}: {held} bytes, of two million at most");
        }
        println!("{engine}: {} sessions, {} ended", silent.len(), blade.stat("held_evicted"));
        // The first of them, if it reads now, finds whole frames and why it ended; or the next one, where so much of a
        // long frame was left that the worker has let the first go without.
        let code = silent.iter_mut().take(50).find_map(|client| {
            loop {
                match client.receive() {
                    Received::Close(code, _) => break Some(code),
                    Received::End => break None,
                    _ => {}
                }
            }
        });
        assert_eq!(code, Some(4008), "{engine}");
        over.store(1, Relaxed);
        assert!(honest.join().unwrap() > 0, "{engine}");
        drop(silent);
        blade.wait_stat("sessions", |n| n == 0);
        blade.wait_stat("held_bytes", |n| n == 0);
        scale.wait_below(before + (1 << 20), engine);
    }
}

/// Sets that come and go beside a wide one, alone and shared by many, leave nothing behind.
#[test]
fn sets_that_come_and_go_leave_no_memory_behind() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.requests_per_s_max = 10_000;
        let (blade, scale) = wide(engine, config);
        let before = scale.settled(&blade);
        let mut clients: Vec<Client> = (0..12).map(|_| blade.subscriber(&["/X/**"], "all")).collect();
        clients.iter_mut().for_each(take_snapshots);
        let held = scale.settled(&blade);
        // All of them change at once, so that a set of many dies and another begins, each with all subjects.
        for _ in 0..100 {
            for (op, reply) in [("subscribe", "subscribed"), ("unsubscribe", "unsubscribed")] {
                let request = serde_json::json!({"op": op, "subjects": ["/Y/A/v"]}).to_string();
                clients.iter_mut().for_each(|client| client.send(&request));
                clients.iter_mut().for_each(|client| assert_eq!(client.message()["op"], reply, "{engine}"));
            }
            assert!(scale.bytes() < held + (2 << 20), "{engine}: {} bytes more", scale.bytes() - held);
        }
        // Sets that differ are there together, and go together.
        for (number, client) in clients.iter_mut().enumerate() {
            client.subscribe(&[&format!("/Y/S{number}/v"), "/X/*/bbo"], "all");
            while client.message()["op"] != "subscribed" {}
        }
        println!("{engine}: {} bytes more with as many sets as sessions", scale.settled(&blade) - held);
        drop(clients);
        blade.wait_stat("sessions", |n| n == 0);
        scale.wait_below(before + (1 << 20), engine);
        assert_eq!(blade.stat("groups"), 0, "{engine}");
    }
}

/// The newest of each subject, and the replies that go before.
fn take_snapshots(client: &mut Client) {
    let mut left = SUBJECTS;
    while left > 0 {
        left -= usize::from(client.message()["s"].is_string());
    }
}
