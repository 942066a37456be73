//! Frames that wait for more of their group.

mod common;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Checker, Client, ENGINES, Received};
use fanblade_worker::{Batching, Command};

fn blade(engine: &str, batching: &[(&str, u32, u32)]) -> Blade {
    let entry = |(subjects, ms_max, bytes_max): &(&str, u32, u32)| Batching {
        subjects: (*subjects).to_owned(),
        ms_max: *ms_max,
        bytes_max: *bytes_max,
    };
    let batching = batching.iter().map(entry).collect();
    Blade::start_with(engine, BladeConfig { batching, ..BladeConfig::default() })
}

/// No machine takes so long for one of these tests.
const NEVER_MS: u32 = 24 * 3_600_000;
/// Long enough for some frames to be sent one by one, on a machine that does other things.
const WINDOW_MS: u32 = 4_000;

#[test]
fn frames_wait_for_each_other_and_come_in_one_send() {
    for engine in ENGINES {
        // The first entry that selects a subject counts.
        let mut blade = blade(engine, &[("/X/URGENT/book", NEVER_MS, 1), ("/X/*/book", WINDOW_MS, 1 << 20)]);
        let mut client = blade.subscriber(&["/X/A/book"], "all");
        let mut others: Vec<Client> =
            ["/X/A/trade", "/X/URGENT/book"].iter().map(|subject| blade.subscriber(&[subject], "all")).collect();
        // Its next window begins with this one's end, which is after this moment.
        let begun = Instant::now();
        blade.publish("/X/A/book", "0");
        assert_eq!(client.message()["d"], 0, "{engine}");
        for n in 0..5u64 {
            blade.publish("/X/A/book", &n.to_string());
            blade.publish("/X/A/trade", &n.to_string());
            blade.publish("/X/URGENT/book", &n.to_string());
            others.iter_mut().for_each(|other| assert_eq!(other.message()["d"], n, "{engine}"));
        }
        // The first, and each of the urgent ones: what waits has not been sent while the others were.
        // A frame may be read before its send is counted.
        blade.wait_stat("batches", |n| n >= 6);
        assert_eq!(blade.stat("batches"), 6, "{engine}: the others waited");
        (0..5u64).for_each(|n| assert_eq!(client.message()["d"], n, "{engine}"));
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(WINDOW_MS.into()), "{engine}: sent after {waited:?}");
        // Those of /X/URGENT/book are filled by one frame.
        blade.wait_stat("batches", |n| n == 7);
        assert_eq!(blade.stat("batches_filled"), 5, "{engine}");
    }
}

#[test]
fn a_filled_batch_waits_no_longer() {
    for engine in ENGINES {
        let mut blade = blade(engine, &[("/X/**", NEVER_MS, 1_000)]);
        let mut client = blade.subscriber(&["/X/**"], "all");
        blade.publish("/X/A/book", &format!("\"{}\"", "x".repeat(800)));
        assert_eq!(client.receive_within(Duration::from_millis(100)), None, "{engine}");
        blade.publish("/X/B/book", &format!("\"{}\"", "x".repeat(200)));
        assert_eq!((&client.message()["s"], &client.message()["s"]), (&"/X/A/book".into(), &"/X/B/book".into()));
        blade.wait_stat("batches_filled", |n| n == 1);
        assert_eq!(blade.stat("batches"), 1, "{engine}");
    }
}

/// Who joins has the newest already, who asks is answered behind what waits, who leaves gets no more.
#[test]
fn who_comes_asks_or_goes_meanwhile_misses_nothing_and_gets_nothing_twice() {
    for engine in ENGINES {
        let mut blade = blade(engine, &[("/X/**", 20, 1 << 20)]);
        let mut watchers: Vec<Client> =
            (0..20).map(|at| blade.subscriber(&["/X/**"], ["all", "conflate"][at % 2])).collect();
        let address = blade.address;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (at, client) in watchers.iter_mut().enumerate() {
                scope.spawn(move || watch(client, at % 2 == 0));
            }
            for at in 0..4 {
                let is_over = &is_over;
                scope.spawn(move || come_and_go(address, at % 2 == 0, is_over));
            }
            // Five in a millisecond, however late this thread wakes, until there have been windows enough.
            let begun = Instant::now();
            for n in 1.. {
                if n >= 6_000 && blade.stat("batches") > 100 {
                    blade.publish("/X/S0/book", &format!(r#"{{"last":{n}}}"#));
                    break;
                }
                blade.publish(&format!("/X/S{}/book", n % 50), &n.to_string());
                if n % 5 == 0 {
                    std::thread::sleep(Duration::from_millis(n / 5).saturating_sub(begun.elapsed()));
                }
            }
            is_over.store(true, Relaxed);
        });
        assert!(blade.stat("sends") < blade.stat("frames_delivered") / 10, "{engine}");
    }
}

