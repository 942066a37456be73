//! What a result file says about where it comes from.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

/// The command that repeats this run.
pub fn command() -> String {
    format!("cargo xtask bench {}", std::env::args().skip(1).collect::<Vec<_>>().join(" "))
}

/// The commit that is checked out, if git can tell; with `-dirty` if the working tree differs from it. Results that
/// wait to be committed do not count as a difference.
pub fn commit() -> Option<String> {
    let git = |args: &[&str]| Command::new("git").args(args).output().ok();
    let output = git(&["describe", "--always", "--tags"]).filter(|output| output.status.success())?;
    let changes = git(&["diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)perf/results"])?;
    let dirty = if changes.status.success() { "" } else { "-dirty" };
    Some(format!("{}{dirty}", String::from_utf8_lossy(&output.stdout).trim()))
}

/// How busy the machine was with other things: the load averages of 1, 5 and 15 minutes.
pub fn load_average() -> Vec<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).filter_map(|field| field.parse().ok()).collect()
}

/// The hardware and the kernel.
pub fn describe() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> =
        cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|it| it.1).collect();
    let vulnerabilities = std::fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let mitigations: BTreeMap<String, String> = vulnerabilities
        .filter_map(|file| Some((file.file_name().into_string().ok()?, read(file.path().to_str()?)?)))
        .filter(|(_, state)| state.starts_with("Mitigation"))
        .collect();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cpu": models.first(),
        "nproc": models.len(),
        "mitigations": mitigations,
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control"),
    })
}
