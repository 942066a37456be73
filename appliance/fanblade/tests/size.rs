//! `fanblade size`: the arithmetic, keys that a blade takes, and clear words for what makes no sense.

mod common;

use std::process::Command;

use common::{FANBLADE, fanblade};
use fanblade_testkit::Blade;

fn size(args: &[&str]) -> String {
    let (code, stdout, stderr) = fanblade(&[&["size"], args].concat());
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    stdout
}

#[test]
fn the_arithmetic_is_shown_line_by_line() {
    let text = size(&["--memory", "128G", "--cores", "32", "--queues", "16", "--subjects", "8000", "--own-list", "50"]);
    for line in [
        "as given",
        "fewer than workers: the interrupts of 16 of 30 CPUs",
        "32 cores - 2 for the sequencer and everything else",
        "- 8.00 GiB   1/16 of it",
        "8000 subjects, 1048576 updates × (128 B + 2 × 512 B)",
        "held_bytes_max",
        "146 measured, ",
        "+ 5141 B   the kernel's socket, measured",
        "+ 4096 B   one frame",
        "a list of its own with 50 subjects",
        "in each worker (sessions_max)",
        "net.ipv4.tcp_mem allows 1572864 pages",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // What is subtracted and what is left add up, as shown.
    let amount = |line: &str| -> f64 {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| ["B", "KiB", "MiB", "GiB"].contains(word)).unwrap();
        let unit = ["B", "KiB", "MiB", "GiB"].iter().position(|unit| *unit == words[at]).unwrap();
        words[at - 1].parse::<f64>().unwrap() * 1024_f64.powi(i32::try_from(unit).unwrap())
    };
    let sum: f64 = text.lines().filter(|line| line.contains(" - ") && line.contains("iB ")).map(amount).sum();
    let left = text.lines().find(|line| line.starts_with("left")).map(amount).unwrap();
    assert!(((sum + left) / f64::from(1 << 30) - 128.0).abs() < 1.0, "{sum} + {left}\n{text}");
    // Of this machine.
    assert!(size(&[]).contains("found on this machine"));
}

#[test]
fn the_keys_are_taken_by_check_and_by_a_blade() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sizing.toml");
    let file = file.to_str().unwrap();
    for args in [
        &["--memory", "1G", "--cores", "1"][..],
        &["--memory", "4G", "--cores", "2", "--queues", "2"],
        &["--memory", "128G", "--cores", "32", "--own-list", "5000"],
        &["--memory", "8T", "--cores", "128"],
    ] {
        std::fs::write(file, size(&[args, &["--toml"]].concat())).unwrap();
        let (code, stdout, stderr) = fanblade(&["check", file]);
        assert!(code == 0 && stdout.contains("good"), "{args:?}: {stdout}{stderr}");
    }
    std::fs::write(file, size(&["--memory", "1G", "--cores", "1", "--subjects", "500", "--toml"])).unwrap();
    let own = directory.path().join("blade.toml");
    let own = own.to_str().unwrap();
    // What the file itself says counts.
    std::fs::write(own, "[limits]\nsessions_max = 1234\n[feed.simulator]\nsymbols = 20\n").unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--config", own, "--sizing", file]);
    let blade = Blade::spawn(command);
    assert_eq!(blade.status()["workers"].as_array().unwrap().len(), 1);
    assert_eq!(blade.metric("fanblade_worker_sessions_max{worker=\"0\"}"), 1234.0);
    assert_eq!(blade.metric("fanblade_worker_held_bytes_max{worker=\"0\"}"), f64::from(32 << 20));
    drop(blade);
    // The two together may make no sense although each does.
    std::fs::write(own, "[limits]\nmessage_len_max = \"160KiB\"\n").unwrap();
    std::fs::write(file, "[limits]\nsubscriptions_max = 5000\n").unwrap();
    let (code, _, stderr) = fanblade(&["run", "--no-ebpf", "--config", own, "--sizing", file]);
    assert!(
        code == 1
            && stderr.contains("blade.toml with ")
            && stderr.contains("160 KiB are too few for a request with 5000 subjects"),
        "{stderr}"
    );
    std::fs::write(file, "[ring]\nupdates = 1000\n").unwrap();
    let (code, _, stderr) = fanblade(&["run", "--no-ebpf", "--config", own, "--sizing", file]);
    assert!(code == 1 && stderr.contains("sizing.toml:2:11: 1000 is out of range"), "{stderr}");
}

#[test]
fn absurd_input_is_told_what_would_do() {
    for (args, told) in [
        (&["--memory", "0"][..], "a blade's machine has from 256 MiB to 65536 GiB of memory"),
        (&["--memory", "lots"], "`lots` is not an amount of memory; write 64G"),
        (&["--memory", "9999999T"], "from 256 MiB to"),
        (&["--cores", "0"], "from 1 to 4096 cores"),
        (&["--cores", "-3"], "'-3'"),
        (&["--cores", "many"], "`many` is not a number of cores"),
        (&["--cores", "5000"], "from 1 to 4096 cores"),
        (&["--queues", "0"], "from 1 to 4096 queues"),
        (&["--subjects", "0"], "from 1 to 33554432 subjects"),
        (
            &["--memory", "1G", "--cores", "1", "--subjects", "30000000"],
            "more than a quarter of 1 GiB; give --subjects",
        ),
        (&["--subjects", "10", "--own-list", "20"], "--own-list must not be greater than --subjects"),
        (&["--own-list", "100000"], "from 0 to 65536"),
        (&["--memory", "300M", "--cores", "64", "--subjects", "100"], "leave no room for a session"),
    ] {
        let (code, stdout, stderr) = fanblade(&[&["size"], args].concat());
        assert!(code != 0 && stdout.is_empty() && stderr.contains(told), "{args:?}: {stderr}");
    }
}
