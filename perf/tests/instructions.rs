//! The count of instructions on a small scale: that it counts each type, twice the same, and judges by a baseline.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn count(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanblade-perf"))
        .args(["instructions", "--symbols", "20", "--messages", "9000", "--warmup-messages", "2000"])
        .args(arguments)
        .output()
        .unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn instructions_are_counted_by_type_and_compared_with_a_baseline() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: there is no valgrind");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("first.json");
    let first = count(&["--out", path.to_str().unwrap()]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let mut report = read(&path);
    let instructions = |kind: &str| report["by_type"][kind]["instructions"].as_u64().unwrap();
    assert!(
        instructions("S") > 50 && instructions("S") < instructions("P"),
        "an event publishes nothing, a trade does"
    );
    assert!(instructions("P") < instructions("E"), "an execution is a trade, and changes the book");
    let by_type: u64 = report["by_type"].as_object().unwrap().values().map(|it| it["messages"].as_u64().unwrap()).sum();
    assert!(by_type > 6_900, "{by_type} of 7,000 messages were counted by type");

    let again = count(&["--baseline", path.to_str().unwrap(), "--out", "-"]);
    let stderr = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success(), "the same program counts the same: {stderr}");

    // A baseline in which one type was cheaper.
    report["by_type"]["A"]["instructions"] = (instructions("A") * 9 / 10).into();
    std::fs::write(&path, report.to_string()).unwrap();
    let worse = count(&["--baseline", path.to_str().unwrap(), "--out", "-"]);
    let stderr = String::from_utf8_lossy(&worse.stderr);
    assert!(!worse.status.success() && stderr.contains("more instructions than the baseline: type A +"), "{stderr}");
}
