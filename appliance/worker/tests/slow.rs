//! Sessions that do not take what they are owed: conflation, history, gaps, eviction, and the others' peace.

mod common;

use std::io::Read as _;
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Checker, Client, ENGINES, Hold, PATIENCE, Received, Step};

/// About what a quote takes, and enough of them to fill any socket soon.
fn data(n: u64) -> String {
    format!(r#"{{"n":{n},"filler":"{}"}}"#, "x".repeat(400))
}

#[test]
fn in_all_everybody_gets_everything_once_however_they_read() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let clients: Vec<_> = (0..20).map(|_| blade.subscriber(&["/X/**"], "all")).collect();
        let readers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                std::thread::spawn(move || {
                    let mut checker = Checker::default();
                    while checker.frames < 20_000 {
                        checker.take(&client.message(), true);
                        if checker.frames % 1_000 == 0 {
                            std::thread::sleep(Duration::from_millis(number as u64));
                        }
                    }
                    checker
                })
            })
            .collect();
        for n in 0..20_000u64 {
            blade.publish(&format!("/X/S{}/bbo", n * n % 97), &data(n));
        }
        for reader in readers {
            let checker = reader.join().unwrap();
            assert_eq!((checker.frames, checker.dropped, checker.gap_notices), (20_000, 0, 0), "{engine}");
        }
        assert!(blade.stat("unsent") > 0, "{engine}: the test is too gentle");
        blade.wait_stat("frames_delivered", |n| n >= 400_000);
        assert_eq!(blade.stat("frames_delivered"), 400_000);
    }
}

#[test]
fn a_reader_that_stops_is_conflated_told_and_current_again() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut slow = blade.subscriber(&["/X/**"], "conflate");
        let mut quick = blade.subscriber(&["/X/A/bbo"], "all");
        for n in 0..30_000u64 {
            blade.publish(["/X/A/bbo", "/X/B/bbo", "/X/C/bbo"][(n % 3) as usize], &data(n));
            if n % 3 == 0 {
                assert_eq!(quick.message()["d"]["n"], n, "{engine}: one stalled reader holds up another");
            }
        }
        blade.wait_stat("sessions_behind", |n| n == 1);
        let mut checker = Checker::default();
        while checker.newest.len() < 3 || checker.newest.values().any(|d| d["n"].as_u64().unwrap() < 29_997) {
            checker.take(&slow.message(), false);
        }
        assert!(checker.dropped > 20_000, "{engine}: {}", checker.dropped);
        assert_eq!(checker.frames + checker.dropped, 30_000, "{engine}: what is not sent is told, exactly");
        blade.wait_stat("sessions_behind", |n| n == 0);
        blade.publish("/X/B/bbo", &data(30_000));
        assert_eq!(slow.message()["d"]["n"], 30_000);
        assert_eq!(blade.stat("frames_conflated"), checker.dropped);
    }
}

#[test]
fn modes_mix_in_one_session() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut slow = blade.subscriber(&["/X/A/all"], "all");
        slow.subscribe(&["/X/A/newest"], "conflate");
        slow.message();
        for n in 0..20_000u64 {
            blade.publish(["/X/A/all", "/X/A/newest"][(n % 2) as usize], &data(n));
        }
        let mut checker = Checker::default();
        let (mut all, mut newest) = (0, 0);
        let mut last = 0;
        while all < 10_000 || last < 19_999 || newest + checker.dropped < 10_000 {
            let message = slow.message();
            checker.take(&message, message["s"] == "/X/A/all");
            match message["s"].as_str() {
                Some("/X/A/all") => all += 1,
                Some(_) => {
                    newest += 1;
                    last = message["d"]["n"].as_u64().unwrap();
                }
                None => {}
            }
        }
        assert_eq!(all, 10_000, "{engine}");
        assert!(newest < 5_000, "{engine}: {newest} of the conflated subject were sent");
        assert_eq!(newest + checker.dropped, 10_000, "{engine}");
    }
}

