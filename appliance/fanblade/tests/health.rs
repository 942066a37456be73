//! `/healthz` measures progress: a thread that stands still is named, until it moves again.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::still::{Still, can_trace};
use common::{ENGINES, FANBLADE, simulated_file};
use fanblade_testkit::Blade;
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// A blade that is fed by publishers, and calls a thread stalled after three seconds.
fn blade(directory: &TempDir, engine: &str) -> Blade {
    let file = directory.path().join("blade.toml");
    let config = "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nstate = \"\"\n[admin]\nstalled_ms = 3000\n";
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "2", "--engine", engine, "--config"]).arg(file);
    Blade::spawn(command)
}

fn health(blade: &Blade) -> (bool, String) {
    let (head, body) = blade.get("/healthz");
    (head.starts_with("HTTP/1.1 200"), body)
}

/// Checks that the blade is healthy all this time.
#[track_caller]
fn stays_healthy(blade: &Blade, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        let (is_well, body) = health(blade);
        assert!(is_well, "{body}{}", blade.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_thread_that_stands_still_is_named_until_it_moves_again() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        let blade = blade(&directory, engine);
        for (comm, name) in [
            ("sequencer", "sequencer"),
            ("worker-1", "worker-1"),
            ("publishers", "publishers"),
            ("fanblade", "control"),
        ] {
            assert_eq!(health(&blade), (true, "ok\n".to_owned()), "before {name} is stopped");
            let still = Still::new(blade.pid(), comm);
            let words = format!("the thread {name} has not moved for ");
            let status = blade.until(name, |status| status["ailment"] != "");
            assert!(status["ailment"].as_str().unwrap().starts_with(&words) && status["ready"] == false, "{status:#}");
            let (is_well, body) = health(&blade);
            assert!(!is_well && body.starts_with(&words) && !body.contains(';'), "{engine}: {body}");
            assert!(blade.get("/readyz").0.starts_with("HTTP/1.1 503"));
            let label = format!("{{thread=\"{name}\"}}");
            assert!(blade.metric(&format!("fanblade_heartbeat_age_seconds{label}")) >= 3.0);
            assert_eq!(blade.metric(&format!("fanblade_thread_stalls_total{label}")), 1.0);
            drop(still);
            blade.until("all well", |status| status["ailment"] == "");
            assert!(blade.metric(&format!("fanblade_heartbeat_age_seconds{label}")) < 3.0);
            blade.until_logged(&format!("the thread {name} moves again"));
            assert_eq!(blade.log().matches(&words).count(), 1, "once: {}", blade.log());
        }
    }
}

#[test]
fn whoever_waits_or_has_ended_is_not_still() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, "[admin]\nstalled_ms = \"3s\"\n").unwrap();
    let feed = format!("file:{}", simulated_file(&directory, 1_000).display());
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--wait-for", "1", "--feed", &feed, "--config"]).arg(file);
    let blade = Blade::spawn(command);
    stays_healthy(&blade, Duration::from_secs(4));
    let output = blade.subscribe(&["/NASDAQ/**", "--check", "--idle", "0.5"]);
    assert!(output.status.success());
    blade.until("the end of the feed", |status| status["feed"]["state"] == "finished");
    stays_healthy(&blade, Duration::from_secs(4));
}

#[test]
fn a_process_that_was_stopped_goes_on_in_good_health() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        let blade = blade(&directory, engine);
        for _ in 0..2 {
            stays_healthy(&blade, Duration::from_millis(300));
            blade.signal(Signal::SIGSTOP);
            std::thread::sleep(Duration::from_secs(4));
            blade.signal(Signal::SIGCONT);
            stays_healthy(&blade, Duration::from_secs(4));
        }
        assert!(!blade.log().contains("has not moved"), "{}", blade.log());
    }
}
