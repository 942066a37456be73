//! The TCP servers of the test exchange, as their clients see them.

mod common;

use std::net::SocketAddr;

use common::exchange::{Exchange, file_messages, join, loopback_group, messages, receive_until_end};
use common::simulated_file;
use common::soup::{Received, SoupClient};
use fanblade_feed::UnixNs;
use fanblade_feed::soupbintcp::Packet;
use fanblade_market::{Market, encode};

const ANYBODY: [&str; 2] = ["user", "secret"];

fn login(server: SocketAddr, sequence: u64) -> SoupClient {
    let (client, answer) = SoupClient::login(server, ANYBODY, "", sequence);
    assert!(matches!(answer, Received::Accepted(session, _) if session == "12302019"));
    client
}

#[test]
fn every_message_comes_by_soupbintcp_also() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 4_000);
    let expected: Vec<_> = file_messages(&path).into_iter().map(|(_, bytes)| bytes).collect();
    let group = loopback_group();
    let args = ["--to", &group, "--soup", "127.0.0.1:0", "--speed", "max", "--rate", "10000", "--linger", "60"];
    let mut exchange = Exchange::start(&[&[path.to_str().unwrap(), "--wait-for", "stdin"], &args[..]].concat());
    let server = exchange.address("soup");

    // Before the first message only heartbeats come; a login for a number beyond the end gets the next message.
    let (mut early, answer) = SoupClient::login(server, ANYBODY, "12302019", 1);
    assert_eq!(answer, Received::Accepted("12302019".to_owned(), 1));
    assert_eq!(SoupClient::login(server, ANYBODY, "", 77).1, Received::Accepted("12302019".to_owned(), 1));
    assert_eq!(early.receive(), Received::Heartbeat);
    exchange.begin();
    let (got, end) = early.messages();
    assert!(got == expected, "{} messages", got.len());
    assert_eq!(end, Received::EndOfSession);

    // Later logins: from a given number on, or from now on, which brings no messages.
    let (got, end) = login(server, 1_501).messages();
    assert!(got == expected[1_500..], "{} messages", got.len());
    assert_eq!(end, Received::EndOfSession);
    let (mut client, answer) = SoupClient::login(server, ANYBODY, "", 0);
    assert_eq!(answer, Received::Accepted("12302019".to_owned(), 4_001));
    assert_eq!(client.messages(), (vec![], Received::EndOfSession));
    client.send(&Packet::ClientHeartbeat);
    client.send(&Packet::LogoutRequest);
    assert_eq!(client.messages(), (vec![], Received::Closed));

    exchange.interrupt();
    let soup = &exchange.report()["soup"];
    assert_eq!((&soup["logins"], &soup["rejected"], &soup["completed"]), (&4.into(), &0.into(), &3.into()));
    assert_eq!(soup["messages"], 4_000 + 2_500);
}

#[test]
fn wrong_logins_are_rejected_and_garbage_ends_a_connection() {
    let group = loopback_group();
    let args = ["--to", &group, "--soup", "127.0.0.1:0", "--user", "User01", "--password", "secret"];
    let exchange = Exchange::start(&[&["sim", "--symbols", "10", "--glimpse", "127.0.0.1:0"], &args[..]].concat());
    for server in [exchange.address("soup"), exchange.address("glimpse")] {
        let answer = |name, session| SoupClient::login(server, name, session, 1).1;
        assert_eq!(answer(["User01", "wrong"], ""), Received::Rejected(b'A'));
        assert_eq!(answer(["User02", "secret"], ""), Received::Rejected(b'A'));
        assert_eq!(answer(["User01", "secret"], "MONDAY"), Received::Rejected(b'S'));
        assert_eq!(answer(["USER01", "SECRET"], "SIMULATED"), Received::Accepted("SIMULATED".to_owned(), 1));
        let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", b"\0\x01R", b"\0\0", b"\0\x02Zz"];
        for garbage in garbage {
            let mut client = SoupClient::connect(server);
            client.send_bytes(garbage);
            assert_eq!(client.messages(), (vec![], Received::Closed), "{}", garbage.escape_ascii());
        }
        let (mut client, _) = SoupClient::login(server, ["User01", "secret"], "", 1);
        client.send_bytes(b"\0\x01S");
        assert_eq!(client.messages().1, Received::Closed, "what only a server says");
    }
    exchange.interrupt();
    let report = exchange.report();
    for name in ["soup", "glimpse"] {
        assert_eq!((&report[name]["logins"], &report[name]["rejected"]), (&2.into(), &3.into()), "{report}");
    }
}

