//! `peers` on a small scale: each server can be started, is spoken to in its way, and delivers everything.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// One measurement at a time: each wants its CPUs.
static TURN: Mutex<()> = Mutex::new(());

const PERF: &str = env!("CARGO_BIN_EXE_fanblade-perf");

/// None if the machine is too small, which is printed.
fn measure(args: &[&str]) -> Option<Output> {
    let cpus = fanblade_net::affinity::cpus_allowed().unwrap();
    let [server, client, ..] = cpus[..] else {
        println!("skipped: it needs a CPU for the server and one for the clients");
        return None;
    };
    if let Err(error) = fanblade_net::uring_probe() {
        println!("skipped: the clients need io_uring: {error}");
        return None;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (server, client) = (server.to_string(), client.to_string());
    let rounds: &[&str] = if args.contains(&"--rounds") { &[] } else { &["--rounds", "20"] };
    let scale = ["--runs", "1", "--warmup-rounds", "2", "--settle", "0.1"];
    let few: &[&str] = if args.contains(&"--subscribers") { &[] } else { &["--subscribers", "40"] };
    let mut command = Command::new(PERF);
    command
        .arg("peers")
        .args(scale)
        .args(rounds)
        .args(few)
        .args(["--server-cpu", &server, "--client-cpu", &client, "--out", "-"])
        .args(args);
    Some(command.output().unwrap())
}

/// Measures a peer beside the bare loop and the data path; skips a peer that is not installed.
fn measured(name: &str) {
    let Some(output) = measure(&["--servers", name]) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if let Some((_, how)) = stderr.split_once("; to get it: ") {
        println!("skipped: {name} is not installed: {}", how.trim());
        return;
    }
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("verdict: "), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    for server in ["bare", "datapath", name] {
        for payload in ["payload_64", "payload_512"] {
            for mode in ["one", "backlog_8"] {
                assert!(result["servers"][server][payload][mode]["cpu_us"].is_number(), "{server} {payload} {mode}");
            }
        }
    }
    assert!(result["servers"][name]["payload_64"]["backlog_8"]["cpu_us"].as_f64().unwrap() > 0.0);
    assert!(result["servers"][name]["bytes_per_session"]["user"].is_number());
    assert!(result["servers"][name]["configuration"].is_object());
    assert_eq!(result["comparison"]["payload_64_one"]["best_peer"], name);
    assert_eq!(
        (&result["failed"], &result["absent"]),
        (&Value::Object(<_>::default()), &Value::Object(<_>::default()))
    );
}

#[test]
fn what_people_write_themselves_is_measured_beside_the_blade() {
    measured("tungstenite");
}

#[test]
fn nats_is_measured_beside_the_blade() {
    measured("nats");
}

#[test]
fn nchan_is_measured_beside_the_blade() {
    measured("nchan");
}

#[test]
fn mosquitto_is_measured_beside_the_blade() {
    measured("mosquitto");
}

/// The contract, kept by a program that we do not know.
#[test]
fn a_server_of_the_users_own_is_measured_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("server");
    std::fs::write(&program, format!("#!/bin/sh\nexec {PERF} tungstenite \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let servers = ["--servers", "uwebsockets", "--payloads", "512"];
    let Some(output) = measure(&[&servers[..], &["--peer-path", program.to_str().unwrap()]].concat()) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["comparison"]["payload_512_one"]["best_peer"], "uwebsockets");
    assert_eq!(result["servers"]["uwebsockets"]["configuration"]["program"], "server");
}

/// Each subscriber has a list; the peers are our own broadcast server, and the same one as a user's program.
#[test]
fn servers_of_lists_are_measured_beside_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("server");
    std::fs::write(&program, format!("#!/bin/sh\nexec {PERF} tungstenite \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lists = ["--subjects-per-session", "5", "--subjects", "40", "--payloads", "64", "--rounds", "5"];
    let Some(output) = measure(&[&lists[..], &["--peer-path", program.to_str().unwrap()]].concat()) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["measurement"], &result["watchlists"]["subjects"]), (&"peers-watchlists".into(), &40.into()));
    for server in ["bare", "datapath", "tungstenite", "uwebsockets"] {
        for mode in ["one", "backlog_8"] {
            let cpu_us = result["servers"][server]["payload_64"][mode]["cpu_us"].as_f64();
            assert!(cpu_us.is_some_and(|us| us > 0.0), "{server} {mode}: {}", result["servers"]);
        }
        let has_memory = result["servers"][server]["bytes_per_subscription"]["user"].is_number();
        assert_eq!(has_memory, server != "bare", "{server}");
    }
    let Some(output) = measure(&["--servers", "nats", "--subjects-per-session", "5"]) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("one subject for each subscriber only"), "{stderr}");
    let Some(output) = measure(&["--subjects-per-session", "50", "--subjects", "50"]) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("fewer than the 50 that there are"), "{stderr}");
}

#[test]
fn who_cannot_be_measured_is_refused_or_named() {
    let stderr =
        |args: &[&str]| measure(args).map(|it| (it.status.success(), String::from_utf8_lossy(&it.stderr).into_owned()));
    let Some((is_ok, without_path)) = stderr(&["--servers", "uwebsockets"]) else { return };
    assert!(!is_ok && without_path.contains("give --peer-path PROGRAM"), "{without_path}");
    // The program ends at once, and the error quotes its last words.
    let (is_ok, ends) = stderr(&["--servers", "uwebsockets", "--peer-path", "/bin/false"]).unwrap();
    assert!(!is_ok && ends.contains("uwebsockets: the server ended with exit status: 1"), "{ends}");
    let (is_ok, many) = stderr(&["--servers", "tungstenite", "--subscribers", "4000000000"]).unwrap();
    assert!(!is_ok && many.contains("this machine is too small"), "{many}");
}

/// Peers as servers of scenarios, with many subjects.
#[test]
fn a_peer_plays_a_scenario() {
    if measure(&["--servers", "tungstenite", "--payloads", "64"]).is_none() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut command = Command::new(PERF);
    command.current_dir(root).args(["run", "migratory-8x", "--server", "tungstenite", "--subscribers", "100"]);
    let output = command.args(["--runs", "1", "--warmup", "0.3", "--duration", "1", "--out", "-"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["server"], &result["lost"]), (&"tungstenite".into(), &0.into()));
}
