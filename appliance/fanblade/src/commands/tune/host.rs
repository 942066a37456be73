//! Where a machine's files and tools are: this machine's, or those that a test recorded.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine's /sys and /proc, and its programs.
pub(crate) struct Host {
    /// What stands for `/`.
    pub(crate) root: PathBuf,
    /// Runs a program with arguments; its output, or what it says is wrong.
    pub(crate) run: fn(&Path, &str, &[&str]) -> Result<String, String>,
}

impl Host {
    /// This machine.
    pub(crate) fn here() -> Host {
        Host { root: PathBuf::from("/"), run }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A file's text without blanks around it. None: it cannot be read.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// A file that holds one number.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, in order; none if it cannot be read.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last part of where a symbolic link leads.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        Some(fs::read_link(self.path(path)).ok()?.file_name()?.to_string_lossy().into_owned())
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    pub(crate) fn tool(&self, program: &str, args: &[&str]) -> Result<String, String> {
        (self.run)(&self.root, program, args)
    }

    /// Writes to a file of the kernel's.
    pub(crate) fn write(&self, path: &str, value: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(self.path(path))?;
        // One call: the kernel takes each as a value of its own.
        file.write_all(value.as_bytes())
    }
}

fn run(_: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let output = match Command::new(program).args(args).env("LC_ALL", "C").output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(format!("{program} is not installed")),
        Err(error) => return Err(format!("{program}: {error}")),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    Err(last.trim().trim_start_matches("netlink error: ").to_owned())
}