/// Everything that a market knows, as text.
fn images(market: &mut Market) -> Vec<String> {
    let mut lines = Vec::new();
    market.images(0, &mut |update| {
        let (mut subject, mut json) = (String::new(), Vec::new());
        update.subject(&mut subject);
        encode::json(&mut json, &subject, 0, 0, UnixNs(0), &update.image);
        lines.push(String::from_utf8(json).unwrap());
    });
    lines
}

fn apply<'a>(market: &mut Market, messages: impl IntoIterator<Item = &'a Vec<u8>>) {
    for message in messages {
        market.apply(1, message, &mut |_| {}).unwrap();
    }
}

#[test]
fn a_snapshot_and_what_follows_are_the_whole_day() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 6_000);
    let all: Vec<_> = file_messages(&path).into_iter().map(|(_, bytes)| bytes).collect();
    let group = loopback_group();
    let receiver = receive_until_end(join(&group));
    let args = ["--to", &group, "--glimpse", "127.0.0.1:0", "--speed", "max", "--rate", "1500", "--linger", "60"];
    let mut exchange = Exchange::start(&[&[path.to_str().unwrap(), "--wait-for", "stdin"], &args[..]].concat());
    let server = exchange.address("glimpse");
    assert_eq!(login(server, 1).snapshot(), (vec![], 1), "before the first message");
    exchange.begin();
    let mut snapshots = Vec::new();
    while snapshots.last().is_none_or(|&(_, next)| next <= 6_000) {
        snapshots.push(login(server, 1).snapshot());
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    let multicast = messages(&receiver.join().unwrap());
    let mut whole = Market::new("NASDAQ", UnixNs(0));
    apply(&mut whole, &all);
    let whole = images(&mut whole);
    assert!(whole.len() > 200, "{}", whole.len());
    for (snapshot, next) in &snapshots {
        let (mut early, mut late) = (Market::new("NASDAQ", UnixNs(0)), Market::new("NASDAQ", UnixNs(0)));
        apply(&mut early, &all[..usize::try_from(*next).unwrap() - 1]);
        apply(&mut late, snapshot);
        assert_eq!(images(&mut late), images(&mut early), "at {next}");
        assert_eq!((late.orders(), late.counters().malformed), (early.orders(), 0));
        apply(&mut late, multicast.iter().filter(|(seq, _)| seq >= next).map(|(_, bytes)| bytes));
        assert_eq!(images(&mut late), whole, "from {next} on");
    }
    assert!(snapshots.iter().any(|&(_, next)| (2..6_000).contains(&next)), "{:?}", snapshots.len());

    let count: usize = snapshots.iter().map(|(snapshot, _)| snapshot.len() + 1).sum();
    exchange.interrupt();
    let glimpse = &exchange.report()["glimpse"];
    assert_eq!((&glimpse["messages"], &glimpse["completed"]), (&(1 + count).into(), &(1 + snapshots.len()).into()));
}

/// A snapshot lists orders in queue order: the first order at a price stays the first.
#[test]
fn orders_of_a_snapshot_keep_their_places() {
    let directory = tempfile::tempdir().unwrap();
    let path = simulated_file(&directory, 5_000);
    let group = loopback_group();
    let receiver = receive_until_end(join(&group));
    let args = ["--to", &group, "--glimpse", "127.0.0.1:0", "--speed", "max", "--rate", "20000", "--linger", "60"];
    let exchange = Exchange::start(&[&[path.to_str().unwrap()], &args[..]].concat());
    let multicast = messages(&receiver.join().unwrap());
    let (snapshot, next) = login(exchange.address("glimpse"), 1).snapshot();
    assert_eq!(next, 5_001);
    // When each order got its place: when it was added, or replaced an older one.
    let mut entered = std::collections::HashMap::new();
    for (seq, message) in &multicast {
        let field = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().unwrap());
        match message[0] {
            b'A' | b'F' => drop(entered.insert(field(11), *seq)),
            b'U' => drop(entered.insert(field(19), *seq)),
            _ => {}
        }
    }
    let orders = snapshot.iter().filter(|message| matches!(message[0], b'A' | b'F'));
    let places: Vec<u64> =
        orders.map(|order| entered[&u64::from_be_bytes(order[11..19].try_into().unwrap())]).collect();
    assert!(places.len() > 100 && places.is_sorted_by(|one, other| one < other));
    let kinds: Vec<u8> = snapshot.iter().map(|message| message[0]).collect();
    assert!(kinds.starts_with(b"SV") && kinds.contains(&b'R') && kinds.contains(&b'H'));
}
