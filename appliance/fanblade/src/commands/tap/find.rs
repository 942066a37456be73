//! Finding the ring of a running blade: a memfd that some process holds open for writing.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use fanblade_ring::Reader;

use super::life::Life;

/// Selects a blade.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Choice {
    /// The blade's process [default: the only one that runs]
    #[arg(long, global = true)]
    pub(crate) pid: Option<u32>,
    /// The ring's descriptor in that process, if it has several rings
    #[arg(long, global = true, requires = "pid")]
    pub(crate) fd: Option<u32>,
}

/// A ring, open for reading.
#[derive(Debug)]
pub(crate) struct Tapped {
    pub(crate) pid: u32,
    pub(super) path: PathBuf,
    pub(super) command: String,
    pub(crate) reader: Reader,
    pub(super) life: Life,
}

/// Opens the selected ring, or says why it cannot be opened.
pub(crate) fn open(choice: &Choice) -> anyhow::Result<Tapped> {
    let mut search = match choice.pid {
        Some(pid) => Search::of_process(pid)?,
        None => Search::everywhere()?,
    };
    search.found.retain(|found| choice.fd.is_none_or(|fd| fd == found.fd));
    match (search.found.as_slice(), search.hidden.first()) {
        ([found], _) => found.open(),
        ([], Some(hidden)) => bail!("{}", denied(*hidden)),
        ([], None) => bail!("{}", nothing(choice)),
        (several, _) => {
            let lines: Vec<String> = several.iter().map(Found::describe).collect();
            let option = if choice.pid.is_some() { "--fd" } else { "--pid" };
            bail!("there are {} rings; say which one is meant by {option}:\n{}", several.len(), lines.join("\n"))
        }
    }
}

/// A ring that some process writes.
#[derive(Debug)]
struct Found {
    pid: u32,
    fd: u32,
    command: String,
}

#[derive(Debug, Default)]
struct Search {
    found: Vec<Found>,
    /// Processes that look like blades, but whose descriptors cannot be read.
    hidden: Vec<u32>,
    /// Inodes of the rings found so far. A process that is just starting shares its parent's descriptors for a moment.
    known: HashSet<u64>,
}

impl Search {
    fn everywhere() -> anyhow::Result<Search> {
        let mut search = Search::default();
        let processes = fs::read_dir("/proc").context("cannot read /proc, where running blades are looked for")?;
        let mut pids: Vec<u32> =
            processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        for pid in pids {
            // Processes come and go during the search.
            match search.look_into(pid) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_like_a_blade(pid) => {
                    search.hidden.push(pid);
                }
                _ => {}
            }
        }
        Ok(search)
    }

    fn of_process(pid: u32) -> anyhow::Result<Search> {
        let mut search = Search::default();
        match search.look_into(pid) {
            Ok(()) => Ok(search),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!("{}", denied(pid)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("there is no process {pid}"),
            Err(error) => Err(error).with_context(|| format!("cannot look into process {pid}")),
        }
    }

    fn look_into(&mut self, pid: u32) -> io::Result<()> {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            let target = match fs::read_link(&path) {
                // The descriptor was closed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                target => target?,
            };
            let Some(fd) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            if target.as_os_str().to_string_lossy().starts_with(MEMFD) && is_writable(&path) && self.is_new(&path) {
                self.found.push(Found { pid, fd, command: command(pid) });
            }
        }
        Ok(())
    }

    fn is_new(&mut self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| self.known.insert(metadata.ino()))
    }
}

impl Found {
    fn open(&self) -> anyhow::Result<Tapped> {
        let Found { pid, fd, ref command } = *self;
        let path = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
        let life = Life::of(pid).with_context(|| format!("process {pid} has just ended"))?;
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => anyhow::anyhow!("{}", denied(pid)),
            _ => anyhow::Error::new(error).context(format!("cannot open {}", path.display())),
        })?;
        let reader = Reader::open(file.as_fd()).with_context(|| format!("cannot read the ring of process {pid}"))?;
        Ok(Tapped { pid, path, command: command.clone(), reader, life })
    }

    /// A line for the list to choose from.
    fn describe(&self) -> String {
        let epoch = self
            .open()
            .map_or_else(|error| format!("{error:#}"), |tapped| format!("epoch {}", tapped.reader.epoch().1));
        format!("  process {}, descriptor {}: {} ({epoch})", self.pid, self.fd, self.command)
    }
}

/// Whether the file was opened for writing, which /proc shows in the link's own permissions. The ring's writer holds it
/// for writing; a reader such as this program does not.
fn is_writable(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o200 != 0)
}

fn is_like_a_blade(pid: u32) -> bool {
    let command = command(pid);
    let mut words = command.split(' ');
    words.next().is_some_and(|program| program.ends_with("fanblade")) && words.next() == Some("run")
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace(|c: char| c.is_control(), " ");
    if let Some((cut, _)) = text.char_indices().nth(COMMAND_CHARS_MAX) {
        text.truncate(cut);
        text.push_str(" …");
    }
    text
}

fn denied(pid: u32) -> String {
    let like = if is_like_a_blade(pid) { " looks like a blade, but" } else { ":" };
    format!(
        "process {pid}{like} its descriptors may not be read; run this as the same user, or with CAP_SYS_PTRACE (sudo). \
         A blade whose file has capabilities hides from its own user as well"
    )
}

fn nothing(choice: &Choice) -> String {
    match choice {
        Choice { pid: Some(pid), fd: Some(fd) } => format!("descriptor {fd} of process {pid} is not a ring"),
        Choice { pid: Some(pid), .. } => {
            format!("process {pid} ({}) holds no ring; is it a blade (fanblade run)?", command(*pid))
        }
        _ => "no blade runs on this machine, or none that this user may see; start one: fanblade run".to_owned(),
    }
}

/// The name of the ring's memfd in /proc.
const MEMFD: &str = "/memfd:fanblade-ring";
const COMMAND_CHARS_MAX: usize = 100;