#[test]
fn a_reader_of_one_subject_is_not_charged_for_the_others() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut slow = blade.subscriber(&["/X/S0/book"], "all");
        let book = format!("\"{}\"", "x".repeat(50_000));
        // 8 MB for the one that does not read, among a hundred times as many updates of others.
        for n in 0..16_000u64 {
            match n % 100 {
                0 => blade.publish("/X/S0/book", &book),
                other => blade.publish(&format!("/X/S{other}/bbo"), "0"),
            };
        }
        blade.wait_stat("sessions_behind", |n| n == 1);
        let mut checker = Checker::default();
        while checker.frames < 160 {
            checker.take(&slow.message(), true);
        }
        assert_eq!(checker.gap_notices, 0, "{engine}");
        blade.wait_stat("sessions_behind", |n| n == 0);
        let looked_at = blade.stat("catchup_descriptors");
        // Some eighty sends, before each of which what is still owed is looked for; 200,000 with all others' updates.
        assert!(looked_at < 50_000, "{engine}: {looked_at} updates were looked at for the 160 that it was owed");
    }
}

#[test]
fn what_the_ring_no_longer_holds_is_a_gap_and_told() {
    for engine in ENGINES {
        // Room for about 2,000 frames.
        let config = BladeConfig { index_len: 4_096, lane_len: 1 << 20, ..BladeConfig::default() };
        let mut blade = Blade::start_with(engine, config);
        blade.publish("/X/QUIET/bbo", &data(0));
        let mut slow = blade.subscriber(&["/X/**"], "all");
        assert_eq!(slow.message()["s"], "/X/QUIET/bbo");
        for n in 1..=30_000u64 {
            blade.publish(&format!("/X/S{}/bbo", n % 7), &data(n));
            if n == 15_000 {
                blade.publish("/X/ONCE/bbo", &data(n));
            }
            if n % 100 == 0 {
                // The publisher must not overtake the worker itself: that is another test.
                let published = blade.writer.stats().published + blade.writer.stats().refreshed;
                blade.wait_stat("descriptors", |read| read + 1 >= published);
            }
        }
        let mut checker = Checker::default();
        while (0..7)
            .any(|s| checker.newest.get(&format!("/X/S{s}/bbo")).is_none_or(|d| d["n"].as_u64().unwrap() <= 29_993))
        {
            checker.take(&slow.message(), true);
        }
        assert!(checker.frames < 25_000, "{engine}: nothing was lost");
        assert!(checker.gap_notices >= 7, "{engine}: {} gaps", checker.gap_notices);
        assert_eq!(blade.stat("gap_notices"), checker.gap_notices);
        assert_eq!(checker.newest["/X/ONCE/bbo"]["n"], 15_000, "{engine}: the ring keeps each subject's newest frame");
        assert!(!checker.newest.contains_key("/X/QUIET/bbo"), "{engine}: and does not send it twice");
    }
}

#[test]
fn what_the_ring_kept_comes_once_however_often_its_reader_is_left_behind() {
    for engine in ENGINES {
        let config = BladeConfig { index_len: 4_096, lane_len: 1 << 20, ..BladeConfig::default() };
        let mut blade = Blade::start_with(engine, config);
        let mut slow = blade.subscriber(&["/X/**"], "all");
        let mut checker = Checker::default();
        for round in 0..3u64 {
            for n in 1..=20_000u64 {
                blade.publish(&format!("/X/S{}/bbo", n % 7), &data(n));
                if round == 0 && n == 12_000 {
                    blade.publish("/X/ONCE/bbo", &data(n));
                }
                if n % 100 == 0 {
                    let published = blade.writer.stats().published + blade.writer.stats().refreshed;
                    blade.wait_stat("descriptors", |read| read + 1 >= published);
                }
            }
            // It reads as far as to that frame, or a little further, and is left behind again.
            for _ in 0..if round == 0 { usize::MAX } else { 300 } {
                if checker.newest.contains_key("/X/ONCE/bbo") && round == 0 {
                    break;
                }
                checker.take(&slow.message(), true);
            }
            assert_eq!(blade.stat("sessions_behind"), 1, "{engine}: it has caught up in round {round}");
        }
        blade.publish("/X/LAST/bbo", "0");
        while !checker.newest.contains_key("/X/LAST/bbo") {
            checker.take(&slow.message(), true);
        }
        assert!(checker.gap_notices >= 14, "{engine}: {} gaps", checker.gap_notices);
    }
}

