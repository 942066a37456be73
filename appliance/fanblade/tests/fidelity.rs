//! Nothing is lost that could be recovered, every loss is visible, and two blades on one feed agree: with real
//! multicast, between network namespaces, over lines that lose, double and reorder.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::network::Network;
use common::{FANBLADE, expected_frames, real_data};
use fanblade_feed::simulator::{SimulatorConfig, write_binaryfile};
use fanblade_testkit::{Blade, Child, PATIENCE};
use serde_json::Value;
use tempfile::TempDir;

const LINES: &str = r#"["239.78.0.1:26477@lina", "239.78.0.2:26477@linb"]"#;
const TO: [&str; 4] = ["--to", "239.78.0.1:26477@exa", "--to-b", "239.78.0.2:26477@exb"];
/// Each line loses 5 % of its own, and more; the re-request server loses as much.
const FAULTS: [&str; 12] =
    ["--drop-a", "5", "--drop-b", "5", "--reorder", "1", "--duplicate", "1", "--drop-requests", "5", "--seed", "7"];
const REQUESTS: &str = "10.78.1.1:18000";
const GLIMPSE: &str = "10.78.1.1:18001";

/// A blade on both lines, with these further lines in its section.
fn blade(directory: &TempDir, section: &str) -> Blade {
    let file = directory.path().join("blade.toml");
    let config = format!(
        "[feed]\nsource = \"moldudp64\"\ndate = \"2019-12-30\"\n[feed.moldudp64]\nlines = {LINES}\n{section}\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--config"]).arg(&file);
    Blade::spawn(command)
}

/// A subscriber to everything, and the lines that it prints.
struct Listener {
    child: Child,
    lines: JoinHandle<Vec<String>>,
}

impl Listener {
    /// Starts a subscriber that stops by itself after `count` frames.
    fn start(blade: &Blade, count: Option<usize>) -> Listener {
        let mut command = blade.subscriber(&["/NASDAQ/**", "--mode", "all", "--for", "100"]);
        if let Some(count) = count {
            command.args(["--count", &count.to_string()]);
        }
        let mut child = Child::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines = std::thread::spawn(move || output.lines().map_while(Result::ok).collect());
        blade.until("the subscriber", |status| status["totals"]["sessions_subscribed"] == 1);
        Listener { child, lines }
    }

    fn stop(mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.finish()
    }

    fn finish(mut self) -> Vec<String> {
        let _ = self.child.wait();
        self.lines.join().unwrap()
    }
}

fn is_frame(line: &str) -> bool {
    line.starts_with("{\"s\":")
}

/// An hour of a small market.
fn simulated_hour(directory: &TempDir) -> std::path::PathBuf {
    let path = directory.path().join("12302019.hour");
    let config = SimulatorConfig {
        symbols: 200,
        messages_per_s: 50,
        duration_max: Some(Duration::from_secs(3_600)),
        ..SimulatorConfig::default()
    };
    let file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let messages = write_binaryfile(&config, u64::MAX, file).unwrap();
    assert!(messages > 150_000, "an hour of {messages} messages");
    path
}

/// Plays a file to a blade over bad lines, and compares what a subscriber got with what the file gives.
fn recovers(file: &Path) {
    let Some(network) = Network::new() else { return };
    let expected = expected_frames(file);
    let directory = tempfile::tempdir().unwrap();
    let blade = blade(&directory, &format!("requests = [\"{REQUESTS}\"]\nrequest_timeout_ms = \"50ms\""));
    let listener = Listener::start(&blade, Some(expected.len()));
    let file = file.to_str().unwrap();
    let sending = ["--requests", REQUESTS, "--speed", "max", "--rate", "20000", "--packet-len", "200"];
    let replay = network.replay(&[&[file], &TO[..], &FAULTS, &sending].concat());
    let lines = listener.finish();
    let frames: Vec<&String> = lines.iter().filter(|line| is_frame(line)).collect();
    let differs = frames.iter().zip(&expected).position(|(got, expected)| *got != expected);
    assert_eq!(differs.map(|at| (at, frames[at], &expected[at])), None, "{}", blade.log());
    assert_eq!(frames.len(), expected.len(), "{:#}\n{}", blade.status(), blade.log());
    let published = expected.len() as u64;
    let status = blade.until("a report of all", |status| status["ring"]["published"].as_u64() >= Some(published));
    assert_eq!((&status["feed"]["gaps"], &status["feed"]["malformed"]), (&0.into(), &0.into()), "{status:#}");
    for line in status["feed"]["lines"].as_array().unwrap().iter().take(2) {
        assert!(line["gaps"].as_u64() > Some(0), "the line was bad: {status:#}");
        assert!(line["wins"].as_u64() > Some(0), "each was ahead at times: {status:#}");
    }
    replay.report();
}

