//! The count of instructions on a small scale: it counts each type, and judges by a baseline. The first baseline is the
//! file in this folder: a change that makes messages, deliveries or sessions cost more fails here. If the higher cost
//! is intended, or the cost is lower, renew the file:
//!
//! ```sh
//! cargo build && target/debug/fanblade-perf instructions --symbols 20 --messages 9000 --warmup-messages 2000 \
//!     --out perf/tests/instructions-baseline.json
//! ```

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
    let Ok(version) = Command::new("valgrind").arg("--version").output() else {
        println!("skipped: there is no valgrind");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("first.json");
    let mut arguments = vec!["--out", path.to_str().unwrap()];
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/instructions-baseline.json");
    let baseline = read(Path::new(committed));
    // Libraries choose their code by the processor, and how valgrind translates that code depends on its version.
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let is_like_the_baseline = cpu.contains(baseline["machine"]["cpu"].as_str().unwrap())
        && String::from_utf8_lossy(&version.stdout).trim() == baseline["valgrind"];
    if is_like_the_baseline {
        arguments.extend(["--baseline", committed]);
    } else {
        println!(
            "not compared with {committed}: it was counted on {} by {}",
            baseline["machine"], baseline["valgrind"]
        );
    }
    let first = count(&arguments);
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
    let figure = |name: &str| report[name].as_f64().unwrap();
    assert!(0.0 < figure("per_delivery_of_8") && figure("per_delivery_of_8") < figure("per_delivery"), "{report:#}");
    assert!(figure("per_session") > 1_000.0, "a handshake and a subscription: {report:#}");

    // A baseline in which one type is cheaper.
    report["by_type"]["A"]["instructions"] = (instructions("A") * 9 / 10).into();
    std::fs::write(&path, report.to_string()).unwrap();
    let worse = count(&["--baseline", path.to_str().unwrap(), "--out", "-"]);
    let stderr = String::from_utf8_lossy(&worse.stderr);
    assert!(!worse.status.success() && stderr.contains("more instructions than the baseline: type A +"), "{stderr}");
    let verdict = stderr.lines().find(|line| line.contains("more instructions")).unwrap();
    assert!(!verdict.contains(", "), "nothing else costs more: {stderr}");
}