#[test]
fn a_worker_that_was_overtaken_says_so_and_goes_on() {
    for engine in ENGINES {
        // It stands still between two passes; or within one, when what it sends is overwritten before it is sent.
        for step in [Step::Poll, Step::Sent] {
            let hold = Hold::default();
            let config =
                BladeConfig { index_len: 1_024, lane_len: 1 << 20, wrap: hold.wrap(), ..BladeConfig::default() };
            let mut blade = Blade::start_with(engine, config);
            let mut clients: Vec<_> =
                (0..4).map(|n| blade.subscriber(&["/X/**"], ["all", "conflate"][n % 2])).collect();
            let readers: Vec<_> = clients
                .drain(..)
                .enumerate()
                .map(|(number, mut client)| {
                    std::thread::spawn(move || {
                        let read = std::panic::AssertUnwindSafe(|| until_last_or_end(&mut client, number % 2 == 0));
                        std::panic::catch_unwind(read).unwrap_or_else(|_| {
                            // I4: what may have been torn, and here was, ends the session.
                            ends(&client.stream);
                            None
                        })
                    })
                })
                .collect();
            for n in 0..9_000u64 {
                // Until it stands still, nobody is left behind.
                if n <= 5_000 && n % 250 == 0 {
                    blade.wait_read();
                    blade.wait_stat("sessions_behind", |n| n == 0);
                }
                match n {
                    5_000 => hold.at(step),
                    // The last two are what wakes it, and what it sends.
                    5_002 => hold.until_held(step),
                    _ => {}
                }
                blade.publish(&format!("/X/S{}/bbo", n % 5), &data(n));
            }
            hold.release();
            blade.publish("/X/LAST/bbo", "0");
            let survivors: Vec<_> = readers.into_iter().filter_map(|reader| reader.join().unwrap()).collect();
            let (lapped, closed) = (blade.stat("lapped"), blade.stat("lapped_closed"));
            let what = format!("{engine}, {step:?}: {} survive, {closed} closed, {lapped} times", survivors.len());
            println!("{what}");
            match step {
                Step::Poll => assert!(lapped > 0 && survivors.len() == 4, "{what}"),
                _ => assert!(closed > 0 && survivors.len() as u64 + closed == 4, "{what}"),
            }
            for checker in survivors {
                assert!(checker.frames < 9_000 && checker.newest.len() >= 6, "{what}: {:?}", checker.newest.len());
            }
        }
    }
}

/// Reads and checks until the last frame (the checker), or until the session is closed (`None`).
fn until_last_or_end(client: &mut Client, all: bool) -> Option<Checker> {
    let mut checker = Checker::default();
    loop {
        match client.receive_within(PATIENCE).expect("the last frame") {
            Received::Text(message) => checker.take(&message, all),
            Received::End => return None,
            other => panic!("{other:?}"),
        }
        if checker.newest.contains_key("/X/LAST/bbo") {
            return Some(checker);
        }
    }
}

/// Waits until the server has closed this connection.
fn ends(mut stream: &std::net::TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("a torn stream goes on: {error}"),
        }
    }
}