#[test]
fn a_real_file_over_bad_lines_gives_exactly_its_frames() {
    let Some(file) = real_data("12302019_open_1000msgs.NASDAQ_ITCH50") else { return };
    recovers(&file);
}

#[test]
fn a_simulated_hour_over_bad_lines_gives_exactly_its_frames() {
    let directory = tempfile::tempdir().unwrap();
    recovers(&simulated_hour(&directory));
}

#[test]
fn without_recovery_every_lost_message_is_a_gap_that_subscribers_are_told() {
    let Some(network) = Network::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = common::simulated_file(&directory, 40_000);
    let blade = blade(&directory, "join = \"live\"");
    let listener = Listener::start(&blade, None);
    let file = file.to_str().unwrap();
    let sending = ["--speed", "max", "--rate", "10000"];
    let report = network.replay(&[&[file], &TO[..], &FAULTS, &sending].concat()).report();
    assert_eq!(report["messages"], 40_000, "{report:#}");
    let status = blade.status();
    let lines = listener.stop();
    let feed = &status["feed"];
    let known = feed["messages"].as_u64().unwrap() + feed["gap_messages"].as_u64().unwrap();
    assert!((38_000..=40_000).contains(&known), "all from the first that came: {status:#}");
    assert_eq!(feed["state"], "stale", "books are not whole: {status:#}");

    let mut lost = BTreeMap::new();
    let mut frames = Vec::new();
    for line in &lines {
        let value: Value = serde_json::from_str(line).unwrap();
        if value["op"] == "notice" && value["kind"] == "gap" {
            assert_eq!(value["source"], "moldudp64", "{line}");
            lost.insert(value["from"].as_u64().unwrap(), value["to"].as_u64().unwrap());
        } else if let Some(seq) = value["q"].as_u64() {
            frames.push(seq);
        }
    }
    let told: u64 = lost.iter().map(|(from, to)| to - from).sum();
    assert_eq!(Some(told), feed["gap_messages"].as_u64(), "{status:#}");
    assert_eq!(Some(lost.len() as u64), feed["gaps"].as_u64(), "{status:#}");
    assert!(told > 20, "the lines were bad: {status:#}");
    let first = frames.iter().min().unwrap();
    assert!(*first < 2_000, "{first}");
    for seq in frames {
        let before = lost.range(..seq).next_back();
        assert!(before.is_none_or(|(_, to)| seq > *to), "a frame of {seq}, which was told to be lost: {before:?}");
    }
}

/// What a subscriber saw of each frame: `(p, d)` by `(s, q)`.
fn seen(lines: &[String]) -> HashMap<(String, u64), (u64, String)> {
    let mut seen = HashMap::new();
    for line in lines.iter().filter(|line| is_frame(line)) {
        let value: Value = serde_json::from_str(line).unwrap();
        let key = (value["s"].as_str().unwrap().to_owned(), value["q"].as_u64().unwrap());
        seen.insert(key, (value["p"].as_u64().unwrap(), value["d"].to_string()));
    }
    seen
}

/// Waits until a blade says that it is ready, then subscribes.
fn when_ready(blade: &Blade) -> Listener {
    let deadline = Instant::now() + PATIENCE;
    while !blade.get("/readyz").0.starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "not ready: {:#}\n{}", blade.status(), blade.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    Listener::start(blade, None)
}

fn wait_for_messages(blade: &Blade, count: u64) {
    blade.until("messages", |status| status["feed"]["messages"].as_u64() > Some(count));
}

/// Runs two blades on one feed: one sees the whole day except for a restart, the other comes late. Compares all frames
/// that both sent after they were ready.
/// `strays_max`: how many frames of one subject may differ in their predecessor.
fn agree(section: &str, serving: &[&str], strays_max: usize) {
    let Some(network) = Network::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = common::simulated_file(&directory, 60_000);
    let file = file.to_str().unwrap();
    let early = blade(&directory, section);
    let sending = ["--speed", "max", "--rate", "4000", "--linger", "60"];
    let replay = network.replay(&[&[file], &TO[..], &FAULTS, &sending, serving].concat());
    wait_for_messages(&early, 5_000);
    drop(early);
    let late = blade(&directory, section);
    let late_listener = when_ready(&late);
    wait_for_messages(&late, 15_000);
    let restarted = blade(&directory, section);
    let restarted_listener = when_ready(&restarted);
    let end = |blade: &Blade| {
        blade.until_logged("upstream has ended its session before message 60001");
        blade.status()
    };
    let (late_status, restarted_status) = (end(&late), end(&restarted));
    std::thread::sleep(Duration::from_millis(500));
    let (late_seen, restarted_seen) = (seen(&late_listener.stop()), seen(&restarted_listener.stop()));
    drop(replay);

    assert_eq!(late_status["epoch"], restarted_status["epoch"]);
    let mut common = 0;
    let mut strays = HashMap::new();
    for (key, (prev, data)) in &restarted_seen {
        let Some((other_prev, other_data)) = late_seen.get(key) else { continue };
        assert_eq!(data, other_data, "{key:?}");
        if prev != other_prev {
            let strays = strays.entry(&key.0).or_insert(0);
            *strays += 1;
            assert!(*strays <= strays_max, "{key:?}: after {prev}, after {other_prev}");
        }
        common += 1;
    }
    assert!(common > 10_000, "only {common} frames were sent by both");
}

