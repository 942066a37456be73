//! The end of a client's input is not the end of our output: whoever asks and then ends its own side is answered.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::{Blade, BladeConfig, Client, ENGINES, PATIENCE, Received, client_frame, connect_small};
use fanblade_wire::frame::Opcode;

/// Whether request and end meet in one look at the sockets is chance.
const TRIES: usize = 60;

#[test]
fn plain_http_that_ends_is_answered() {
    for engine in ENGINES {
        let blade = Blade::start(engine);
        for _ in 0..TRIES {
            let mut stream = connect_small(blade.address);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 426 "), "{engine}: {answer:?}");
        }
        // Half a request will never be whole.
        let mut stream = connect_small(blade.address);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0, "{engine}");
        blade.wait_stat("sessions", |n| n == 0);
    }
}

#[test]
fn an_upgrade_that_ends_is_answered_and_closed() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        for _ in 0..TRIES {
            let mut client = Client::open(blade.address, "/v1/stream", None, &[], true);
            assert_eq!(rest(&mut client), [CLOSED], "{engine}");
            let target = "/v1/stream?subjects=/X/A/bbo";
            let mut client = Client::open(blade.address, target, None, &[], true);
            assert_eq!(ops(&rest(&mut client)), ["subscribed", "/X/A/bbo", "1000"], "{engine}");
            // Upgrade, request and end in one segment.
            let request = client_frame(Opcode::Text, br#"{"op":"subscribe","subjects":["/X/A/bbo"]}"#);
            let mut client = Client::open(blade.address, "/v1/stream", None, &request, true);
            assert_eq!(ops(&rest(&mut client)), ["subscribed", "/X/A/bbo", "1000"], "{engine}");
        }
        blade.wait_stat("sessions", |n| n == 0);
        assert_eq!(blade.stat("closed_by_peer"), 3 * TRIES as u64, "{engine}");
        assert_eq!(blade.stat("closed_by_server"), 0, "{engine}");
    }
}

#[test]
fn requests_and_closes_before_the_end_are_answered() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        blade.publish("/X/A/bbo", "1");
        let subscribe = client_frame(Opcode::Text, br#"{"op":"subscribe","subjects":["/X/A/bbo"]}"#);
        let ping = client_frame(Opcode::Text, br#"{"op":"ping"}"#);
        let close = client_frame(Opcode::Close, &4_321u16.to_be_bytes());
        for (sent, answers) in [
            (vec![&subscribe], vec!["subscribed", "/X/A/bbo", "1000"]),
            // The second waits until the first has its snapshot.
            (vec![&subscribe, &ping, &ping], vec!["subscribed", "/X/A/bbo", "pong", "pong", "1000"]),
            (vec![&ping], vec!["pong", "1000"]),
            (vec![&ping, &close], vec!["pong", "4321"]),
            (vec![&subscribe, &close], vec!["subscribed", "/X/A/bbo", "4321"]),
            (vec![&close], vec!["4321"]),
            (vec![], vec!["1000"]),
        ] {
            let together: Vec<u8> = sent.iter().flat_map(|frame| frame.iter().copied()).collect();
            for attempt in 0..TRIES {
                let mut client = blade.client();
                if attempt % 2 == 0 {
                    client.stream.write_all(&together).unwrap();
                } else {
                    sent.iter().for_each(|frame| client.stream.write_all(frame).unwrap());
                }
                client.end();
                assert_eq!(ops(&rest(&mut client)), answers, "{engine}");
            }
        }
        // Of one that was current, with nothing owed.
        let mut client = blade.subscriber(&["/X/A/bbo"], "all");
        assert_eq!(client.message()["s"], "/X/A/bbo");
        client.end();
        assert_eq!(rest(&mut client), [CLOSED], "{engine}");
        blade.wait_stat("sessions", |n| n == 0);
    }
}

