//! A child ends with its test: when it is dropped, when its thread ends, and when the whole process is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use fanblade_testkit::{Child, until};

fn sleeper() -> Child {
    Child::spawn(Command::new("sleep").arg("600"))
}

/// Has the process of this number ended? A zombie, which has not been waited for yet, has ended.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which can contain any characters.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[test]
fn a_child_that_is_dropped_has_ended() {
    let child = sleeper();
    let pid = child.id();
    assert!(!has_ended(pid));
    drop(child);
    assert!(has_ended(pid));
}

#[test]
fn a_child_that_is_leaked_ends_with_its_thread() {
    let pid = std::thread::spawn(|| {
        let child = sleeper();
        let pid = child.id();
        assert!(!has_ended(pid));
        std::mem::forget(child);
        pid
    });
    let pid = pid.join().unwrap();
    until("the end of the child", || has_ended(pid).then_some(()));
}

#[test]
fn a_child_of_a_process_that_is_killed_ends() {
    let this = std::env::current_exe().unwrap();
    let mut process = Child::spawn(
        Command::new(this)
            .args(["--exact", "has_a_child_and_waits", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let pid = lines.find_map(|line| line.unwrap().split_once("child: ")?.1.parse().ok()).unwrap();
    assert!(!has_ended(pid));
    process.kill().unwrap();
    until("the end of the child", || has_ended(pid).then_some(()));
}

#[test]
#[ignore = "the other process of the test above"]
fn has_a_child_and_waits() {
    let child = sleeper();
    let mut out = std::io::stdout();
    writeln!(out, "\nchild: {}", child.id()).unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_child_that_cannot_be_started_is_an_error() {
    assert!(Child::try_spawn(&mut Command::new("/nowhere/at/all")).is_err());
}

#[test]
fn the_output_of_a_child_is_taken_whole() {
    let output = Child::spawn(Command::new("echo").arg("words").stdout(Stdio::piped())).output();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"words\n");
}
