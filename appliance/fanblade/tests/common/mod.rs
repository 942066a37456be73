//! A real blade on free ports, and the helpers that tests use with it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

pub mod exchange;
pub mod network;
pub mod soup;
pub mod still;

pub mod terminal;

use std::path::PathBuf;
use std::process::{Command, Output};

use fanblade_feed::UnixNs;
use fanblade_testkit::data;
use serde_json::Value;

pub const FANBLADE: &str = env!("CARGO_BIN_EXE_fanblade");
pub const ENGINES: [&str; 2] = ["uring", "epoll"];

/// Runs the program to its end; returns the exit code, standard output and standard error.
pub fn fanblade(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(FANBLADE).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Removes the maps that a blade leaves when it does not end by itself.
pub struct Pins(pub String);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The summary that `subscribe --json` printed.
pub fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_else(|| panic!("no summary: {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(line).unwrap()
}

/// A day of real market data; none, after printing so, where it is not available.
pub fn real_data(name: &str) -> Option<PathBuf> {
    data::real(&format!("itch50/{name}"))
}

/// A file with a simulated day of this many messages.
pub fn simulated_file(directory: &tempfile::TempDir, messages: u64) -> PathBuf {
    let path = directory.path().join("12302019.simulated");
    let config = fanblade_feed::simulator::SimulatorConfig {
        symbols: 100,
        messages_per_s: 10_000,
        ..fanblade_feed::simulator::SimulatorConfig::default()
    };
    let file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    assert_eq!(fanblade_feed::simulator::write_binaryfile(&config, messages, file).unwrap(), messages);
    path
}

/// Every frame that a file must give, in order, computed without a blade.
pub fn expected_frames(path: &std::path::Path) -> Vec<String> {
    use fanblade_feed::{Event, Feed as _, FileFeed, Poll, pace::Pace};
    // 2019-12-30, and 2019-01-30: both five hours behind UTC.
    let midnight = if path.to_string_lossy().contains("01302019") { 1_548_824_400 } else { 1_577_682_000 };
    let mut market = fanblade_market::Market::new("NASDAQ", UnixNs(midnight * 1_000_000_000));
    let mut feed = FileFeed::open(path, Pace::Unpaced).unwrap();
    let mut newest = std::collections::HashMap::<String, u64>::new();
    let mut frames = Vec::new();
    loop {
        let poll = feed.poll(UnixNs(0), &mut |event| {
            let Event::Message { seq, bytes, .. } = event else { return };
            // If the file does not begin with the day's first message, earlier orders are unknown.
            if seq == 1 && !(bytes.first() == Some(&b'S') && bytes.last() == Some(&b'O')) {
                market.set_incomplete();
            }
            let applied = market.apply(seq, bytes, &mut |update| {
                let (mut subject, mut json) = (String::new(), Vec::new());
                update.subject(&mut subject);
                let prev = newest.insert(subject.clone(), seq).unwrap_or(0);
                fanblade_market::encode::json(&mut json, &subject, seq, prev, update.ts_ns, &update.image);
                frames.push(String::from_utf8(json).unwrap());
            });
            applied.unwrap();
        });
        if poll.unwrap() == Poll::Finished {
            return frames;
        }
    }
}
