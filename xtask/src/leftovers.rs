//! Finds what a test run must not leave behind: processes, network namespaces, interfaces, pinned maps, mounts, files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::Context as _;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{child, repository};

/// The machine's state before the run, to be compared with its state after the run.
pub(crate) struct Before {
    root: PathBuf,
    places: Vec<(Place, Vec<String>)>,
    mounts: Vec<String>,
    changes: Option<Vec<String>>,
    temporary: PathBuf,
}

/// A directory that lists things that can outlive the process that made them.
struct Place {
    what: &'static str,
    dir: &'static str,
    /// Only names with this prefix are ours.
    prefix: &'static str,
}

const PLACES: [Place; 3] = [
    Place { what: "network namespace", dir: "/run/netns", prefix: "fanblade" },
    Place { what: "network interface", dir: "/sys/class/net", prefix: "" },
    Place { what: "pinned BPF object", dir: "/sys/fs/bpf", prefix: "fanblade" },
];

const BPFFS: &str = "/sys/fs/bpf";

/// How long a process that has been told to stop may take to end.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(5);

impl Before {
    /// Records the state, makes this process the parent of orphans, and creates one directory for temporary files.
    pub(crate) fn look(root: &Path) -> anyhow::Result<Before> {
        prctl::set_child_subreaper(true).context("cannot become the parent of orphans")?;
        let temporary = env::temp_dir().join(format!("fanblade-test-{}", std::process::id()));
        fs::create_dir(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;
        let places = PLACES.map(|place| {
            let names = place.names();
            (place, names)
        });
        Ok(Before { root: root.to_owned(), places: places.into(), mounts: mounts(), changes: changes(root), temporary })
    }

    /// The directory of the steps' temporary files (TMPDIR).
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Returns one line for each thing that is new since `look`, and removes the temporary files.
    pub(crate) fn compare(self) -> Vec<String> {
        let mut left = Vec::new();
        for (place, before) in &self.places {
            for name in place.names().iter().filter(|name| !before.contains(name)) {
                left.push(format!("{}: {}/{name}", place.what, place.dir));
            }
        }
        for mount in mounts().into_iter().filter(|mount| !self.mounts.contains(mount)) {
            // A blade mounts the BPF file system if it is missing, and leaves it mounted. A test run unmounts it again.
            let is_unmounted =
                mount == BPFFS && Command::new("umount").arg(BPFFS).status().is_ok_and(|it| it.success());
            if !is_unmounted {
                left.push(format!("mount: {mount}"));
            }
        }
        // In a tree that had changes already, new ones may be somebody's work; in a clean tree they are the run's.
        if self.changes.as_ref().is_some_and(Vec::is_empty) {
            left.extend(changes(&self.root).into_iter().flatten().map(|change| format!("in the checkout: {change}")));
        }
        for name in repository::list(&self.temporary) {
            left.push(format!("temporary file: {}", self.temporary.join(name).display()));
        }
        let _ = fs::remove_dir_all(&self.temporary);
        left
    }
}

impl Place {
    fn names(&self) -> Vec<String> {
        repository::list(self.dir).into_iter().filter(|name| name.starts_with(self.prefix)).collect()
    }
}

/// Kills the descendants of `ancestor` that do not end by themselves within `wait_max`; returns one line for each.
pub(crate) fn processes(ancestor: Pid, wait_max: Duration) -> Vec<String> {
    let since = Instant::now();
    let mut living = child::living(ancestor);
    while !living.is_empty() && since.elapsed() < wait_max {
        thread::sleep(Duration::from_millis(50));
        living = child::living(ancestor);
    }
    for process in &living {
        let _ = kill(process.pid, Signal::SIGKILL);
    }
    living.iter().map(|process| format!("process {}: {}", process.pid, process.command)).collect()
}

/// The paths at which something is mounted.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect()
}

/// `git status`, one line for each change; `None` without git or outside a repository.
fn changes(root: &Path) -> Option<Vec<String>> {
    let status = Command::new("git")
        .args(["status", "--porcelain"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&status.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_changes_that_stay_are_named_and_an_untouched_machine_is_not() {
        let repository = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            assert!(Command::new("git").args(args).current_dir(repository.path()).status().unwrap().success());
        };
        git(&["init", "--quiet"]);
        let before = Before::look(repository.path()).unwrap();
        let temporary = before.temporary().to_owned();
        fs::write(temporary.join("forgotten"), "").unwrap();
        fs::write(repository.path().join("new.rs"), "").unwrap();
        let left = before.compare();
        assert!(left.iter().any(|line| line.ends_with("/forgotten")), "{left:?}");
        assert!(left.iter().any(|line| line.contains("?? new.rs")), "{left:?}");
        assert!(!temporary.exists());
    }

    #[test]
    fn processes_that_stay_are_named_and_killed() {
        let mut shell = Command::new("sh").args(["-c", "sleep 88.5 & wait; true"]).spawn().unwrap();
        let ancestor = Pid::from_raw(shell.id().cast_signed());
        while child::living(ancestor).is_empty() {
            thread::sleep(Duration::from_millis(5));
        }
        let left = processes(ancestor, Duration::from_millis(50));
        assert!(left.len() == 1 && left[0].ends_with(": sleep 88.5"), "{left:?}");
        assert!(shell.wait().unwrap().success(), "the shell saw its child end");
        assert!(processes(ancestor, Duration::ZERO).is_empty());
    }

    #[test]
    fn interfaces_are_seen() {
        assert!(PLACES[1].names().contains(&"lo".to_owned()));
    }
}