/// Reads until it has seen the last, and asks what it is subscribed to now and then.
fn watch(client: &mut Client, all: bool) {
    let mut checker = Checker::default();
    let mut asked = 0;
    let last = loop {
        let message = client.message();
        if message["op"] == "listed" {
            asked -= 1;
            continue;
        }
        checker.take(&message, all);
        if let Some(last) = message["d"]["last"].as_u64() {
            break last;
        }
        if checker.frames % 500 == 1 && asked == 0 {
            client.send(r#"{"op":"list"}"#);
            asked += 1;
        }
    };
    assert_eq!(checker.frames + checker.dropped, last, "{} dropped", checker.dropped);
    assert_eq!(checker.gap_notices, 0);
}

fn come_and_go(address: std::net::SocketAddr, all: bool, is_over: &AtomicBool) {
    while !is_over.load(Relaxed) {
        let mut client = Client::connect(address, "/v1/stream", None);
        client.subscribe(&["/X/**"], if all { "all" } else { "conflate" });
        assert_eq!(client.message()["op"], "subscribed");
        let mut checker = Checker::default();
        while checker.frames < 300 {
            match client.receive_within(Duration::from_millis(200)) {
                Some(Received::Text(message)) => checker.take(&message, all),
                None if is_over.load(Relaxed) => return,
                None => {}
                other => panic!("instead of a frame: {other:?}"),
            }
        }
        client.send(r#"{"op":"unsubscribe","subjects":["/X/**"]}"#);
        loop {
            let message = client.message();
            if message["op"] == "unsubscribed" {
                break;
            }
            checker.take(&message, all);
        }
        assert_eq!(client.receive_within(Duration::from_millis(50)), None, "a frame after the end of a subscription");
    }
}

#[test]
fn notices_a_new_numbering_and_the_end_come_behind_what_waits() {
    for engine in ENGINES {
        let mut blade = blade(engine, &[("/X/**", NEVER_MS, 1 << 20)]);
        let mut client = blade.subscriber(&["/X/**"], "all");
        blade.publish("/X/A/book", "1");
        blade.wait_stat("descriptors", |n| n == 1);
        blade.worker.send(Command::Notice(r#"{"op":"notice","kind":"stale"}"#.to_owned()));
        assert_eq!((&client.message()["d"], &client.message()["kind"]), (&1.into(), &"stale".into()), "{engine}");
        blade.publish("/X/A/book", "2");
        blade.wait_stat("descriptors", |n| n == 2);
        blade.writer.set_epoch("test-2").unwrap();
        blade.seq = 0;
        blade.publish("/X/A/book", "3");
        assert_eq!((&client.message()["d"], &client.message()["kind"]), (&2.into(), &"epoch".into()), "{engine}");
        blade.wait_stat("descriptors", |n| n == 3);
        assert_eq!(client.receive_within(Duration::from_millis(50)), None, "{engine}");
        blade.worker.send(Command::Drain { close_code: 1001, reconnect_ms_max: 0, deadline_ms: 5_000 });
        assert_eq!(client.message()["d"], 3, "{engine}");
        assert!(matches!(client.receive(), Received::Close(1001, _)), "{engine}");
    }
}

/// The client's own pings, and a notice, meet a frame that its socket takes in part.
#[test]
fn what_a_session_is_told_meanwhile_does_not_come_into_a_torn_frame() {
    for engine in ENGINES {
        let mut blade = blade(engine, &[("/X/**", 20, 1 << 20)]);
        let mut client = blade.subscriber(&["/X/**"], "all");
        let filler = "x".repeat(3_000);
        let mut checker = Checker::default();
        let (mut pongs, mut notices) = (0, 0);
        for round in 0..40u64 {
            for n in 0..40 {
                blade.publish(&format!("/X/S{n}/book"), &format!(r#"{{"n":{round},"filler":"{filler}"}}"#));
            }
            client.send_frame(fanblade_wire::frame::Opcode::Ping, b"?");
            blade.worker.send(Command::Notice(r#"{"op":"notice","kind":"stale"}"#.to_owned()));
            std::thread::sleep(Duration::from_millis(3));
        }
        while checker.frames < 1_600 || pongs < 40 || notices < 40 {
            match client.receive() {
                Received::Text(message) if message["kind"] == "stale" => notices += 1,
                Received::Text(message) => checker.take(&message, true),
                Received::Pong(_) => pongs += 1,
                other => panic!("{engine}: {other:?}"),
            }
        }
        assert!(blade.stat("unsent") > 0, "{engine}: the test is too gentle");
        assert_eq!(checker.gap_notices, 0);
    }
}

/// The ring holds less than comes in the window.
#[test]
fn what_waits_until_the_ring_overwrites_it_is_told_as_a_gap() {
    for engine in ENGINES {
        // Longer than any machine takes to fill the ring; the notice in the end sends what waits.
        let batching = vec![Batching { subjects: "/X/A/**".to_owned(), ms_max: NEVER_MS, bytes_max: 1 << 20 }];
        let config = BladeConfig { index_len: 4_096, lane_len: 1 << 20, batching, ..BladeConfig::default() };
        let mut blade = Blade::start_with(engine, config);
        let mut client = blade.subscriber(&["/X/A/book"], "all");
        // So that it is not the publisher who overtakes the worker.
        let mut other = blade.subscriber(&["/X/B/book"], "all");
        for n in 1..=3u64 {
            blade.publish("/X/A/book", &n.to_string());
        }
        for n in 0..20_000u64 {
            blade.publish("/X/B/book", &n.to_string());
            if n % 100 == 99 {
                (0..100).for_each(|_| assert!(other.message()["d"].is_u64()));
            }
        }
        blade.worker.send(Command::Notice(r#"{"op":"notice","kind":"stale"}"#.to_owned()));
        // The newest is kept, and what came before it is gone.
        // (The notice, which found nothing to send, may be before or behind.)
        let mut told = (0..3).map(|_| client.message()).filter(|message| message["kind"] != "stale");
        assert_eq!((&told.next().unwrap()["kind"], &told.next().unwrap()["d"]), (&"gap".into(), &3.into()), "{engine}");
        assert_eq!(blade.stat("batches"), 0, "{engine}");
        assert_eq!(blade.stat("lapped_closed"), 0, "{engine}");
    }
}
