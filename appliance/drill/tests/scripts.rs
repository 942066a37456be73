//! Scripts of packetdrill: a behaviour of TCP each, which a lane has or which raises it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fanblade_drill::numbers::definitions;

/// How each script runs: IPv4 and IPv6, with a tag (802.1Q) and without. The lane's headers differ in each.
const KINDS: [(&str, &str); 4] = [("ipv4", ""), ("ipv6", ""), ("ipv4", "vlan=7"), ("ipv6", "vlan=4094")];

#[test]
fn every_script_holds_over_ipv4_and_ipv6_with_and_without_a_tag() {
    // packetdrill locks its memory.
    if !fanblade_testkit::is_root("packetdrill") {
        return;
    }
    let Some(packetdrill) = packetdrill() else {
        println!("skipped: no packetdrill in PATH or FANBLADE_PACKETDRILL (docs/hacking.md says where it is)");
        return;
    };
    let scripts = scripts();
    assert!(!scripts.is_empty(), "no scripts");
    let mut failures = Vec::new();
    for script in &scripts {
        for (family, flags) in KINDS {
            let output = run(&packetdrill, script, family, flags);
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                failures.push(format!("{} ({family} {flags}): {}\n{said}", script.display(), output.status));
                // The other kinds would mostly say the same.
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} scripts:\n{}", failures.len(), scripts.len(), failures.join("\n"));
}

/// The first line of each says which RFC, or why.
#[test]
fn every_script_begins_with_its_reason() {
    for script in scripts() {
        let text = std::fs::read_to_string(&script).unwrap();
        assert!(text.starts_with("// "), "{}", script.display());
    }
}

fn run(packetdrill: &Path, script: &Path, family: &str, flags: &str) -> Output {
    let object = object();
    let mut command = Command::new(packetdrill);
    // Microseconds and ticks of timestamps are exact here, and a segment is what the lane made.
    command.args(["--tolerance_usecs=1", "--tolerance_percent=0", "--tcp_ts_tick_usecs=1000", "--strict_segments"]);
    command.arg(format!("--ip_version={family}"));
    command.arg(format!("--so_filename={}", object.display()));
    if !flags.is_empty() {
        command.arg(format!("--so_flags={flags}"));
    }
    for (name, value) in definitions() {
        command.arg(format!("--define={name}={value}"));
    }
    for (name, value) in lengths(family) {
        for (more, after) in ["", "_AND_1", "_AND_2"].into_iter().zip(value..) {
            command.arg(format!("--define={name}{more}={after}"));
        }
    }
    // The object's `times` spares the script a wait.
    command.arg(script).env("LD_PRELOAD", &object).output().unwrap()
}

/// The bytes that a segment has, where that is another number in each family: what fits 1,500 bytes beside timestamps,
/// and what a client takes that has announced no MSS (RFC 9293, 3.7.1).
fn lengths(family: &str) -> [(&str, u32); 2] {
    if family == "ipv6" { [("ROOM", 1_428), ("MSS_ABSENT", 1_220)] } else { [("ROOM", 1_448), ("MSS_ABSENT", 536)] }
}

/// The scripts of the crate; only those whose names contain `FANBLADE_SCRIPT`, if it is set.
fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let wanted = std::env::var("FANBLADE_SCRIPT").unwrap_or_default();
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        entries.filter(|path| path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains(&wanted))).collect();
    scripts.sort();
    scripts
}

fn packetdrill() -> Option<PathBuf> {
    let named = std::env::var_os("FANBLADE_PACKETDRILL").map(PathBuf::from);
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|at| at.join("packetdrill")).find(|file| file.is_file()))
}

/// The shared object, which Cargo puts beside the tests.
fn object() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let object = tests.with_file_name("libfanblade_drill.so");
    assert!(object.is_file(), "{} is missing", object.display());
    object
}
