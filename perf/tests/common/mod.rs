//! What the tests of measurements share.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `fanblade-perf` in the directory of its results and scenarios.
pub(crate) fn perf(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Command::new(env!("CARGO_BIN_EXE_fanblade-perf")).current_dir(root).args(args).output().unwrap()
}

/// Measures, and returns the report. Other output (figures, or what is wrong) is shown with the test.
pub(crate) fn report(args: &[&str]) -> Value {
    let output = perf(&[args, &["--out", "-"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stderr}");
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Plays a scenario.
pub(crate) fn run(args: &[&str]) -> Output {
    perf(&[&["run"], args].concat())
}

/// Plays a scenario once, which must succeed.
pub(crate) fn result(args: &[&str]) -> Value {
    let output = run(&[args, &["--runs", "1", "--out", "-"]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("verdict: ok: "), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether the machine is too small; prints it if so.
pub(crate) fn is_machine_too_small() -> bool {
    if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
        println!("skipped: it needs a CPU for the server and one for the clients");
        return true;
    }
    if let Err(error) = fanblade_net::uring_probe() {
        println!("skipped: the swarm needs io_uring: {error}");
        return true;
    }
    false
}
