//! The steps that messages cause, and that no message causes invalid steps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fanblade_feed::{Data, UnixNs};
use proptest::prelude::*;

use super::super::batch::Step;
use super::super::limits::{OLD_MESSAGES_MAX, PENDING_CHANGES_MAX, SUBJECTS_MAX};
use super::*;

/// A mapper made of the keys of `[feed.websocket]` and of the tables behind them.
fn mapper(keys: &str) -> Mapper {
    let source = format!("[feed.websocket]\n{keys}");
    let mut feeds: HashMap<String, HashMap<String, Rules>> =
        toml::from_str(&source).unwrap_or_else(|error| panic!("{error}"));
    Mapper::new(&feeds.remove("feed").unwrap().remove("websocket").unwrap())
}

fn steps_at(mapper: &mut Mapper, text: &str, at: Instant) -> Vec<String> {
    let mut batch = Batch::default();
    mapper.take(text, Arrival { unix_ns: UnixNs(7), at }, &mut batch);
    batch.steps().map(|step| words(&step)).collect()
}

/// The steps that a message causes, in words.
fn steps(mapper: &mut Mapper, text: &str) -> Vec<String> {
    steps_at(mapper, text, Instant::now())
}

fn words(step: &Step<'_>) -> String {
    match step {
        Step::Update { subject, ts_ns, data: Data::Json(text), seq } => {
            let seq = seq.map(|seq| format!(" #{seq}")).unwrap_or_default();
            format!("{subject}{seq} at {ts_ns}: {text}")
        }
        Step::Trouble { kind, text } => format!("{kind}: {text}"),
        other => format!("{other:?}"),
    }
}

const PLAIN: &str = "[[feed.websocket.map]]\nmatch = { \"/type\" = \"t\" }\nsubject = \"/V/{/s}/t\"\n";

