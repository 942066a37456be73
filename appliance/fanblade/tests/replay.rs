//! The test exchange, as its receivers see it.

mod common;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::UdpSocket;

use common::exchange::{
    Exchange, file_messages, join, loopback_group, messages, receive, receive_soon, receive_until_end,
};
use common::{fanblade, simulated_file};
use fanblade_feed::moldudp64::{Kind, Packet, Request};

/// Slow enough for a receiver on a busy machine; besides, all packets of a test fit its buffer.
const CALM: [&str; 6] = ["--speed", "max", "--rate", "10000", "--linger", "0"];

/// Plays a file over both lines with these arguments; returns the packets of A and B, and the report.
fn play(file: &str, args: &[&str]) -> ([Vec<Vec<u8>>; 2], serde_json::Value) {
    let (a, b) = (loopback_group(), loopback_group());
    let receivers = [&a, &b].map(|group| receive_until_end(join(group)));
    let exchange = Exchange::start(&[&[file, "--to", &a, "--to-b", &b], &CALM[..], args].concat());
    let lines = receivers.map(|receiver| receiver.join().unwrap());
    (lines, exchange.report())
}

/// The sequence numbers of packets with messages, in the order in which they came.
fn sequences(packets: &[Vec<u8>]) -> Vec<u64> {
    let parsed = packets.iter().map(|packet| Packet::parse(packet).unwrap());
    parsed.filter(|packet| matches!(packet.kind(), Kind::Messages(_))).map(|packet| packet.sequence()).collect()
}

#[test]
fn a_file_arrives_byte_for_byte_on_both_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 5_000);
    let expected = file_messages(&path);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(&path).unwrap()).unwrap();
    let gzipped = directory.path().join("12302019.gz");
    std::fs::write(&gzipped, encoder.finish().unwrap()).unwrap();
    for file in [&path, &gzipped] {
        let (lines, report) = play(file.to_str().unwrap(), &[]);
        for packets in &lines {
            assert_eq!(messages(packets), expected);
            assert!(packets.iter().all(|packet| packet.len() <= 1_400 && packet.starts_with(b"12302019  ")));
            let end = Packet::parse(packets.last().unwrap()).unwrap();
            assert_eq!((end.kind(), end.sequence()), (Kind::EndOfSession, 5_001));
        }
        assert_eq!((&report["messages"], &report["session"]), (&5_000.into(), &"12302019".into()));
        for (line, packets) in ["line_a", "line_b"].iter().zip(&lines) {
            assert_eq!(report[line]["packets"], sequences(packets).len());
            assert_eq!((&report[line]["dropped"], &report[line]["send_errors"]), (&0.into(), &0.into()));
        }
    }
}

#[test]
fn faults_are_those_of_the_seed_on_each_line_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 2_500);
    let path = path.to_str().unwrap();
    let faults = ["--packet-len", "250", "--drop-a", "5", "--drop-b", "10", "--reorder", "2", "--duplicate", "3"];
    let whole: BTreeSet<u64> = sequences(&play(path, &faults[..2]).0[0]).into_iter().collect();
    let [seven, again, eight] = ["7", "7", "8"].map(|seed| play(path, &[&faults[..], &["--seed", seed]].concat()));
    let order = |lines: &[Vec<Vec<u8>>; 2]| [sequences(&lines[0]), sequences(&lines[1])];
    assert_eq!(order(&seven.0), order(&again.0));
    assert_ne!(order(&seven.0), order(&eight.0));
    assert_ne!(sequences(&seven.0[0]), sequences(&seven.0[1]));

    for (lines, report) in [seven, eight] {
        for (name, packets) in ["line_a", "line_b"].iter().zip(&lines) {
            let arrived = sequences(packets);
            let unique: BTreeSet<u64> = arrived.iter().copied().collect();
            assert!(unique.is_subset(&whole));
            let count = |field: &str| usize::try_from(report[name][field].as_u64().unwrap()).unwrap();
            assert_eq!((count("packets"), count("dropped")), (arrived.len(), whole.len() - unique.len()));
            assert_eq!(count("duplicated"), arrived.len() - unique.len());
            assert!(count("reordered") > 0 && !arrived.is_sorted());
        }
        let [a, b] = ["line_a", "line_b"].map(|line| report[line]["dropped"].as_u64().unwrap());
        assert!(a > 0 && b > a, "{report}");
    }
}

