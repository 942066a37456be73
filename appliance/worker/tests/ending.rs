//! How sessions end: by the blade's stop, by deadlines, by their own fault; and what a wrong client is told.

mod common;

use std::io::{Read, Write};
use std::time::Duration;

use common::{Blade, BladeConfig, Checker, ENGINES, PATIENCE, Received, connect_small};
use fanblade_wire::frame::Opcode;
use fanblade_worker::Command;

#[test]
fn a_graceful_stop_flushes_everything_then_closes() {
    for engine in ENGINES {
        let mut blade = Blade::start(engine);
        let mut quick = blade.subscriber(&["/X/**"], "all");
        let mut slow = blade.subscriber(&["/X/**"], "all");
        let data = format!("\"{}\"", "x".repeat(1_000));
        for _ in 0..5_000 {
            blade.publish("/X/A/bbo", &data);
        }
        blade.worker.send(Command::Drain { close_code: 1001, reconnect_ms_max: 0, deadline_ms: 20_000 });
        let reader = std::thread::spawn(move || frames_until_close(&mut quick));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(frames_until_close(&mut slow), (5_000, 1001), "{engine}");
        assert_eq!(reader.join().unwrap(), (5_000, 1001), "{engine}");
        blade.worker.join().unwrap();
    }
}

fn frames_until_close(client: &mut common::Client) -> (u64, u16) {
    let mut checker = Checker::default();
    loop {
        match client.receive() {
            Received::Text(message) => checker.take(&message, true),
            Received::Close(code, _) => return (checker.frames, code),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_restart_spreads_the_reconnects() {
    for engine in ENGINES {
        let blade = Blade::start(engine);
        let mut clients: Vec<_> = (0..20).map(|_| blade.subscriber(&["/X/**"], "all")).collect();
        blade.worker.send(Command::Drain { close_code: 1012, reconnect_ms_max: 10_000, deadline_ms: 5_000 });
        let mut waits = Vec::new();
        for client in &mut clients {
            let notice = client.message();
            assert_eq!(notice["kind"], "restart", "{engine}");
            waits.push(notice["reconnect_in_ms"].as_u64().unwrap());
            assert_eq!(client.close_code(), 1012);
        }
        waits.sort_unstable();
        assert!(waits[0] < 3_000 && waits[19] > 7_000 && waits[19] <= 10_000, "{engine}: {waits:?}");
        drop(clients);
        blade.worker.join().unwrap();
    }
}

#[test]
fn faults_of_a_client_have_their_close_codes() {
    for engine in ENGINES {
        let blade = Blade::start(engine);
        let mut client = blade.client();
        // A frame that announces more than would even be refused: its header is enough.
        client.stream.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4]).unwrap();
        assert_eq!(client.close_code(), 1009, "{engine}: longer than REQUEST_SKIPPED_LEN_MAX");
        let mut client = blade.client();
        client.send_frame(Opcode::Binary, b"\0\x01");
        assert_eq!(client.close_code(), 1003);
        let mut client = blade.client();
        client.stream.write_all(&[0x81, 0x01, b'x']).unwrap();
        assert_eq!(client.close_code(), 1002, "not masked");
        let mut client = blade.client();
        client.send_frame(Opcode::Text, b"\xff\xfe");
        assert_eq!(client.close_code(), 1007);
        let mut client = blade.client();
        let mut refused = 0;
        for _ in 0..200 {
            // It may be closed while it still writes.
            let mut frame = Vec::new();
            fanblade_wire::client::write_frame(&mut frame, Opcode::Text, [0; 4], br#"{"op":"ping"}"#);
            if client.stream.write_all(&frame).is_err() {
                break;
            }
        }
        loop {
            match client.receive() {
                Received::Text(message) => refused += u64::from(message["code"] == "too_many_requests"),
                Received::Close(code, _) => break assert_eq!(code, 4029, "{engine}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(refused >= 50, "{engine}: {refused}");
        blade.wait_stat("sessions", |n| n == 0);
        assert_eq!((blade.stat("temper_closed"), blade.stat("protocol_errors")), (1, 3));
    }
}

#[test]
fn a_close_is_answered_with_its_code() {
    for engine in ENGINES {
        let blade = Blade::start(engine);
        let mut client = blade.client();
        client.send_frame(Opcode::Close, &1000u16.to_be_bytes());
        assert_eq!(client.receive(), Received::Close(1000, String::new()), "{engine}");
        assert_eq!(client.receive(), Received::End, "{engine}: our side ends first (RFC 6455, 7.1.1)");
        drop(client);
        blade.wait_stat("sessions", |n| n == 0);
    }
}

#[test]
fn deadlines_end_silent_peers() {
    // Each deadline on a blade of its own, so that nobody else has to be in time.
    let with = |engine: &str, set: fn(&mut fanblade_worker::Limits)| {
        let mut config = BladeConfig::default();
        set(&mut config.limits);
        Blade::start_with(engine, config)
    };
    for engine in ENGINES {
        let blade = with(engine, |limits| limits.handshake_ms_max = 200);
        let mut lorris = connect_small(blade.address);
        lorris.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n").unwrap();
        assert_eq!(lorris.read(&mut [0; 100]).unwrap(), 0, "{engine}");
        assert_eq!(blade.stat("handshake_timeouts"), 1);
        blade.wait_stat("sessions", |n| n == 0);

        let blade = with(engine, |limits| limits.subscribe_ms_max = 200);
        let mut idle = blade.client();
        assert_eq!(idle.close_code(), 1008, "{engine}: subscribed to nothing");
        assert_eq!(blade.stat("subscribe_timeouts"), 1);

        let blade = with(engine, |limits| (limits.ping_interval_ms, limits.pong_ms_max) = (100, 3_000));
        let mut lively = blade.subscriber(&["/X/**"], "all");
        let mut deaf = blade.subscriber(&["/X/**"], "all");
        while blade.stat("pong_timeouts") == 0 {
            assert_eq!(lively.receive(), Received::Ping, "{engine}");
            lively.send_frame(Opcode::Pong, b"");
        }
        assert_eq!(deaf.receive(), Received::Ping);
        while deaf.receive() != Received::End {}
        assert_eq!(blade.stat("pong_timeouts"), 1);
        assert_eq!(blade.wait_stat("sessions", |n| n == 1), 1);
    }
}

#[test]
fn what_is_no_upgrade_gets_a_helpful_answer() {
    for engine in ENGINES {
        let blade = Blade::start_with(
            engine,
            BladeConfig { origins: vec!["https://good.example".to_owned()], ..BladeConfig::default() },
        );
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (request, status, part) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "426", "Fanblade"),
            ("POST /v1/stream HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "405", ""),
            ("\u{16}\u{3}\u{1}garbage\r\n\r\n".to_owned(), "400", ""),
            (format!("GET /v2 HTTP/1.1\r\nHost: h\r\n{upgrade}\r\n"), "404", "/v1/stream"),
            (
                format!("GET /v1/stream HTTP/1.1\r\nHost: h\r\nOrigin: https://good.example.evil\r\n{upgrade}\r\n"),
                "403",
                "",
            ),
            (format!("GET /v1/stream HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(9_000)), "431", ""),
        ] {
            let mut stream = connect_small(blade.address);
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // In two pieces, as a network may bring it.
            let (first, second) = request.split_at(request.len() / 2);
            stream.write_all(first.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            // The answer to a head that is too long may come before its end.
            let _ = stream.write_all(second.as_bytes());
            let mut response = String::new();
            let _ = stream.read_to_string(&mut response);
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{engine}: {request}\n{response}");
            assert!(response.contains(part), "{engine}: {response}");
        }
        assert_eq!(blade.stat("handshake_rejected"), 6);
        assert_eq!(blade.stat("origin_refused"), 1);
        assert_eq!(blade.stat("upgraded"), 0);
    }
}

#[test]
fn beyond_sessions_max_is_503() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.sessions_max = 2;
        let blade = Blade::start_with(engine, config);
        let _first = blade.client();
        let second = blade.client();
        let mut third = connect_small(blade.address);
        let mut response = String::new();
        third.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = third.read_to_string(&mut response);
        assert!(response.starts_with("HTTP/1.1 503 "), "{engine}: {response}");
        drop((second, third));
        blade.wait_stat("sessions", |n| n == 1);
        let _fourth = blade.client();
        assert_eq!(blade.stat("refused_capacity"), 1);
    }
}

#[test]
fn pings_come_at_their_interval_whatever_the_other_deadlines() {
    for engine in ENGINES {
        let mut config = BladeConfig::default();
        config.limits.ping_interval_ms = 200;
        // Longer than the interval, and than anybody waits here: the first subscription's deadline, and the pong's.
        config.limits.subscribe_ms_max = 600_000;
        config.limits.pong_ms_max = 600_000;
        let blade = Blade::start_with(engine, config);
        let started = std::time::Instant::now();
        let mut client = blade.subscriber(&["/X/**"], "all");
        for _ in 0..5 {
            assert_eq!(client.receive(), Received::Ping, "{engine}");
            client.send_frame(Opcode::Pong, b"");
        }
        assert!(started.elapsed() > Duration::from_millis(900), "{engine}: {:?}", started.elapsed());
    }
}
