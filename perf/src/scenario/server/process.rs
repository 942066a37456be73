//! A server that is not ours, as a process: found, started, waited for, and ended with all its children.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::scenario::definition::Scenario;

/// A server's process. Dropping it ends the process.
pub(super) struct Process {
    child: Child,
    /// The process's output, in a file without a name.
    log: File,
}

impl Process {
    /// Starts a program, and waits until it accepts connections at `addr`. The files that the program reads at its
    /// start can be removed then, so that nothing stays however we end. If we end without having ended the process, it
    /// gets the signal `end`.
    pub(super) fn start(
        mut command: Command,
        cpus: &[usize],
        addr: SocketAddrV4,
        end: Signal,
    ) -> anyhow::Result<Process> {
        let log = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        fanblade_measure::sys::tie_with(&mut command, cpus, end)?;
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let mut process = Process { child, log };
        let patience = Instant::now() + PATIENCE;
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("the server ended with {status}; its log: {}", process.log());
            }
            ensure!(
                Instant::now() < patience,
                "the server does not accept connections at {addr}; its log: {}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// The server has no counters that we know of, but it may have said something.
    pub(super) fn counters(&self) -> Value {
        json!({"log": self.log()})
    }

    /// What the process has said.
    fn log(&self) -> String {
        let whole = self.log.metadata().map_or(0, |it| it.len());
        let mut end = vec![0; whole.min(LOG_LEN_TOLD) as usize];
        let len = self.log.read_at(&mut end, whole.saturating_sub(LOG_LEN_TOLD)).unwrap_or(0);
        let log = String::from_utf8_lossy(&end[..len]);
        let last = log.lines().rev().take(LOG_LINES_TOLD).collect::<Vec<_>>();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The process and its children.
    pub(super) fn pids(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    /// Kills the parent first, because it might replace a child.
    pub(super) fn kill(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        for pid in self.pids() {
            // Fails if the process has already ended.
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of a program, or a sentence that says how to get it.
pub(super) fn find(name: &str, install: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian's servers are in sbin, which only root has on PATH.
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = directories.map(|directory| directory.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed; to get it: {install}"))
}

/// What the program says of its version, on its first line.
pub(super) fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

/// A port that nobody has at the moment.
pub(super) fn free_addr() -> anyhow::Result<SocketAddrV4> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// Refuses more subscribers than the server can have: each takes one of its descriptors.
pub(super) fn check_descriptors(scenario: &Scenario) -> anyhow::Result<()> {
    fanblade_net::rlimit::raise_descriptors()?;
    let (wanted, limit) = (u64::from(scenario.subscribers) + DESCRIPTORS_BESIDE, fanblade_net::rlimit::descriptors()?);
    ensure!(
        wanted <= limit,
        "this server needs {wanted} descriptors for {} subscribers, but RLIMIT_NOFILE is {limit}: raise it (`ulimit \
         -Hn`), or use fewer subscribers",
        scenario.subscribers
    );
    Ok(())
}

/// A publisher's connection: what the publisher says goes out at once; what the server answers is checked and thrown
/// away. The publisher never waits for an answer, because it shares its thread with subscribers.
pub(super) struct Line {
    stream: TcpStream,
    pub(super) pending: Vec<u8>,
    /// Whether an answer is a complaint.
    complaint: fn(&[u8]) -> bool,
}

impl Line {
    pub(super) fn connect(addr: SocketAddrV4, complaint: fn(&[u8]) -> bool) -> anyhow::Result<Line> {
        let stream = TcpStream::connect(addr).with_context(|| format!("the publisher cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Line { stream, pending: Vec::new(), complaint })
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.pending).context("cannot send to the server")?;
        self.pending.clear();
        self.drain()
    }

    /// Reads on until `text` has come.
    pub(super) fn await_text(&mut self, text: &[u8]) -> anyhow::Result<()> {
        let mut heard = Vec::new();
        while memchr::memmem::find(&heard, text).is_none() {
            let mut chunk = [0; 4096];
            let len = std::io::Read::read(&mut self.stream, &mut chunk)?;
            heard.extend_from_slice(&chunk[..len]);
            let so_far = String::from_utf8_lossy(&heard);
            ensure!(len > 0, "the server has closed the publisher's connection after {so_far:?}");
            ensure!(!(self.complaint)(&heard), "the server refuses the publisher: {so_far}");
        }
        Ok(())
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match recv(std::os::fd::AsRawFd::as_raw_fd(&self.stream), &mut chunk, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => bail!("the server has closed the publisher's connection"),
                Ok(len) => {
                    let heard = String::from_utf8_lossy(&chunk[..len]);
                    ensure!(!(self.complaint)(&chunk[..len]), "the server complains: {heard}");
                }
                Err(errno) if std::io::Error::from(errno).kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(errno) => return Err(errno).context("the publisher's connection broke"),
            }
        }
    }
}

/// A server that complains does so for each connection.
const LOG_LINES_TOLD: usize = 5;
const LOG_LEN_TOLD: u64 = 4_096;
/// How long to wait for a start, or for an answer to the publisher.
const PATIENCE: Duration = Duration::from_secs(60);
/// Descriptors of programs that need a few more than one for each subscriber.
const DESCRIPTORS_BESIDE: u64 = 100;
