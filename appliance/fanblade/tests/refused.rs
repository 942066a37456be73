//! When a blade cannot publish a value, it tells the publisher and the subscribers of the subject; values that are not
//! current are served as such.

mod common;

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use common::{FANBLADE, simulated_file};
use fanblade_testkit::{Blade, PATIENCE};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// A blade that is fed by publishers, with a ring of 4 MiB; and the address for publishers.
fn blade(directory: &TempDir, section: &str) -> (Blade, SocketAddr) {
    let file = directory.path().join("blade.toml");
    let socket = directory.path().join("publish.sock");
    let config = format!(
        "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nunix = {socket:?}\nstate = \"\"\n\
         {section}\n[ring]\njson = \"4MiB\"\nbinary = \"4MiB\"\nsubjects_max = 400\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--config"]).arg(&file);
    let blade = Blade::spawn(command);
    let source = blade.status()["feed"]["source"].as_str().unwrap().to_owned();
    let address = source.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
    let address = address.filter_map(|text| text.parse().ok()).next();
    (blade, address.unwrap_or_else(|| panic!("no address in {source}")))
}

/// Runs `fanblade publish`; returns its summary and standard error.
fn publish(address: &str, args: &[&str]) -> (Value, String) {
    let mut command = Command::new(FANBLADE);
    command.args(["publish", address, "--json"]).args(args).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}")), said)
}

/// A subscriber with the query of the URL, and the replies to it.
fn subscriber(blade: &Blade, query: &str) -> (WebSocket<TcpStream>, Vec<Value>) {
    let stream = TcpStream::connect(blade.data).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://{}/v1/stream?{query}", blade.data);
    let (mut socket, _) = tungstenite::client(url, stream).unwrap();
    let mut replies = Vec::new();
    loop {
        let message = next(&mut socket);
        if message["op"] == "subscribed" {
            let is_last = message["more"] != true;
            replies.push(message);
            if is_last {
                return (socket, replies);
            }
        }
    }
}

fn next(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[test]
fn a_record_is_acknowledged_when_it_is_in_the_ring_and_refused_when_it_is_not() {
    for transport in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let (blade, tcp) = blade(&directory, "");
        let address = match transport {
            0 => tcp.to_string(),
            1 => format!("unix:{}", directory.path().join("publish.sock").display()),
            _ => format!("ws://{tcp}"),
        };
        // A hundred subjects with short values, then each with a long one; the ring cannot hold all the long ones.
        let (summary, said) = publish(&address, &["--generate", "100", "--len", "30", "--count", "100"]);
        assert_eq!((&summary["acknowledged"], &summary["refused"]), (&100.into(), &0.into()), "{address}: {said}");
        let (mut all, _) = subscriber(&blade, "subjects=/**&mode=all&snapshot=false");
        let (summary, said) = publish(&address, &["--generate", "100", "--len", "60000", "--count", "200"]);
        let number = |name: &str| summary[name].as_u64().unwrap();
        let (acknowledged, refused) = (number("acknowledged"), number("refused"));
        assert_eq!((number("sent"), acknowledged + refused), (200, 200), "{address}: {summary} {said}");
        assert!(refused > 50 && acknowledged > 20, "{address}: {summary}");
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("(ring_full)")).collect();
        assert_eq!(lines.len() as u64, refused, "{address}: {said}");
        let told: HashSet<&str> = lines.iter().filter_map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(told.len() as u64, refused, "{address}: each record by its number: {said}");
        let status = blade.until("the counts", |status| {
            status["ring"]["published"] == 100 + acknowledged && status["feed"]["troubles"]["ring_full"] == refused
        });
        assert_eq!(status["ring"]["refused"], refused, "{address}");

        // Subscribers get every acknowledged value, or a gap notice in its place. Gap notices also cover all refused
        // values: they range from the value that the subscriber has to the newest one.
        let (mut newest, mut gaps) = (HashMap::new(), HashMap::new());
        let mut is_complete = false;
        while !is_complete {
            let message = next(&mut all);
            if let Some(subject) = message["s"].as_str() {
                let seq = message["q"].as_u64().unwrap();
                let prev = newest.insert(subject.to_owned(), seq);
                let told = gaps.get(subject).copied().unwrap_or(0);
                let before = message["p"].as_u64().unwrap();
                assert!(
                    prev.is_none_or(|prev| before == prev || before <= told),
                    "{address}: {before}, {prev:?}, {told}"
                );
            } else if message["kind"] == "gap" {
                let subject = message["subject"].as_str().unwrap().to_owned();
                assert!(message["from"].as_u64() < message["to"].as_u64(), "{message}");
                gaps.insert(subject, message["to"].as_u64().unwrap());
            }
            // The newest values of the subjects have the numbers 201 to 300.
            is_complete = (0..100).all(|subject| {
                let name = format!("/test/{subject}/value");
                let last = newest.get(&name).copied().unwrap_or(0).max(gaps.get(&name).copied().unwrap_or(0));
                last > 200
            });
        }
        // A late subscriber is told the same.
        let (_late, replies) = subscriber(&blade, "subjects=/**&snapshot=false");
        let subjects: Vec<&Value> = replies.iter().flat_map(|reply| reply["subjects"].as_array().unwrap()).collect();
        assert_eq!(subjects.len(), 100);
        for subject in subjects {
            let (seq, missing) = (subject["seq"].as_u64().unwrap(), subject["missing"].as_u64());
            assert!(
                missing.is_none_or(|missing| missing > seq) && missing.unwrap_or(seq) > 200,
                "{address}: {subject}"
            );
        }
        // Short values free memory, so publishing works again.
        let (summary, said) = publish(&address, &["--generate", "100", "--len", "30", "--count", "100"]);
        assert_eq!((&summary["acknowledged"], &summary["refused"]), (&100.into(), &0.into()), "{address}: {said}");
        let (_last, replies) = subscriber(&blade, "subjects=/**&snapshot=false");
        let is_whole = |subject: &Value| subject["missing"].is_null();
        assert!(replies.iter().all(|reply| reply["subjects"].as_array().unwrap().iter().all(is_whole)), "{replies:?}");
    }
}