#[test]
fn what_was_missed_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 3_000);
    let expected = file_messages(&path);
    let group = loopback_group();
    let receiver = receive_until_end(join(&group));
    let args = ["--to", &group, "--speed", "max", "--rate", "10000", "--linger", "60", "--requests", "127.0.0.1:0"];
    let exchange = Exchange::start(&[&[path.to_str().unwrap(), "--session", "FRIDAY"], &args[..]].concat());
    receiver.join().unwrap();

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(exchange.address("requests")).unwrap();
    let session = *b"FRIDAY    ";
    let ask = |sequence, count| client.send(&Request { session, sequence, count }.encode()).unwrap();
    let mut next = 1_usize;
    while next <= 3_000 {
        ask(next as u64, 0xfffe);
        let answer = receive(&client);
        assert!(answer.len() <= 1_400);
        let answer = messages(&[answer]);
        assert_eq!(answer, expected[next - 1..][..answer.len()]);
        next += answer.len();
    }
    ask(2_999, 1);
    assert_eq!(messages(&[receive(&client)]), expected[2_998..2_999], "no more than was asked for");

    // The exchange answers none of these.
    ask(3_001, 1);
    ask(0, 1);
    ask(1, 0);
    client.send(&Request { session: *b"MONDAY    ", sequence: 1, count: 1 }.encode()).unwrap();
    client.send(&[b'x'; 19]).unwrap();
    client.send(&[b'x'; 2_000]).unwrap();
    ask(1, 1);
    assert_eq!(messages(&[receive(&client)]), expected[..1]);
    assert_eq!(receive_soon(&client), None);

    exchange.interrupt();
    let requests = &exchange.report()["requests"];
    assert_eq!(requests["messages"], 3_002);
    for (name, count) in [("unavailable", 3), ("unknown_session", 1), ("malformed", 2), ("dropped", 0), ("failed", 0)] {
        assert_eq!(requests[name], count, "{name}");
    }
}

#[test]
fn requests_are_lost_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 500);
    let group = loopback_group();
    let receiver = receive_until_end(join(&group));
    let args = ["--to", &group, "--linger", "60", "--requests", "127.0.0.1:0", "--drop-requests", "50"];
    let exchange = Exchange::start(&[&[path.to_str().unwrap()], &args[..], &CALM[..4]].concat());
    receiver.join().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(exchange.address("requests")).unwrap();
    for sequence in 1..=100 {
        client.send(&Request { session: *b"12302019  ", sequence, count: 1 }.encode()).unwrap();
    }
    let answers: Vec<_> = std::iter::from_fn(|| receive_soon(&client)).collect();
    exchange.interrupt();
    let report = exchange.report();
    assert_eq!(report["requests"]["answered"], answers.len());
    assert_eq!(report["requests"]["dropped"], 100 - answers.len());
    assert!((20..80).contains(&answers.len()), "{}", answers.len());
}

