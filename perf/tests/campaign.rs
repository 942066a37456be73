//! Campaigns on a small scale: each attack attacks, and the subscriber notices nothing but a loss of speed.

mod common;

use serde_json::Value;

/// One of each kind, briefly, but long enough for a subscriber that gets no CPU for a second. Its p99 says nothing on a
/// machine that does other things.
#[test]
fn attacks_break_no_promise_and_leave_the_blade_healthy() {
    let engine = if fanblade_net::uring_probe().is_ok() { "uring" } else { "epoll" };
    let names = ["pong-flood", "half-close", "log-stuck", "slow-loris", "ring-full"];
    let few = ["--engine", engine, "--pairs", "1", "--seconds", "2", "--settle", "0.2", "--rate", "500", "--out", "-"];
    let output = common::perf(&[&["campaign"], &names[..], &few].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let attacks = report["attacks"].as_object().unwrap();
    assert_eq!(attacks.len(), names.len());
    for (name, attack) in attacks {
        let result = &attack["engines"][engine];
        let faults = result["faults"].as_array().unwrap().iter().filter_map(Value::as_str);
        let faults: Vec<&str> = faults.filter(|fault| !fault.starts_with("p99 grew by")).collect();
        assert_eq!(faults, [""; 0], "{name}");
        assert!(result["with"][0]["frames"].as_u64() > Some(0), "{name}: {result:#}");
        assert!(result["with"][0]["done_by_attackers"].as_u64() > Some(0), "{name}: {result:#}");
    }
}

#[test]
fn campaigns_are_listed_and_an_unknown_one_is_told() {
    let listed = common::perf(&["campaign", "--list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line.starts_with("pong-flood ")), "{listed}");
    let output = common::perf(&["campaign", "pong"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("there is no campaign `pong`; there are admin-half"),
        "{stderr}"
    );
}
