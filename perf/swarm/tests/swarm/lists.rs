//! Clients with lists of their own: what each gets is checked against its list, for any server.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use fanblade_wire::UnixNs;
use fanblade_wire::frame::{Opcode, write_frame};
use fanblade_wire::handshake::{self, Head};
use serde_json::{Value, json};

use super::MARKERS;
use super::blade::Blade;
use super::swarm::{Swarm, is_uring_missing};

const SUBJECTS: u32 = 20;
const LISTS: [&str; 6] = ["--subjects", "20", "--subjects-per-client", "4", "--subject-number", r#"text:"k":"#];
const LEAVE: &str = r#"{"op":"unsubscribe","id":{subject},"subjects":["/K/{subject}/v"]}"#;
const TAKE: &str = r#"{"op":"subscribe","id":{subject},"subjects":["/K/{subject}/v"],"mode":"all"}"#;

/// A client of a server that says what the test wants: its socket, and the list in its address.
fn accept(listener: &TcpListener) -> (TcpStream, Vec<u32>) {
    let (mut socket, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    loop {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
        let Head::Upgrade(upgrade) = handshake::parse(&request, 0) else { continue };
        let mut answer = Vec::new();
        upgrade.response(None, &mut answer);
        let text = String::from_utf8_lossy(&request).into_owned();
        let numbers = text.split(' ').nth(1).unwrap().trim_start_matches('/');
        let list = numbers.split(',').map(|number| number.parse().unwrap()).collect();
        socket.write_all(&answer).unwrap();
        return (socket, list);
    }
}

fn frame(subject: u32, number: u64, ts_ns: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    let text = format!(r#"{{"k":{subject},"n":{number},"ts":"{ts_ns}","pad":"xxxxxxxx"}}"#);
    write_frame(&mut frame, Opcode::Text, text.as_bytes());
    frame
}

/// Sends three messages of each subject, cut anywhere. `says` decides which of them client number `at` gets, given its
/// list.
fn play(says: impl Fn(usize, &BTreeSet<u32>, u32, u64) -> bool) -> (Value, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/{{subjects|{{subject}}|}}", listener.local_addr().unwrap());
    let mut swarm = Swarm::start(&url, 5, &[&MARKERS[..], &LISTS].concat());
    let mut clients: Vec<(TcpStream, BTreeSet<u32>)> = Vec::new();
    for _ in 0..5 {
        let (socket, list) = accept(&listener);
        assert_eq!(list.len(), 4, "{list:?}");
        clients.push((socket, list.into_iter().collect()));
    }
    let from_ns = swarm.window();
    for (at, (socket, list)) in clients.iter_mut().enumerate() {
        let all = (1..=3).flat_map(|number| (0..SUBJECTS).map(move |subject| (subject, number)));
        let told = all.filter(|(subject, number)| says(at, list, *subject, *number));
        let stream: Vec<u8> = told.flat_map(|(subject, number)| frame(subject, number, from_ns + number)).collect();
        // Cuts in the middle of a message, and of a header.
        for chunk in stream.chunks(61) {
            socket.write_all(chunk).unwrap();
        }
    }
    swarm.finish()
}

#[test]
fn each_client_gets_what_is_in_its_list() {
    if is_uring_missing() {
        return;
    }
    let (report, is_ok) = play(|_, list, subject, _| list.contains(&subject));
    assert!(is_ok, "{report}");
    assert_eq!((&report["delivered"], &report["due"], &report["lost"]), (&json!(60), &json!(60), &json!(0)));
    let seen = report["subjects_seen"].as_array().unwrap();
    assert!(seen.iter().all(|count| count.is_null() || *count == 3), "{seen:?}");
}

#[test]
fn what_is_lost_at_an_end_or_between_or_not_asked_for_is_told() {
    if is_uring_missing() {
        return;
    }
    // One client lacks the last message of every subject that it has, one lacks those in between, and one gets a
    // message of a subject that it does not have. If only one client has a subject, nobody notices that its last
    // message is missing.
    let (report, is_ok) = play(|at, list, subject, number| match at {
        0 => list.contains(&subject) && number != 3,
        1 => list.contains(&subject) && number != 2,
        2 => {
            list.contains(&subject) || (subject == (0..SUBJECTS).find(|it| !list.contains(it)).unwrap() && number == 1)
        }
        _ => list.contains(&subject),
    });
    assert!(!is_ok);
    let verdict = report["verdict"].as_str().unwrap();
    assert_eq!((&report["missing"], &report["unasked"]), (&json!(4), &json!(1)), "{report}");
    let lost = report["lost"].as_u64().unwrap();
    assert!((5..=8).contains(&lost), "{lost}: {verdict}");
    assert!(
        verdict.contains("missing in a client's sequence") && verdict.contains("nobody has asked for"),
        "{verdict}"
    );
}

/// Over the blade's own data path, with messages and changes at the same time.
#[test]
fn lists_change_while_messages_come_and_each_is_counted() {
    if is_uring_missing() {
        return;
    }
    let mut blade = Blade::start();
    let target = r"/v1/stream?subjects={subjects|/K/{subject}/v|}&mode=all";
    let changes = ["--changes-per-s", "100", "--leave", LEAVE, "--take", TAKE];
    let args = ["--expect-preamble", "1", "--duration", "2", "--threads", "2"];
    let mut swarm = Swarm::start(&blade.url(target), 60, &[&MARKERS[..], &LISTS, &args, &changes].concat());
    let from_ns = swarm.window();
    let now_ns = || UnixNs::now().0;
    let mut number = 0;
    while now_ns() < from_ns + 2_000_000_000 {
        number += 1;
        for subject in 0..SUBJECTS {
            let data = format!(r#"{{"k":{subject},"n":{number},"ts":"{}"}}"#, now_ns());
            blade.publish(&format!("/K/{subject}/v"), &data);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (report, is_ok) = swarm.finish();
    assert!(is_ok, "{report}");
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("delivered") >= count("due") && count("due") > 0, "{report}");
    // A busy machine makes fewer changes; none is made twice or left without an answer.
    let changes = &report["changes"];
    assert!(changes["made"].as_u64().unwrap() > 10 && changes["unanswered"] == 0, "{changes}");
    assert!(count("snapshots") > 0, "what was put in the place of another begins with its newest message: {report}");
}

#[test]
fn lists_that_cannot_be_counted_are_refused() {
    let refusal = |args: &[&str]| Swarm::start("ws://127.0.0.1:1/", 2, args).fail();
    let unmarked = refusal(&["--subjects", "20", "--subjects-per-client", "4"]);
    assert!(unmarked.contains("--subject-number"), "{unmarked}");
    let slow = refusal(&[&MARKERS[..], &LISTS, &["--slow-per-mille", "1"]].concat());
    assert!(slow.contains("all of them read"), "{slow}");
    let too_long = [&MARKERS[..], &LISTS[2..], &["--subjects", "4"]].concat();
    assert!(refusal(&too_long).contains("fewer than the 4 that there are"));
    let silent = refusal(&[&MARKERS[..], &LISTS, &["--changes-per-s", "5"]].concat());
    assert!(silent.contains("--leave"), "{silent}");
}
