//! `fanblade-swarm` against servers that do what they should, and servers that do not.

mod blade;
mod lists;
mod server;
mod swarm;
mod xdp;

use std::time::Duration;

use fanblade_wire::frame::{Opcode, write_close, write_frame};
use serde_json::json;

use blade::Blade;
use server::Server;
use swarm::{Swarm, is_uring_missing};

/// A message as our publishers write it.
fn message(number: u64, ts_ns: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let text = format!(r#"{{"n":{number},"ts":"{ts_ns}","pad":"xxxxxxxxxxxxxxxxxxxxxxxx"}}"#);
    write_frame(&mut frame, Opcode::Text, text.as_bytes());
    frame
}

const MARKERS: [&str; 4] = ["--timestamp", r#"text:"ts":""#, "--sequence", r#"text:"n":"#];

#[test]
fn a_stream_that_is_cut_anywhere_counts_the_same() {
    if is_uring_missing() {
        return;
    }
    let stream = |from_ns: u64| {
        let mut stream = message(1, from_ns + 1);
        write_frame(&mut stream, Opcode::Ping, b"are you there");
        stream.extend(message(2, from_ns + 2));
        // In fragments, with a ping between.
        stream.extend_from_slice(b"\x01\x05{\"n\":");
        write_frame(&mut stream, Opcode::Ping, b"");
        let rest = format!(r#"3,"ts":"{}"}}"#, from_ns + 3);
        stream.extend_from_slice(&[0x80, u8::try_from(rest.len()).unwrap()]);
        stream.extend_from_slice(rest.as_bytes());
        stream
    };
    // One client for each place to cut at.
    let clients = stream(1_700_000_000_000_000_000).len();
    let mut server = Server::start();
    let mut swarm = Swarm::start(&server.url(), clients, &[&MARKERS[..], &["--expect-preamble", "1"]].concat());
    server.accept(clients, b"\x81\x02hi");
    let from_ns = swarm.window();
    let stream = stream(from_ns);
    server.each(|at, client| client.send(&stream[..at]));
    std::thread::sleep(Duration::from_millis(100));
    server.each(|at, client| client.send(&stream[at..]));
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!(report["delivered"], 3 * clients);
    assert_eq!(report["pings_answered"], 2 * clients);
    assert_eq!(report["position"]["tenths_mean_us"].as_array().unwrap().len(), 10);
    server.each(|_, client| {
        let mut expected = vec![0x8a, 0x80 | 13, 0, 0, 0, 0];
        expected.extend_from_slice(b"are you there\x8a\x80\0\0\0\0");
        assert_eq!(client.receive(expected.len()), expected);
    });
}

#[test]
fn what_a_server_drops_repeats_tears_or_ends_is_told() {
    if is_uring_missing() {
        return;
    }
    let server = Server::start();
    let swarm = Swarm::start(&server.url(), 6, &MARKERS);
    what_is_wrong_is_told(server, swarm);
}

/// Six clients, five of which have reason to complain.
fn what_is_wrong_is_told(mut server: Server, mut swarm: Swarm) {
    server.accept(6, b"");
    let from_ns = swarm.window();
    server.each(|at, client| {
        let numbers: &[u64] = match at {
            // Dropped in the middle, repeated, dropped at the end, torn, ended.
            0 => &[1, 3, 4],
            1 => &[1, 2, 2, 3, 4],
            2 => &[1, 2, 3],
            3 => &[1, 2],
            4 => &[1],
            _ => &[1, 2, 3, 4],
        };
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| message(*number, from_ns + number)).collect();
        if at == 3 {
            bytes.extend_from_slice(b"\xf1\x05");
        }
        if at == 4 {
            write_close(&mut bytes, 1012, "restart");
        }
        client.send(&bytes);
    });
    let (report, is_ok) = swarm.finish();
    assert!(!is_ok);
    // Of four messages the clients lack one, none, one, two and three.
    assert_eq!(report["lost"], 7, "{report}");
    assert_eq!(report["clients_with_loss"], 4);
    assert_eq!((&report["missing"], &report["gaps"], &report["repeated"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&report["torn"], &report["closed"]), (&json!(1), &json!({"1012": 1})));
    let verdict = report["verdict"].as_str().unwrap();
    assert!(verdict.starts_with("FAILED: 7 messages lost; 1 messages missing in"), "{verdict}");
}

#[test]
fn messages_that_a_server_joins_or_cuts_into_frames_are_counted() {
    if is_uring_missing() {
        return;
    }
    let args = ["--boundary", "timestamp", "--expect-preamble", r"text:ready\r\n"];
    let subscription = ["--binary", "--subscribe", r"SUB s{subject:03} {client}\r\n"];
    let mut server = Server::start();
    let mut swarm = Swarm::start(&server.url(), 3, &[&MARKERS[..], &args, &subscription].concat());
    server.accept(3, b"\x82\x04info");
    server.each(|_, client| {
        let heard = client.receive(6 + 12);
        assert_eq!((heard[0], heard[1]), (0x82, 0x80 | 12));
        let unmasked = heard[6..].iter().zip(heard[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let text = String::from_utf8(unmasked.collect()).unwrap();
        assert!(text.starts_with("SUB s000 ") && text.ends_with("\r\n"), "{text}");
        client.send(b"\x82\x0a+OK\r\nready\x82\x02\r\n");
    });
    let from_ns = swarm.window();
    let text: String =
        (1..=6).map(|number| format!("MSG {{\"n\":{number},\"ts\":\"{}\"}}\r\n", from_ns + number)).collect();
    server.each(|at, client| {
        let (first, second) = text.as_bytes().split_at(35 + at);
        let mut frames = Vec::new();
        write_frame(&mut frames, Opcode::Binary, first);
        write_frame(&mut frames, Opcode::Binary, second);
        client.send(&frames);
    });
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!(report["delivered"], 18);
}

#[test]
fn slow_clients_read_as_slowly_as_they_should_and_stalled_ones_not_at_all() {
    if is_uring_missing() {
        return;
    }
    let habits = ["--stalled-per-mille", "300", "--slow-per-mille", "300", "--slow-bytes-per-s", "500"];
    let mut server = Server::start();
    let mut swarm = Swarm::start(&server.url(), 40, &[&MARKERS[..], &habits].concat());
    server.accept(40, b"");
    let from_ns = swarm.window();
    // Less than any socket buffer.
    let stream: Vec<u8> = (1..=20).flat_map(|number| message(number, from_ns + number)).collect();
    server.each(|_, client| client.send(&stream));
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "only those who read count: {report}");
    let (readers, slow) = (report["clients"].as_u64().unwrap(), report["slow"]["clients"].as_u64().unwrap());
    assert_eq!(readers + slow + report["stalled"]["clients"].as_u64().unwrap(), 40);
    assert_eq!(report["delivered"], readers * 20);
    let slow_bytes = report["slow"]["bytes"].as_u64().unwrap();
    // Two or three times in the two seconds and a bit that it takes.
    assert!(slow_bytes >= slow * 500 && slow_bytes <= slow * 500 * 5, "{slow_bytes} of {slow} slow clients");
    // What the stalled clients had asked for before they stalled.
    assert!(report["stalled"]["delivered"].as_u64().unwrap() < 40 * 20 / 3, "{report}");
}

#[test]
fn all_can_come_again_and_again() {
    if is_uring_missing() {
        return;
    }
    let blade = Blade::start();
    let args = ["--cycles", "3", "--duration", "0", "--expect-preamble", "1"];
    let swarm = Swarm::start(&blade.url("/v1/stream?subjects=/K/*/v"), 2_000, &args);
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!(blade.stat("upgraded"), 6_000);
}

#[test]
fn a_refusal_is_told() {
    if is_uring_missing() {
        return;
    }
    let blade = Blade::start();
    let error = Swarm::start(&blade.url("/elsewhere"), 3, &[]).fail();
    assert!(error.contains("the server answered 404"), "{error}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Swarm::start(&format!("ws://{nobody}/"), 3, &[]).fail();
    assert!(error.contains("connecting: Connection refused"), "{error}");
}

/// More clients than the process may have descriptors, if that is 20,000: two full rings, and a hundred bytes each.
#[test]
fn many_subscribers_of_a_blade_lose_nothing_and_need_little_memory() {
    if is_uring_missing() {
        return;
    }
    let mut blade = Blade::start();
    let subscribe = r#"{"op":"subscribe","id":{client},"subjects":["/K/{subject}/v"],"mode":"all"}"#;
    let args = ["--subjects", "50", "--expect-preamble", "1", "--subscribe", subscribe];
    let mut swarm =
        Swarm::start(&blade.url("/v1/stream"), 32_768, &[&MARKERS[..], &args, &["--duration", "2"]].concat());
    let from_ns = swarm.window();
    for number in 1..=3u64 {
        for subject in 0..50 {
            blade.publish(&format!("/K/{subject}/v"), &format!(r#"{{"n":{number},"ts":"{}"}}"#, from_ns + number));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!((&report["delivered"], &report["lost"]), (&json!(98_304), &json!(0)));
    assert_eq!(blade.stat("frames_delivered"), 98_304);
    let memory = &report["user_bytes_per_connection"];
    let (predicted, measured) = (memory["predicted"].as_f64().unwrap(), memory["measured"].as_f64().unwrap());
    println!("{measured} bytes of user memory per connection, predicted {predicted}");
    assert!(predicted <= 100.0 && measured <= 100.0 && measured >= predicted / 2.0, "{memory}");
}

/// Somebody else's server: what people write themselves.
#[test]
fn subscribers_of_a_broadcasting_tokio_server_lose_nothing() {
    if is_uring_missing() {
        return;
    }
    let broadcast = server::Broadcast::start();
    let mut swarm = Swarm::start(&broadcast.url(), 300, &MARKERS);
    let from_ns = swarm.window();
    for number in 1..=20 {
        broadcast.send(&format!(r#"{{"n":{number},"ts":"{}"}}"#, from_ns + number));
    }
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!(report["delivered"], 6_000);
}