#[test]
fn the_first_rule_that_matches_takes_a_message_as_it_stands() {
    let rules = format!(
        "{PLAIN}ts = \"/at\"\nts_format = \"ms\"\n{PLAIN}[[feed.websocket.map]]\nmatch = {{ \"/n\" = 1 }}\nsubject = \"/V/n\"\ndata = \"/v\"\n"
    );
    let mut mapper = mapper(&rules);
    let message = " {\"type\":\"t\",\n \"s\":\"BTC/USD\",\r\n\"at\":5,\"px\":1.10} ";
    let expected = "/V/BTC~2FUSD/t at 5000000: {\"type\":\"t\",  \"s\":\"BTC/USD\",  \"at\":5,\"px\":1.10}";
    assert_eq!(steps(&mut mapper, message), [expected]);
    assert_eq!(steps(&mut mapper, r#"{"n":1.0,"v":[0.10]}"#), ["/V/n at 7: [0.10]"]);
    assert_eq!(steps(&mut mapper, r#"{"n":2,"v":[0.10]}"#), [""; 0]);
    assert_eq!((mapper.totals().messages, mapper.totals().unmatched), (3, 1));
}

#[test]
fn what_is_wrong_is_told_once_for_a_message_and_counted() {
    let mut mapper = mapper(&format!("{PLAIN}each = \"/data\"\nts = \"/at\"\nsequence = \"/id\"\n"));
    let mut take = |text: &str| steps(&mut mapper, text);
    let table = [
        ("{", "malformed: not JSON: EOF while parsing an object at line 1 column 1: {"),
        (r#"{"type":"t"}"#, "malformed: there is no array where `each` says: {\"type\":\"t\"}"),
        (
            r#"{"type":"t","data":{}}"#,
            "malformed: where `each` says: invalid type: map, expected an array at line 1 column 0: {\"type\":\"t\",\"data\":{}}",
        ),
        (
            r#"{"type":"t","data":[1,{},{"s":""}]}"#,
            "malformed: there is no /s (and 2 more in it): {\"type\":\"t\",\"data\":[1,{},{\"s\":\"\"}]}",
        ),
        (
            r#"{"type":"t","data":[{"s":["x"]}]}"#,
            "malformed: /s is no text: {\"type\":\"t\",\"data\":[{\"s\":[\"x\"]}]}",
        ),
        (
            r#"{"type":"t","data":[{"s":"a","id":-1}]}"#,
            "malformed: /id is no number: {\"type\":\"t\",\"data\":[{\"s\":\"a\",\"id\":-1}]}",
        ),
    ];
    for (message, expected) in table {
        assert_eq!(take(message), [expected], "for {message}");
    }
    let long = format!(r#"{{"type":"t","data":[{{"s":"{}","id":1}}]}}"#, "x".repeat(200));
    let told = take(&long);
    assert!(
        told[0].starts_with("bad_name: `/V/xxx") && told[0].contains("a subject has at most 128 bytes"),
        "{told:?}"
    );
    assert_eq!(take(&long), [""; 0], "each name is told once");
    assert!(take(&long.replace('x', "y"))[0].contains("/V/yyy"));
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    assert!(take(&deep)[0].starts_with("malformed: nested more than 64 deep"));
    // A value whose time cannot be read is still passed on.
    let steps = take(r#"{"type":"t","data":[{"s":"a","id":1,"at":"noon"},{"s":"a","id":2}]}"#);
    assert_eq!(steps.len(), 3);
    assert_eq!(steps[0], r#"/V/a/t at 7: {"s":"a","id":1,"at":"noon"}"#);
    assert!(steps[2].starts_with("malformed: /at is no time (Rfc3339) (and 1 more in it)"), "{}", steps[2]);
    assert_eq!(mapper.totals().malformed, 14);
}

#[test]
fn numbers_that_are_a_venue_s_outlive_a_connection_others_do_not() {
    let rule = format!("{PLAIN}sequence = \"/id\"\n");
    let message = |id: u64| format!(r#"{{"type":"t","s":"a","id":{id}}}"#);
    let gap = r#"SubjectGap { subject: "/V/a/t", from: 3, to: 5 }"#;
    let mut venue = mapper(&rule);
    let mut connection = mapper(&format!("{rule}sequence_scope = \"connection\"\n"));
    for mapper in [&mut venue, &mut connection] {
        assert_eq!(steps(mapper, &message(2)).len(), 1);
        mapper.begin_connection();
    }
    assert_eq!(steps(&mut venue, &message(5))[0], gap);
    assert_eq!(steps(&mut connection, &message(5)).len(), 1, "another numbering");
    assert_eq!(steps(&mut venue, &message(5)), [""; 0]);
    assert_eq!(venue.totals().duplicates, 1);
    for _ in 0..OLD_MESSAGES_MAX - 1 {
        assert_eq!(steps(&mut venue, &message(1)), [""; 0]);
    }
    assert!(steps(&mut venue, &message(1))[0].starts_with("sequence_restart: /V/a/t: the numbers begin anew at 1"));
}

#[test]
fn of_numbers_that_stay_0_none_is_missing() {
    for settings in [format!("{PLAIN}sequence = \"/id\"\n"), format!("sequence = \"/id\"\n{PLAIN}")] {
        let mut mapper = mapper(&settings);
        let message = r#"{"type":"t","s":"a","id":0}"#;
        let told: Vec<String> = (0..2 * OLD_MESSAGES_MAX).flat_map(|_| steps(&mut mapper, message)).collect();
        assert!(told.iter().any(|step| step.starts_with("sequence_restart: ")), "{told:?}");
        assert!(told.iter().all(|step| !step.contains("Gap")), "{told:?}");
    }
}

#[test]
fn the_venue_s_numbers_can_be_ours() {
    let keys = "seq = \"/q\"\nsequence = \"/q\"\nis_venue_wide = true\n";
    let mut mapper = mapper(&format!("{keys}{PLAIN}"));
    let message = |q: &str| format!(r#"{{"type":"t","s":"a","q":{q}}}"#);
    assert_eq!(steps(&mut mapper, &message("41"))[0], r#"/V/a/t #41 at 7: {"type":"t","s":"a","q":41}"#);
    mapper.begin_connection();
    let after = steps(&mut mapper, &message("44"));
    assert_eq!(after[0], "Gap { from: 42, to: 44 }", "what was lost with the connection");
    assert!(after[1].starts_with("/V/a/t #44"));
    assert_eq!(steps(&mut mapper, &message("44")), [""; 0], "it has been there");
    assert!(steps(&mut mapper, &message("null"))[0].starts_with("malformed"));
}

#[test]
fn a_venue_s_refusal_is_told_in_its_words() {
    let keys = "error = [{ \"/type\" = \"error\" }, { \"/ok\" = false }]\nerror_text = \"/why\"\n";
    let mut mapper = mapper(&format!("{keys}{PLAIN}"));
    let mut take = |text: &str| steps(&mut mapper, text);
    assert_eq!(take(r#"{"type":"error","why":"no\nsuch symbol"}"#), ["refused: the server says: no such symbol"]);
    assert_eq!(take(r#"{"ok":false}"#), ["refused: the server says: {\"ok\":false}"]);
    assert_eq!(take(r#"{"ok":true}"#), [""; 0]);
}

#[test]
fn who_is_asked_again_is_not_asked_too_often() {
    let rule = format!(
        "{PLAIN}sequence = \"/id\"\non_gap = \"resubscribe\"\nresubscribe = ['{{\"un\":\"{{/s}}\"}}', '{{\"sub\":\"{{/s}}\"}}']\n"
    );
    let mut mapper = mapper(&rule);
    let start = Instant::now();
    let mut take = |id: u64, ms: u64| {
        let message = format!(r#"{{"type":"t","s":"a\"b","id":{id}}}"#);
        let steps = steps_at(&mut mapper, &message, start + Duration::from_millis(ms));
        steps.into_iter().filter(|step| step.starts_with("Send")).collect::<Vec<_>>()
    };
    assert_eq!(take(1, 0), [""; 0]);
    let asked = [r#"Send("{\"un\":\"a\\\"b\"}")"#, r#"Send("{\"sub\":\"a\\\"b\"}")"#];
    assert_eq!(take(3, 1), asked, "escapes stay");
    assert_eq!(take(5, 2_000), [""; 0]);
    assert_eq!(take(7, 5_001), asked);
}

#[test]
fn what_is_read_twice_or_by_halves() {
    let mut mapper = mapper(PLAIN);
    let mut take = |text: &str| steps(&mut mapper, text);
    assert_eq!(take("\u{feff}{\"type\":\"t\",\"s\":\"a\"}").len(), 1, "a byte order mark is ignored");
    assert_eq!(
        take(r#"{"type":"t","s":"a","s":"b"}"#)[0],
        r#"/V/b/t at 7: {"type":"t","s":"a","s":"b"}"#,
        "the last counts"
    );
    assert!(take(r#"{"type":"t","s":"a","x":"\ud800"}"#)[0].starts_with("malformed: half of a surrogate pair"));
    assert_eq!(take(r#"{"type":"t","s":"a\u0000b"}"#)[0].split(' ').next(), Some("/V/a~00b/t"));
    assert_eq!(take(r#"["t","a"]"#), [""; 0], "an array is no object");
}

/// Rules for Coinbase's books, which resubscribe after a gap.
const BOOK: &str = "[[feed.websocket.map]]\nmatch = { \"/type\" = \"snapshot\" }\nsubject = \"/V/{/s}/b\"\nbook = \"coinbase\"\n\
    on_gap = \"resubscribe\"\nresubscribe = ['{\"sub\":\"{/s}\"}']\n\
    [[feed.websocket.map]]\nmatch = { \"/type\" = \"l2\" }\nsubject = \"/V/{/s}/b\"\nbook = \"coinbase\"\nsequence = \"/n\"\n\
    on_gap = \"resubscribe\"\nresubscribe = ['{\"sub\":\"{/s}\"}']\n\
    [[feed.websocket.map]]\nmatch = { \"/type\" = \"heartbeat\" }\nsubject = \"/V/{/s}/b\"\nsequence = \"/n\"\npublish = false\n";
const WHOLE: &str = r#"{"type":"snapshot","s":"a","bids":[["1","1"]],"asks":[]}"#;
const SHOWN: &str = r#"/V/a/b at 7: {"bids":[["1","1"]],"asks":[]}"#;
const MARKED: &str = r#"/V/a/b at 7: {"bids":[["1","1"]],"asks":[],"incomplete":true}"#;
const ASKED: &str = r#"Send("{\"sub\":\"a\"}")"#;

fn change(number: u64, price: &str) -> String {
    format!(r#"{{"type":"l2","s":"a","n":{number},"changes":[["buy",{price},"1"]]}}"#)
}

#[test]
fn a_book_is_marked_at_once_when_something_is_missing_and_until_a_snapshot() {
    let mut mapper = mapper(BOOK);
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);
    assert_eq!(steps(&mut mapper, &change(1, "1")), [""; 0], "nothing has changed");
    let gap = r#"SubjectGap { subject: "/V/a/b", from: 2, to: 3 }"#;
    assert_eq!(steps(&mut mapper, &change(3, "1")), [gap, ASKED, MARKED]);
    let more = r#"/V/a/b at 7: {"bids":[["2","1"],["1","1"]],"asks":[],"incomplete":true}"#;
    assert_eq!(steps(&mut mapper, &change(4, "2")), [more], "what comes goes in");
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);

    // A heartbeat shows the gap.
    let heartbeat = r#"{"type":"heartbeat","s":"a","n":5}"#;
    assert_eq!(steps(&mut mapper, heartbeat), [""; 0]);
    assert_eq!(steps(&mut mapper, heartbeat), [r#"SubjectGap { subject: "/V/a/b", from: 5, to: 6 }"#, MARKED]);
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);

    // A message that cannot be read.
    let told = steps(&mut mapper, r#"{"type":"l2","s":"a","n":6,"changes":{}}"#);
    assert!(told[0].starts_with("malformed_book: /V/a/b, update 0: invalid type: map"), "{told:?}");
    assert_eq!(told.last().unwrap(), MARKED);
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);
}

#[test]
fn a_gap_of_the_connection_marks_all_books() {
    let mut mapper = mapper(&format!("sequence = \"/all\"\n{BOOK}"));
    let numbered = |text: &str, number: u64| text.replacen('{', &format!("{{\"all\":{number},"), 1);
    assert_eq!(steps(&mut mapper, &numbered(WHOLE, 1)), [SHOWN]);
    assert_eq!(steps(&mut mapper, &numbered(r#"{"x":1}"#, 3)), ["Gap { from: 2, to: 3 }", MARKED]);
    assert_eq!(steps(&mut mapper, &numbered(r#"{"x":1}"#, 5)), ["Gap { from: 4, to: 5 }"], "once");
    assert_eq!(steps(&mut mapper, &numbered(WHOLE, 6)), [SHOWN]);
}

fn end_connection(mapper: &mut Mapper) -> Vec<String> {
    let mut batch = Batch::default();
    mapper.end_connection(Arrival { unix_ns: UnixNs(7), at: Instant::now() }, &mut batch);
    batch.steps().map(|step| words(&step)).collect()
}

#[test]
fn the_end_of_a_connection_marks_its_books_once() {
    let mut mapper = mapper(BOOK);
    assert_eq!(end_connection(&mut mapper), [""; 0]);
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);
    assert_eq!(end_connection(&mut mapper), [MARKED]);
    assert_eq!(end_connection(&mut mapper), [""; 0]);
    mapper.begin_connection();
    assert_eq!(steps(&mut mapper, &change(1, "3")), [""; 0], "the change of no book");
    assert_eq!(mapper.totals().without_book, 1);
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);

    // If the venue's numbers are ours, a mark has no number, so that there is none.
    let keys = "seq = \"/q\"\nsequence = \"/q\"\nis_venue_wide = true\n";
    let mut numbered = super::tests::mapper(&format!("{keys}{BOOK}"));
    assert_eq!(steps(&mut numbered, &WHOLE.replace("\"s\"", "\"q\":1,\"s\"")).len(), 1);
    assert_eq!(end_connection(&mut numbered), [""; 0]);
}

#[test]
fn one_bad_level_does_not_blank_a_book_and_asking_in_vain_becomes_rare() {
    let mut mapper = mapper(BOOK);
    let start = Instant::now();
    let bad = r#"{"type":"snapshot","s":"a","bids":[["1","1"],["x","1"]],"asks":[]}"#;
    let mut asked = Vec::new();
    for s in 0..1_000 {
        let told = steps_at(&mut mapper, bad, start + Duration::from_secs(s));
        assert_eq!(
            told[0],
            "bad_level: /V/a/b: `x` is no level of a book; it is left out, and the book incomplete until a snapshot"
        );
        assert_eq!(told.iter().any(|step| step == MARKED), s == 0, "shown, marked, once: {told:?}");
        if told.iter().any(|step| step == ASKED) {
            asked.push(s);
        }
    }
    assert_eq!(asked, [0, 5, 15, 35, 75, 155, 315, 615, 915], "twice as long each time, up to 300 s");
    assert_eq!(steps(&mut mapper, WHOLE), [SHOWN]);
}

#[test]
fn subjects_with_numbers_are_bounded() {
    let mut mapper = mapper(&format!("{PLAIN}sequence = \"/id\"\n"));
    let mut batch = Batch::default();
    let arrival = Arrival { unix_ns: UnixNs(7), at: Instant::now() };
    for number in 0..=SUBJECTS_MAX {
        batch.clear();
        mapper.take(&format!(r#"{{"type":"t","s":{number},"id":1}}"#), arrival, &mut batch);
    }
    let steps: Vec<String> = batch.steps().map(|step| words(&step)).collect();
    assert_eq!(steps, ["too_many_subjects: /V/65536/t would be one more than 65536; it is dropped"]);
}

proptest! {
    /// Whatever messages come, no step passes on an invalid subject, or a value that is not JSON on one line.
    #[test]
    fn any_message_gives_valid_steps_or_none(messages in prop::collection::vec(message(), 1..8)) {
        let rules = format!(
            "error = {{ \"/e\" = \"*\" }}\nsequence = \"/n\"\n{PLAIN}each = \"/d/*\"\nsequence = \"/id\"\nts = \"^/ts\"\n\
             [[feed.websocket.map]]\nmatch = {{ \"/type\" = \"b\" }}\nsubject = \"/V/{{/s}}/b\"\nbook = \"kraken\"\n\
             [[feed.websocket.map]]\nmatch = {{ \"/type\" = \"snapshot\" }}\nsubject = \"/V/{{/s}}/b\"\nbook = \"coinbase\"\n"
        );
        let mut mapper = mapper(&rules);
        for text in messages {
            let mut batch = Batch::default();
            mapper.take(&text, Arrival { unix_ns: UnixNs(7), at: Instant::now() }, &mut batch);
            for step in batch.steps() {
                if let Step::Update { subject, data: Data::Json(json), .. } = step {
                    prop_assert!(fanblade_ring::subject::check(subject).is_ok() && !fanblade_ring::subject::is_pattern(subject));
                    prop_assert!(serde_json::from_str::<serde_json::Value>(json).is_ok() && !json.contains(['\n', '\r']));
                }
            }
        }
    }
}

/// Messages that are nearly valid: the names that the rules look for, with values that may be right.
fn message() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"t\"".to_owned()),
        Just("\"b\"".to_owned()),
        Just("\"snapshot\"".to_owned()),
        any::<u8>().prop_map(|number| number.to_string()),
        "[0-9]{1,3}\\.[0-9]{1,3}",
        "\"[ -!#-\\[\\]-~]{0,6}\"",
        ".{0,3}",
    ];
    leaf.prop_recursive(5, 64, 5, |inner| {
        let name = prop::sample::select(vec!["type", "d", "s", "id", "n", "e", "ts", "bids", "asks", "price", "qty"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",\n"))),
            prop::collection::vec((name, inner), 0..6).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

/// A book that is fetched, and its change number `n`.
const FETCHED: &str = "[[feed.websocket.map]]\nmatch = { \"/e\" = \"depthUpdate\" }\nsubject = \"/V/{/s}/book\"\n\
                       book = \"binance\"\nbook_snapshot = \"https://h/depth?symbol={/s}\"\n";

#[test]
fn changes_that_find_no_place_to_wait_for_the_snapshot_are_counted_as_dropped() {
    let mut mapper = mapper(FETCHED);
    let change = |n: usize| format!(r#"{{"e":"depthUpdate","s":"A","U":{n},"u":{n},"b":[["1","{n}"]],"a":[]}}"#);
    let more = 3;
    for n in 1..=PENDING_CHANGES_MAX + more {
        steps(&mut mapper, &change(n));
    }
    let Totals { dropped, without_book, .. } = mapper.totals();
    assert_eq!((dropped, without_book), (more as u64, 0));
    // The snapshot must be as new as the oldest change that has waited.
    let mut batch = Batch::default();
    let snapshot = |last: usize| format!(r#"{{"lastUpdateId":{last},"bids":[],"asks":[]}}"#);
    let arrival = Arrival { unix_ns: UnixNs(7), at: Instant::now() };
    mapper.take_snapshot("/V/A/book", Ok(&snapshot(more - 1)), arrival, &mut batch);
    let told: Vec<String> = batch.steps().map(|step| words(&step)).collect();
    assert_eq!(
        told,
        ["book_snapshot: /V/A/book: the snapshot at 2 is older than the first change, 4; it is fetched again"]
    );
    batch.clear();
    mapper.take_snapshot("/V/A/book", Ok(&snapshot(more)), arrival, &mut batch);
    let told: Vec<String> = batch.steps().map(|step| words(&step)).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains(r#""10003""#), "{told:?}");
}