#[test]
fn blades_that_caught_up_by_requests_agree() {
    let section = format!("requests = [\"{REQUESTS}\"]\nrequest_timeout_ms = \"50ms\"");
    agree(&section, &["--requests", REQUESTS], 0);
}

#[test]
fn blades_that_joined_by_snapshots_agree_but_for_what_came_before_them() {
    let section = format!(
        "requests = [\"{REQUESTS}\"]\nrequest_timeout_ms = \"50ms\"\njoin = \"snapshot\"\nsnapshot = \"{GLIMPSE}\""
    );
    // Each of the two blades may lack one predecessor of a subject.
    agree(&section, &["--requests", REQUESTS, "--glimpse", GLIMPSE], 2);
}

#[test]
fn what_was_lost_for_good_is_mended_by_snapshots() {
    let Some(network) = Network::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = common::simulated_file(&directory, 30_000);
    let blade = blade(&directory, &format!("join = \"live\"\nsnapshot = \"{GLIMPSE}\""));
    let path = file.to_str().unwrap();
    let sending = ["--speed", "max", "--rate", "5000", "--glimpse", GLIMPSE, "--linger", "60"];
    let _replay = network.replay(&[&[path], &TO[..], &FAULTS, &sending].concat());
    blade.until_logged("upstream has ended its session before message 30001");
    let status = blade.until("whole books", |status| status["feed"]["state"] == "live");
    assert!(status["feed"]["gap_messages"].as_u64() > Some(0), "the lines were bad: {status:#}");

    // Whatever was lost on the way, the last quotes and books are those of the whole file, and none is incomplete.
    let state = |lines: &[String]| {
        let mut state = BTreeMap::new();
        for line in lines.iter().filter(|line| is_frame(line)) {
            let value: Value = serde_json::from_str(line).unwrap();
            let subject = value["s"].as_str().unwrap().to_owned();
            if subject.ends_with("/bbo") || subject.ends_with("/book") {
                state.insert(subject, value["d"].to_string());
            }
        }
        state
    };
    let expected = state(&expected_frames(&file));
    let output = blade.subscribe(&["/NASDAQ/**", "--idle", "4", "--for", "60"]);
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    let mut got = state(&lines);
    // A snapshot has instruments of which the file gives only the names.
    got.retain(|subject, _| expected.contains_key(subject));
    assert_eq!(got, expected, "{}", blade.log());
}

#[test]
fn who_comes_late_and_gets_no_snapshot_says_that_books_are_incomplete() {
    let Some(network) = Network::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    // The replay lasts much longer than the blade needs to start and to give up.
    let file = common::simulated_file(&directory, 90_000);
    let mut replay = network.replay(
        &[&[file.to_str().unwrap()], &TO[..], &["--speed", "max", "--rate", "3000", "--linger", "60"]].concat(),
    );
    drop(replay.stdin.take());
    std::thread::sleep(Duration::from_millis(500));
    // No GLIMPSE server listens there.
    let section = format!("join = \"snapshot\"\nsnapshot = \"{GLIMPSE}\"\nsnapshot_attempts_max = 2");
    let blade = blade(&directory, &section);
    let listener = when_ready(&blade);
    let status = blade.until("messages", |status| status["feed"]["messages"].as_u64() > Some(5_000));
    assert_eq!(status["feed"]["state"], "stale", "{status:#}");
    let log = blade.log();
    for line in ["no snapshot from 10.78.1.1:18001 at attempt 1: ", "no snapshot from 10.78.1.1:18001 after 2 attempts"]
    {
        assert!(log.contains(line), "{line}: {log}");
    }
    let lines = listener.stop();
    let quotes: Vec<&String> = lines.iter().filter(|line| is_frame(line) && line.contains("/bbo\"")).collect();
    assert!(quotes.len() > 100, "{} quotes", quotes.len());
    assert!(quotes.iter().all(|quote| quote.contains("\"incomplete\":true")), "{}", quotes[0]);
}
