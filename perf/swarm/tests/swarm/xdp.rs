//! Subscribers without sockets. Each test is in a network namespace of its own, which goes with its thread.

use std::time::Duration;

use fanblade_testkit::{Namespace, is_root};
use fanblade_wire::frame::{Opcode, write_frame};

use crate::server::Server;
use crate::swarm::Swarm;
use crate::{MARKERS, message, what_is_wrong_is_told};

/// Enters a network namespace; `false`, with a message, if that is not permitted.
fn enter_namespace() -> bool {
    if !is_root("the xdp engine") {
        return false;
    }
    Namespace::enter_new();
    true
}

fn swarm(server: &Server, clients: usize, args: &[&str]) -> Swarm {
    Swarm::start(&server.url_at("10.63.0.1"), clients, &[&["--engine", "xdp"], &MARKERS[..], args].concat())
}

#[test]
fn without_sockets_a_stream_that_is_cut_anywhere_counts_the_same() {
    if !enter_namespace() {
        return;
    }
    let stream = |from_ns: u64| {
        let mut stream = message(1, from_ns + 1);
        write_frame(&mut stream, Opcode::Ping, b"are you there");
        stream.extend(message(2, from_ns + 2));
        // Longer than the part of a frame that is looked at, and than a segment.
        let long = format!(r#"{{"n":3,"ts":"{}","p":"{}"}}"#, from_ns + 3, "x".repeat(1_500));
        write_frame(&mut stream, Opcode::Text, long.as_bytes());
        write_frame(&mut stream, Opcode::Ping, b"");
        stream.extend(message(4, from_ns + 4));
        stream
    };
    // One client for each place to cut at, up to the middle of the long one.
    let clients = 500;
    let mut server = Server::start();
    let mut swarm = swarm(&server, clients, &["--expect-preamble", "1"]);
    server.accept(clients, b"\x81\x02hi");
    let from_ns = swarm.window();
    let stream = stream(from_ns);
    server.each(|at, client| client.send(&stream[..at]));
    std::thread::sleep(Duration::from_millis(200));
    server.each(|at, client| client.send(&stream[at..]));
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!((&report["engine"], &report["lost"]), (&"xdp".into(), &0.into()));
    assert_eq!(report["delivered"], 4 * clients, "{report}");
    assert_eq!(report["transport"]["pings"], 2 * clients);
    assert_eq!(report["user_bytes_per_connection"]["predicted"], 32);
    server.each(|_, client| {
        let mut first = vec![0x8a, 0x80 | 13, 0, 0, 0, 0];
        first.extend_from_slice(b"are you there");
        assert_eq!(client.receive(first.len()), first);
        assert_eq!(client.receive(6), [0x8a, 0x80, 0, 0, 0, 0]);
    });
}

#[test]
fn without_sockets_what_a_server_drops_repeats_tears_or_ends_is_told() {
    if !enter_namespace() {
        return;
    }
    let server = Server::start();
    let swarm = swarm(&server, 6, &[]);
    what_is_wrong_is_told(server, swarm);
}

#[test]
fn segments_that_are_lost_on_their_way_are_told_and_what_they_carried_is_only_late() {
    if !enter_namespace() {
        return;
    }
    let clients = 40;
    let mut server = Server::start();
    let mut swarm = swarm(&server, clients, &["--drop-per-mille", "30"]);
    server.accept(clients, b"");
    let from_ns = swarm.window();
    for number in 1..=40 {
        server.each(|_, client| client.send(&message(number, from_ns + number)));
    }
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    assert_eq!((&report["delivered"], &report["lost"]), (&(40 * clients).into(), &0.into()), "{report}");
    let transport = |name: &str| report["transport"][name].as_u64().unwrap();
    assert!(transport("dropped_on_purpose") > 0 && transport("ahead_of_missing_ones") > 0, "{report}");
    assert!(transport("retransmitted_by_server") > 0, "{report}");
    // 200 ms, or as long as it takes until three segments are ahead.
    assert!(report["latency_us"]["max"].as_f64().unwrap() > report["latency_us"]["p50"].as_f64().unwrap());
}

/// The server says nothing else, so that nobody but the clients can notice. They look once a second, and the server
/// sends a lost ping again after 0.2 s, then after twice as long each time: of a hundred clients some pongs are lost
/// (none in one run of 40,000), but hardly ever (one run in some 5,000) all that come within 20 seconds.
#[test]
fn a_pong_that_is_lost_on_its_way_is_sent_again() {
    if !enter_namespace() {
        return;
    }
    let clients = 100;
    let mut server = Server::start();
    let mut swarm = swarm(&server, clients, &["--drop-per-mille", "100", "--duration", "20"]);
    server.accept(clients, b"");
    swarm.window();
    server.each(|_, client| client.send(b"\x89\x01?"));
    server.each(|at, client| {
        let pong = client.receive(7);
        let zeros_or_the_same = matches!(pong[..], [0x8a, 0x81, 0, 0, 0, 0, 0 | b'?']);
        assert!(zeros_or_the_same, "{at}: {pong:?}");
    });
    let (report, _) = swarm.finish();
    assert!(report["transport"]["pongs_sent_again"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn without_sockets_all_can_come_again_and_refusals_are_told() {
    if !enter_namespace() {
        return;
    }
    let mut server = Server::start();
    let swarm_of_ten = swarm(&server, 10, &["--cycles", "2", "--duration", "0"]);
    server.accept(20, b"");
    let (report, is_ok) = swarm_of_ten.finish();
    assert!(is_ok, "{report}");
    server.each(|at, client| assert_eq!(client.is_reset(), at < 10, "{at}"));
    let nobody = Server::start().url_at("10.63.0.1");
    let error = Swarm::start(&nobody, 3, &["--engine", "xdp"]).fail();
    assert!(error.contains("connecting: Connection refused"), "{error}");
}

#[test]
fn what_the_xdp_engine_lacks_is_said_in_a_sentence() {
    let refusal = |args: &[&str]| Swarm::start("ws://10.63.0.1:1/", 3, &[&["--engine", "xdp"], args].concat()).fail();
    if !nix::unistd::geteuid().is_root() {
        assert!(refusal(&[]).contains("the xdp engine needs root"));
        return;
    }
    assert!(refusal(&["--stalled-per-mille", "5"]).contains("need --engine sockets"));
    assert!(refusal(&["--boundary", "timestamp", "--timestamp", "text:t"]).contains("counts WebSocket messages"));
    assert!(refusal(&["--interface", "fanblade-none"]).contains("fanblade-none"));
}