#[test]
fn who_reads_slowly_after_the_end_gets_all_that_was_asked_for() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let data = format!("\"{}\"", "x".repeat(8_000));
        for subject in 0..1_000 {
            blade.publish(&format!("/X/S{subject}/book"), &data);
        }
        for mode in ["conflate", "all"] {
            let mut client = blade.client();
            let more = format!(r#"{{"op":"subscribe","subjects":["/X/**"],"mode":"{mode}"}}"#);
            client.send(&more);
            client.send(r#"{"op":"ping"}"#);
            client.end();
            // Its socket is full, and stays so for a while.
            blade.wait_stat("half_closed", |n| n > 0);
            std::thread::sleep(Duration::from_millis(300));
            let rest = rest(&mut client);
            let ops = ops(&rest);
            let frames = ops.iter().filter(|op| op.starts_with('/')).count();
            let pongs = ops.iter().filter(|op| *op == "pong").count();
            assert_eq!((frames, pongs), (1_000, 1), "{engine}, {mode}");
            assert_eq!(rest.last(), Some(&CLOSED), "{engine}, {mode}");
        }
        blade.wait_stat("sessions", |n| n == 0);
        assert_eq!(blade.stat("slow_evicted"), 0);
    }
}

#[test]
fn who_has_ended_is_not_served_for_ever() {
    for engine in ENGINES {
        for mode in ["conflate", "all"] {
            let mut config = BladeConfig::default();
            config.limits.half_closed_ms_max = 1_000;
            let mut blade = Blade::start_with(engine, config);
            let mut reader = blade.subscriber(&["/X/**"], mode);
            let deaf = blade.subscriber(&["/X/**"], mode);
            reader.end();
            deaf.end();
            let started = Instant::now();
            let data = format!("\"{}\"", "x".repeat(1_000));
            let watcher = std::thread::spawn(move || rest(&mut reader));
            // What comes never ends.
            while blade.stat("sessions") > 0 {
                for _ in 0..20 {
                    blade.publish("/X/A/bbo", &data);
                }
                std::thread::sleep(Duration::from_millis(1));
                assert!(started.elapsed() < PATIENCE, "{engine}, {mode}: served for ever");
            }
            let rest = watcher.join().unwrap();
            assert_eq!(rest.last(), Some(&CLOSED), "{engine}, {mode}");
            drop(deaf);
        }
    }
}

#[test]
fn who_takes_nothing_after_the_end_is_let_go_in_time() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.half_closed_ms_max = 400;
        config.limits.close_ms_max = 300;
        let mut blade = Blade::start_with(engine, config);
        let data = format!("\"{}\"", "x".repeat(8_000));
        for subject in 0..1_000 {
            blade.publish(&format!("/X/S{subject}/book"), &data);
        }
        let mut deaf = blade.client();
        deaf.subscribe(&["/X/**"], "all");
        deaf.end();
        blade.wait_stat("slow_evicted", |n| n == 1);
        blade.wait_stat("sessions", |n| n == 0);
        assert_eq!((blade.stat("half_closed"), blade.stat("pong_timeouts")), (1, 0), "{engine}");
    }
}

#[test]
fn a_reset_ends_a_session_at_once_whatever_it_is_owed() {
    for engine in ENGINES {
        // Long deadlines: nothing else may end it.
        let mut config = BladeConfig::default();
        config.limits.half_closed_ms_max = 600_000;
        config.limits.close_ms_max = 600_000;
        let mut blade = Blade::start_with(engine, config);
        let data = format!("\"{}\"", "x".repeat(8_000));
        for subject in 0..1_000 {
            blade.publish(&format!("/X/S{subject}/book"), &data);
        }
        for ends_first in [false, true] {
            let mut client = blade.client();
            client.subscribe(&["/X/**"], "all");
            blade.wait_stat("unsent", |n| n > 0);
            if ends_first {
                client.end();
                blade.wait_stat("half_closed", |n| n == 1);
            }
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&client.stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
            drop(client);
            blade.wait_stat("sessions", |n| n == 0);
        }
    }
}

const CLOSED: Received = Received::Close(1000, String::new());

/// All that comes until the server's end; close frames without their words.
fn rest(client: &mut Client) -> Vec<Received> {
    let mut all = Vec::new();
    loop {
        match client.receive() {
            Received::End => return all,
            Received::Close(code, _) => all.push(Received::Close(code, String::new())),
            other => all.push(other),
        }
    }
}

/// What each was, in a word: the op of a reply, the subject of a frame, the code of a close.
fn ops(received: &[Received]) -> Vec<String> {
    let op = |received: &Received| match received {
        Received::Text(message) => message["op"].as_str().or(message["s"].as_str()).unwrap().to_owned(),
        Received::Close(code, _) => code.to_string(),
        other => format!("{other:?}"),
    };
    received.iter().map(op).collect()
}