#[test]
fn it_begins_when_told_and_is_not_silent_before() {
    let group = loopback_group();
    let socket = join(&group);
    let args = ["--heartbeat", "20", "--wait-for", "stdin", "--requests", "127.0.0.1:0", "--linger", "0.1"];
    let sim = ["sim", "--messages", "300", "--symbols", "10", "--to", &group, "--speed", "max"];
    let mut exchange = Exchange::start(&[&sim[..], &args[..]].concat());
    assert_eq!(exchange.ready["a"], group);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(exchange.address("requests")).unwrap();
    client.send(&Request { session: *b"SIMULATED ", sequence: 1, count: 1 }.encode()).unwrap();
    for _ in 0..3 {
        let packet = receive(&socket);
        let packet = Packet::parse(&packet).unwrap();
        assert_eq!((packet.kind(), packet.sequence(), &packet.session()), (Kind::Heartbeat, 1, b"SIMULATED "));
    }
    let receiver = receive_until_end(socket);
    exchange.begin();
    let packets = receiver.join().unwrap();
    let numbers = messages(&packets).iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
    assert!(numbers.iter().copied().eq(1..=300), "{numbers:?}");
    let report = exchange.report();
    assert_eq!(report["requests"]["unavailable"], 1, "nothing is given away before it is published");
    // At least these heartbeats, and several packets that end the session.
    assert!(report["line_a"]["heartbeats"].as_u64().unwrap() >= 3 + 2, "{report}");
}

#[test]
fn the_packets_of_a_paced_day_are_the_simulators_own() {
    let config = fanblade_feed::simulator::SimulatorConfig {
        symbols: 20,
        messages_per_s: 1_000,
        ..fanblade_feed::simulator::SimulatorConfig::default()
    };
    let mut simulator = fanblade_feed::simulator::Simulator::new(&config).unwrap();
    let mut expected = Vec::new();
    while simulator.advance().is_some() && messages(&expected).len() < 200 {
        expected.push(simulator.packet().to_vec());
    }
    let group = loopback_group();
    let receiver = receive_until_end(join(&group));
    let args = ["--symbols", "20", "--messages-per-s", "1000", "--messages", "200", "--speed", "20", "--linger", "0"];
    let exchange = Exchange::start(&[&["sim", "--to", &group], &args[..]].concat());
    let packets = receiver.join().unwrap();
    assert_eq!(exchange.report()["messages"], 200);
    // At twenty times the speed, a packet collects the messages of twenty times the span.
    assert_eq!(messages(&packets), messages(&expected)[..200]);
    assert!(packets.len() < expected.len(), "{} of {}", packets.len(), expected.len());
}

#[test]
fn wrong_use_gets_clear_answers() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text");
    std::fs::write(&text, "no market data at all").unwrap();
    let group = "239.192.0.1:26400@lo";
    let cases: &[(&[&str], &[&str])] = &[
        (&["sim"], &["--to <GROUP:PORT[@IF]>"]),
        (&["sim", "--to", "10.0.0.1:26400"], &["10.0.0.1 is not a multicast group; those are 224.0.0.0"]),
        (&["sim", "--to", "239.192.0.1:26400@etho"], &["there is no interface `etho`; there are ", "lo"]),
        (&["sim", "--to", group, "--requests", &taken], &["cannot take requests at ", "Address already in use"]),
        (&["sim", "--to", group, "--speed", "max"], &["would go on for hours", "--duration 1h"]),
        (&["sim", "--to", group, "--symbols", "0"], &["1 to 8000 symbols, not 0"]),
        (&["sim", "--to", group, "--drop-a", "101"], &["`101` is not a percentage"]),
        (&["sim", "--to", group, "--session", "ELEVEN CHARS"], &["`ELEVEN CHARS` is not the name of a session"]),
        (&["sim", "--to", group, "--linger=-1"], &["--linger"]),
        (&["/nonexistent", "--to", group], &["cannot open /nonexistent"]),
        (&[text.to_str().unwrap(), "--to", group], &["is no BinaryFILE", "it is text"]),
    ];
    for (args, parts) in cases {
        let (code, stdout, stderr) = fanblade(&[&["replay"], *args].concat());
        assert_ne!(code, 0, "{args:?} succeeds: {stdout}");
        for part in *parts {
            assert!(stderr.contains(part), "{args:?} does not say {part:?} but: {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}
