//! The tools tree as a place to run programs in: a mount namespace of their own, so that nothing stays mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};

use crate::child;

/// A tools tree, and the directories of the host that are seen in it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    tree: PathBuf,
    /// Directories of the host, and where they appear.
    binds: Vec<(PathBuf, &'static str)>,
    epoch: u64,
}

impl Room {
    pub(crate) fn new(tree: &Path, epoch: u64, binds: Vec<(PathBuf, &'static str)>) -> Room {
        Room { tree: tree.to_owned(), binds, epoch }
    }

    /// The tree's root directory.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Runs a program to its end, and returns what it printed. If it fails, the error holds the end of its output.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        command.args(args);
        let line = child::line(&command);
        let output = self.output(command)?;
        if !output.status.success() {
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(OUTPUT_LINES_MAX)..].join("\n");
            bail!("`{line}`: {}\n{tail}", child::ending(output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command to its end within the tree.
    pub(crate) fn output(&self, mut command: Command) -> anyhow::Result<Output> {
        let line = child::line(&command);
        let home = [("HOME", "/root"), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C.UTF-8"), ("TZ", "UTC")];
        command.env_clear().envs(home).env("TERM", "dumb").env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        // Debian's packages come through the host's proxy, if it has one.
        command.envs(std::env::vars_os().filter(|(name, _)| PROXY.iter().any(|proxy| name == proxy)));
        command.stdin(Stdio::null());
        self.within(|| command.output().with_context(|| format!("starting `{line}`")))?
    }

    /// Calls a closure on a thread whose root directory is the tree. Children that it starts stay there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter().with_context(|| format!("entering {}", self.tree.display()))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives this thread a mount namespace and a root directory of its own.
    fn enter(&self) -> anyhow::Result<()> {
        const NONE: Option<&str> = None;
        let tree = &self.tree;
        let bind = |from: &Path, to: &str, flags: MsFlags| {
            let to = tree.join(to.trim_start_matches('/'));
            mount(Some(from), &to, NONE, MsFlags::MS_BIND | flags, NONE)
                .with_context(|| format!("binding {} to {}", from.display(), to.display()))
        };
        // The names of the network's servers, for apt. Written on the host's side, once a run.
        for file in ["resolv.conf", "hosts"] {
            let _ = fs::remove_file(tree.join("etc").join(file));
            let _ = fs::copy(Path::new("/etc").join(file), tree.join("etc").join(file));
        }
        // For a single thread this also separates its root and current directory from the process's.
        unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of our own")?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("making all mounts private")?;
        for system in ["/proc", "/sys", "/dev"] {
            bind(Path::new(system), system, MsFlags::MS_REC)?;
        }
        for scratch in ["run", "tmp"] {
            mount(Some("tmpfs"), &tree.join(scratch), Some("tmpfs"), MsFlags::empty(), NONE)?;
        }
        for (from, to) in &self.binds {
            fs::create_dir_all(tree.join(to.trim_start_matches('/')))?;
            bind(from, to, MsFlags::empty())?;
        }
        chroot(tree)?;
        chdir("/")?;
        Ok(())
    }
}

/// Variables of the host's environment that apt knows.
const PROXY: [&str; 3] = ["http_proxy", "https_proxy", "no_proxy"];
/// Lines of a failed program's output that the error quotes.
const OUTPUT_LINES_MAX: usize = 25;
