//! What the tests of measurements share.

use std::process::Command;

use serde_json::Value;

/// Runs `fanblade-perf` and returns the report that it prints. What it says meanwhile (figures, or what is wrong) is
/// shown with the test.
pub(crate) fn report(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_fanblade-perf")).args(args).args(["--out", "-"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stderr}");
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}
