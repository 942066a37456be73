//! Ten seconds of silence from one reader, beside others who go on reading: what it gets, and what the others notice.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Blade, Checker, Received, now_us};
use serde_json::Value;

#[test]
fn ten_seconds_of_silence_over_epoll() {
    ten_seconds_of_silence("epoll");
}

#[test]
fn ten_seconds_of_silence_over_uring() {
    ten_seconds_of_silence("uring");
}

fn ten_seconds_of_silence(engine: &str) {
    let blade = Blade::start(engine);
    let stop = Arc::new(AtomicBool::new(false));
    let mut slow = blade.subscriber(&["/X/**"], "conflate");
    let mut quick = blade.subscriber(&["/X/**"], "all");
    let publisher = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || publish_until(blade, &stop))
    };
    let watcher = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let started = Instant::now();
            let mut checker = Checker::default();
            let (mut before, mut during) = (Vec::new(), Vec::new());
            while !stop.load(Relaxed) {
                // The publisher may have stopped already.
                let Some(Received::Text(message)) = quick.receive_within(Duration::from_millis(100)) else { continue };
                checker.take(&message, true);
                let ages = if started.elapsed() < BEFORE { &mut before } else { &mut during };
                ages.push(age_us(&message));
            }
            (before, during)
        })
    };
    // It reads with the others, then it stops.
    let mut checker = Checker::default();
    let reads_until = Instant::now() + BEFORE;
    while Instant::now() < reads_until {
        checker.take(&slow.message(), false);
    }
    let rss_before = rss_kib();
    std::thread::sleep(Duration::from_secs(10));
    let rss_during = rss_kib();
    // First comes what its socket still held, old; then the notice; and from there on it is current.
    assert_eq!(checker.dropped, 0);
    let mut oldest_us = 0;
    while checker.dropped == 0 {
        let message = slow.message();
        checker.take(&message, false);
        if message["op"] != "notice" {
            oldest_us = oldest_us.max(age_us(&message));
        }
    }
    assert!(oldest_us > 5_000_000, "{engine}: it never fell behind: {oldest_us} µs");
    for _ in 0..4 * SUBJECTS {
        let message = slow.message();
        checker.take(&message, false);
        if message["op"] != "notice" {
            assert!(age_us(&message) < 4_000_000, "{engine}: {} µs old after the notice", age_us(&message));
        }
    }
    stop.store(true, Relaxed);
    let (before, during) = watcher.join().unwrap();
    let mut blade = publisher.join().unwrap();
    let ((before_us, before_p99_us), (during_us, during_p99_us)) = (quantiles(before), quantiles(during));
    println!(
        "{engine}: the others' p50 {before_us} µs before, {during_us} µs during; their p99 {before_p99_us} µs before, \
         {during_p99_us} µs during; RSS {rss_before} and {rss_during} KiB"
    );
    // Wide, for machines that do other things now and then: a reader that held the others up would cost them seconds,
    // and most of the time.
    assert!(during_us < 5 * before_us + 50_000, "{engine}: the others' median went from {before_us} to {during_us} µs");
    assert!(during_p99_us < 5 * before_p99_us + 1_000_000, "{engine}: p99 from {before_p99_us} to {during_p99_us} µs");
    assert!(rss_during < rss_before + 8 * 1024, "{engine}: RSS went from {rss_before} to {rss_during} KiB");
    // Nothing is missing from the account: what it did not get, it was told.
    let last = blade.publish("/X/LAST/bbo", "{\"us\":0}");
    while !checker.newest.contains_key("/X/LAST/bbo") {
        checker.take(&slow.message(), false);
    }
    assert_eq!(checker.frames + checker.dropped, last, "{engine}");
}

/// Two thousand quotes a second.
fn publish_until(mut blade: Blade, stop: &AtomicBool) -> Blade {
    let filler = "x".repeat(400);
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        for _ in 0..4 {
            let subject = format!("/X/S{}/bbo", blade.seq % SUBJECTS as u64);
            blade.publish(&subject, &format!(r#"{{"us":{},"filler":"{filler}"}}"#, now_us()));
        }
        due += Duration::from_millis(2);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    blade
}

fn age_us(message: &Value) -> u64 {
    message["d"]["us"].as_u64().map_or(0, |us| now_us().saturating_sub(us))
}

/// The median, and the 99th percentile.
fn quantiles(mut ages: Vec<u64>) -> (u64, u64) {
    ages.sort_unstable();
    (ages[ages.len() / 2], ages[ages.len() * 99 / 100])
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const SUBJECTS: usize = 50;
const BEFORE: Duration = Duration::from_secs(2);
