//! Other people's crates: their licences, sources and security advisories (`cargo deny`, deny.toml).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::bail;

use crate::{child, repository};

/// The version that deny.toml is written for.
pub(crate) const VERSION: &str = "0.20.2";

/// The findings, one line each.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) faults: Vec<String>,
    /// What could not be checked, and why.
    pub(crate) skipped: Vec<String>,
}

/// cargo-deny: our own, else the one on PATH.
pub(crate) fn program(root: &Path) -> Option<PathBuf> {
    let own = repository::tools(root).join("bin/cargo-deny");
    if repository::is_executable(&own) { Some(own) } else { repository::find_program("cargo-deny") }
}

/// The command that installs cargo-deny.
pub(crate) fn install_line() -> String {
    format!("cargo install cargo-deny --version {VERSION} --locked --root target/tools")
}

/// Checks both workspaces. Without a network, two things are skipped: crates that the lock file names but a build does
/// not fetch (those of other platforms), and the advisories.
pub(crate) fn check(root: &Path) -> Report {
    check_with(root, |workspace| run(&mut workspace.fetch(root), FETCH_TIME_MAX))
}

fn check_with(root: &Path, fetch: impl Fn(&Workspace) -> anyhow::Result<()>) -> Report {
    let mut report = Report::default();
    let Some(program) = program(root) else {
        report.skipped.push(format!("cargo-deny is not installed. To get it: {}", install_line()));
        return report;
    };
    let mut fetched = Vec::new();
    for workspace in &WORKSPACES {
        if let Err(error) = fetch(workspace) {
            let manifest = workspace.manifest;
            report.skipped.push(format!("{manifest}: not all crates of its lock file can be fetched ({error:#})"));
            continue;
        }
        report.add(run(&mut workspace.check(&program, root, &["licenses", "sources", "bans"]), CHECK_TIME_MAX));
        fetched.push(workspace);
    }
    if fetched.is_empty() {
        return report;
    }
    if let Err(error) = run(deny(&program, root).args(["fetch", "db"]), FETCH_TIME_MAX) {
        report.skipped.push(format!("advisories: their database cannot be fetched ({error:#})"));
        return report;
    }
    for workspace in fetched {
        report.add(run(&mut workspace.check(&program, root, &["advisories"]), CHECK_TIME_MAX));
    }
    report
}

impl Report {
    fn add(&mut self, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.faults.push(format!("{error:#}")),
        }
    }
}

/// A workspace with a lock file of its own.
struct Workspace {
    manifest: &'static str,
    /// Warnings to allow: entries of deny.toml that only the other workspace needs are no fault in this one.
    allowed: &'static [&'static str],
}

const WORKSPACES: [Workspace; 2] = [
    Workspace { manifest: "Cargo.toml", allowed: &[] },
    Workspace {
        manifest: "ebpf/Cargo.toml",
        allowed: &["license-not-encountered", "license-exception-not-encountered"],
    },
];

impl Workspace {
    /// Fetches the crates that the workspace's lock file names.
    fn fetch(&self, root: &Path) -> Command {
        let mut command = repository::cargo(root);
        command.args(["fetch", "--locked", "--manifest-path", self.manifest]).stdin(Stdio::null());
        command
    }

    fn check(&self, program: &Path, root: &Path, what: &[&str]) -> Command {
        let mut command = deny(program, root);
        command.args(["--offline", "--config", "deny.toml", "--manifest-path", self.manifest, "check"]);
        command.args(self.allowed.iter().flat_map(|code| ["--allow", code])).args(what);
        command
    }
}

fn deny(program: &Path, root: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root).stdin(Stdio::null());
    // As in `repository::cargo`: cargo has set these for xtask itself.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

fn run(command: &mut Command, time_max: Duration) -> anyhow::Result<()> {
    let status = child::watched(command, time_max, |_, _| {})?;
    if !status.success() {
        bail!("`{}`: {}", child::line(command), child::ending(status));
    }
    Ok(())
}

/// A check takes seconds, unless cargo waits for its lock.
const CHECK_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// For a clone of some megabytes, or crates of that size. A network that drops all packets must not delay the other
/// steps for long.
const FETCH_TIME_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Checks a checkout whose cargo-deny logs its arguments and exits with 1 if `fails` is among them.
    fn checked(fails: &str) -> (Report, String) {
        let root = tempfile::tempdir().unwrap();
        let bin = repository::tools(root.path()).join("bin");
        fs::create_dir_all(&bin).unwrap();
        let script = format!("#!/bin/sh\necho \"$*\" >> asked\ncase \"$*\" in {fails}) exit 1;; esac\n");
        fs::write(bin.join("cargo-deny"), script).unwrap();
        fs::set_permissions(bin.join("cargo-deny"), fs::Permissions::from_mode(0o755)).unwrap();
        let report = check_with(root.path(), |workspace| {
            if format!("cargo-fetch-{}", workspace.manifest) == fails { bail!("no network") } else { Ok(()) }
        });
        (report, fs::read_to_string(root.path().join("asked")).unwrap())
    }

    #[test]
    fn both_workspaces_are_checked_and_only_the_database_needs_the_network() {
        let (report, asked) = checked("none");
        assert_eq!((report.passed, report.faults.len(), report.skipped.len()), (4, 0, 0));
        for line in asked.lines() {
            assert!(line.starts_with("--offline --config deny.toml ") != (line == "fetch db"), "{line}");
        }
        assert_eq!(asked.matches("--manifest-path ebpf/Cargo.toml").count(), 2, "{asked}");
    }

    #[test]
    fn without_a_database_the_advisories_are_skipped_and_a_fault_is_one() {
        let (report, asked) = checked("*fetch*");
        assert_eq!((report.passed, report.faults.len()), (2, 0));
        assert!(report.skipped[0].starts_with("advisories: "), "{:?}", report.skipped);
        assert!(!asked.contains("check advisories"), "{asked}");
        let (report, _) = checked("*licenses*");
        assert_eq!((report.passed, report.faults.len(), report.skipped.len()), (2, 2, 0));
        assert!(report.faults[0].contains("exit code 1"), "{:?}", report.faults);
    }

    #[test]
    fn a_workspace_whose_crates_are_not_all_there_is_skipped_with_the_reason() {
        let (report, asked) = checked("cargo-fetch-Cargo.toml");
        assert_eq!((report.passed, report.faults.len()), (2, 0));
        assert!(report.skipped[0].starts_with("Cargo.toml: "), "{:?}", report.skipped);
        assert!(report.skipped[0].contains("no network"), "{:?}", report.skipped);
        assert!(asked.contains("--manifest-path ebpf/Cargo.toml"), "{asked}");
        assert!(!asked.contains("--manifest-path Cargo.toml"), "{asked}");
    }

    #[test]
    fn the_lists_are_of_this_version() {
        let text = include_str!("../../deny.toml");
        let lists: toml::Table = text.parse().unwrap();
        assert!(["graph", "licenses", "bans", "sources", "advisories"].iter().all(|part| lists.contains_key(*part)));
        assert!(install_line().contains(VERSION));
    }
}