#[test]
fn a_reader_that_never_comes_back_is_evicted_and_costs_no_memory() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.lag_ms_max = 300;
        let mut blade = Blade::start_with(engine, config);
        let mut slow = blade.subscriber(&["/X/**"], "conflate");
        let started = Instant::now();
        let mut n = 0;
        while blade.stat("slow_evicted") == 0 {
            blade.publish("/X/A/bbo", &data(n));
            n += 1;
            std::thread::sleep(Duration::from_micros(200));
            assert!(started.elapsed() < PATIENCE, "{engine}: never evicted");
        }
        // What the kernel had taken arrives, then the close frame if there was room for it, then the end.
        let mut last = Received::Ping;
        while let Some(received) = slow.receive_within(PATIENCE) {
            if received == Received::End {
                break;
            }
            last = received;
        }
        assert!(matches!(last, Received::Text(_) | Received::Close(4008, _)), "{engine}: {last:?}");
        blade.wait_stat("sessions", |n| n == 0);
    }
}

#[test]
fn the_numbering_begins_anew_for_the_current_and_for_those_behind() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut quick = blade.subscriber(&["/X/**"], "all");
        let mut all = blade.subscriber(&["/X/**"], "all");
        let mut newest = blade.subscriber(&["/X/**"], "conflate");
        let reader = std::thread::spawn(move || {
            let mut checker = Checker::default();
            while checker.frames < 10_000 {
                checker.take(&quick.message(), true);
            }
            checker
        });
        for n in 0..5_000u64 {
            blade.publish("/X/A/bbo", &data(n));
        }
        blade.writer.set_epoch("test-2").unwrap();
        blade.seq = 0;
        for n in 0..5_000u64 {
            blade.publish("/X/A/bbo", &data(n));
        }
        // Checker would fail on a number that goes back without a notice before it.
        reader.join().unwrap();
        for (client, is_all) in [(&mut all, true), (&mut newest, false)] {
            let mut checker = Checker::default();
            let mut epochs = 0;
            while !(epochs == 1 && checker.newest.get("/X/A/bbo").is_some_and(|d| d["n"] == 4_999)) {
                let message = client.message();
                epochs += u64::from(message["kind"] == "epoch");
                checker.take(&message, is_all);
            }
        }
    }
}

#[test]
fn whoever_falls_behind_again_and_again_gets_whole_frames_and_all_notices() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.requests_per_s_max = 10_000;
        config.limits.requests_deferred_max = 1_000;
        let mut blade = Blade::start_with(engine, config);
        let mut client = blade.subscriber(&["/X/A/all"], "all");
        client.subscribe(&["/X/A/newest"], "conflate");
        client.message();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let publisher = std::thread::spawn(move || {
            let mut n = 0;
            // Without a pause: the fan-out goes on while the session becomes current.
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                blade.publish(["/X/A/all", "/X/A/newest"][(n % 2) as usize], &data(n));
                n += 1;
                if n % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
            blade
        });
        let mut checker = Checker::default();
        let (mut pings, mut pongs) = (0, 0);
        for n in 0..60_000u32 {
            let message = client.message();
            if message["op"] == "pong" {
                pongs += 1;
            } else {
                checker.take(&message, message["s"] == "/X/A/all");
            }
            if n % 500 == 0 {
                // Answered while it is behind only when it is current again.
                client.send(r#"{"op":"ping"}"#);
                pings += 1;
                std::thread::sleep(Duration::from_millis(u64::from(n / 500 % 7) * 4));
            }
        }
        drop(stop);
        let blade = publisher.join().unwrap();
        while pongs < pings {
            let message = client.message();
            if message["op"] == "pong" {
                pongs += 1;
            } else {
                checker.take(&message, message["s"] == "/X/A/all");
            }
        }
        assert!(blade.stat("unsent") > 10, "{engine}: the test is too gentle: {} times", blade.stat("unsent"));
        assert_eq!((blade.stat("temper_closed"), blade.stat("deferred_closed")), (0, 0));
    }
}
