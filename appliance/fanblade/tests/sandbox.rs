//! What the kernel refuses the workers' threads.

mod common;

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use common::{ENGINES, FANBLADE};
use fanblade_testkit::Blade;

/// The names of the process's threads, and whether each has a filter of system calls (proc_pid_status(5)). The kernel's
/// own threads that finish a worker's io_uring requests (`iou-wrk-`) come and go, with that worker's filter.
fn threads(blade: &Blade) -> Vec<(String, bool)> {
    let field = |status: &str, name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    let tasks = std::fs::read_dir(format!("/proc/{}/task", blade.pid())).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(|status| (field(&status, "Name:"), field(&status, "Seccomp:") == "2"))
        .filter(|(name, _)| !name.starts_with("iou-wrk-"))
        .collect()
}

fn blade(inject: &Path, args: &[&str]) -> Blade {
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "2"]).args(args).env("FANBLADE_INJECT", inject).env("NO_COLOR", "1");
    Blade::spawn(command)
}

#[test]
fn workers_are_confined_and_nobody_else() {
    for engine in ENGINES {
        let directory = tempfile::tempdir().unwrap();
        let blade = blade(directory.path(), &["--engine", engine]);
        let output = blade.subscribe(&["/**", "--check", "--count", "2000", "--json"]);
        assert!(output.status.success(), "{output:?}\n{}", blade.log());
        let threads = threads(&blade);
        let confined: Vec<_> = threads.iter().filter(|(_, is_confined)| *is_confined).map(|(name, _)| name).collect();
        assert!(confined.len() == 2 && confined.iter().all(|name| name.starts_with("worker-")), "{threads:?}");
        assert_eq!(blade.metric("fanblade_calls_refused_total"), 0.0, "{}", blade.log());
    }
}

#[test]
fn a_confined_worker_makes_the_rings_that_its_sessions_need() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\"", FANBLADE, "run", "--no-ebpf"]);
    command.args(["--workers", "1", "--engine", "uring"]);
    let blade = Blade::spawn(command);
    if blade.status()["data"]["engine"] != "uring" {
        println!("skipped: a_confined_worker_makes_the_rings_that_its_sessions_need: no io_uring here");
        return;
    }
    let rings = || {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", blade.pid())).unwrap();
        let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().contains("[io_uring]")).count()
    };
    assert_eq!(rings(), 1);
    // A ring has a slot for each descriptor that the process may have.
    let connections: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(blade.data).unwrap()).collect();
    blade.until_metric("fanblade_worker_accepted_total{worker=\"0\"}", 200.0);
    assert!(rings() >= 2, "{} rings", rings());
    // Whoever comes now is in the second ring.
    let output = blade.subscribe(&["/**", "--check", "--count", "500", "--json"]);
    assert!(output.status.success(), "{output:?}\n{}", blade.log());
    assert_eq!(blade.metric("fanblade_calls_refused_total"), 0.0, "{}", blade.log());
    drop(connections);
}

#[test]
fn a_call_that_no_worker_needs_is_refused_counted_and_logged() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no commands that make a worker open a file");
        return;
    }
    for engine in ENGINES {
        let directory = tempfile::tempdir().unwrap();
        let blade = blade(directory.path(), &["--engine", engine]);
        std::fs::write(directory.path().join("worker-1-opens-a-file"), "").unwrap();
        blade.until_metric("fanblade_calls_refused_total", 1.0);
        blade.until_logged("could not open a file, as told: Operation not permitted");
        blade.until_logged("workers were refused 1 system calls, the newest: openat");
        // All are served on.
        let output = blade.subscribe(&["/**", "--check", "--count", "500", "--json"]);
        assert!(output.status.success(), "{output:?}\n{}", blade.log());
        assert_eq!(blade.metric("fanblade_worker_restarts_total{worker=\"1\"}"), 0.0);
    }
}

#[test]
fn it_can_be_turned_off() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fanblade.toml");
    std::fs::write(&file, "[data]\nsandbox = false\n").unwrap();
    let blade = blade(directory.path(), &["--config", file.to_str().unwrap()]);
    let threads = threads(&blade);
    assert!(threads.iter().all(|(_, is_confined)| !is_confined), "{threads:?}");
    if cfg!(debug_assertions) {
        std::fs::write(directory.path().join("worker-0-opens-a-file"), "").unwrap();
        blade.until_logged("opened a file, as told");
        assert_eq!(blade.metric("fanblade_calls_refused_total"), 0.0);
    }
}