#[test]
fn two_publishers_are_each_told_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let (blade, tcp) = blade(&directory, "");
    let publishers: Vec<_> = (0..3)
        .map(|n| {
            let (address, len) = (tcp.to_string(), ["60000", "100", "20000"][n]);
            std::thread::spawn(move || publish(&address, &["--generate", "200", "--len", len, "--count", "600"]))
        })
        .collect();
    let mut acknowledged = 0;
    for publisher in publishers {
        let (summary, said) = publisher.join().unwrap();
        let number = |name: &str| summary[name].as_u64().unwrap();
        assert_eq!(number("acknowledged") + number("refused"), 600, "{summary} {said}");
        assert_eq!(said.matches("(ring_full)").count() as u64, number("refused"), "{summary}");
        acknowledged += number("acknowledged");
    }
    blade.until("as many as were acknowledged", |status| status["ring"]["published"] == acknowledged);
}

#[test]
fn a_subject_without_a_place_is_told_to_all() {
    let directory = tempfile::tempdir().unwrap();
    let day = simulated_file(&directory, 20_000);
    let file = directory.path().join("blade.toml");
    let text = "[feed]\nwait_for = 1\n[ring]\nsubjects_max = 40\nupdates = 131072\n";
    std::fs::write(&file, text).unwrap();
    let feed = format!("file:{}", day.display());
    let blade = Blade::start(&["--workers", "1", "--feed", &feed, "--config", file.to_str().unwrap()]);
    let (mut all, _) = subscriber(&blade, "subjects=/**&mode=all");
    let status = blade.until("its end", |status| status["feed"]["state"] == "finished");
    let refused = status["feed"]["troubles"]["too_many_subjects"].as_u64().unwrap();
    assert!(refused > 1_000 && status["ring"]["subjects"] == 40, "{status:#}");
    // The last gap ends at the last refused value.
    let (mut from, mut to) = (u64::MAX, 0);
    while to < 15_000 {
        let message = next(&mut all);
        if message["kind"] == "gap" {
            assert_eq!((&message["source"], &message["subject"]), (&json!("file"), &Value::Null), "{message}");
            from = from.min(message["from"].as_u64().unwrap());
            to = message["to"].as_u64().unwrap();
        }
    }
    assert!(from < 1_000, "from the first on: {from}");
}

#[test]
fn who_comes_while_nobody_publishes_is_told_that_nothing_is_current() {
    let directory = tempfile::tempdir().unwrap();
    let (blade, tcp) = blade(&directory, "stale_without_publisher = true");
    let (summary, said) = publish(&tcp.to_string(), &["--generate", "3", "--count", "3"]);
    assert_eq!(summary["acknowledged"], 3, "{said}");
    blade.until("stale", |status| status["feed"]["state"] == "stale");
    let is_told = |replies: &[Value]| {
        replies.iter().all(|reply| (&reply["stale"], &reply["source"]) == (&json!(true), &json!("publisher")))
    };
    let (mut first, replies) = subscriber(&blade, "subjects=/**&mode=all");
    assert!(is_told(&replies), "{replies:?}");
    let (_publisher, _) =
        tungstenite::client(format!("ws://{tcp}/v1/publish"), TcpStream::connect(tcp).unwrap()).unwrap();
    loop {
        let message = next(&mut first);
        if message["op"] == "notice" {
            assert_eq!(message, json!({"op": "notice", "kind": "live", "source": "publisher"}));
            break;
        }
    }
    let (_second, replies) = subscriber(&blade, "subjects=/**&mode=all");
    assert!(replies[0]["stale"].is_null(), "{replies:?}");
}
