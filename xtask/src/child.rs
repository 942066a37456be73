//! Running other programs: printed before they start, watched while they run, and never left behind.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::repository;

/// Runs a program that inherits our output. If it fails, the error names the command.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}`: {}", ending(status));
    }
    Ok(())
}

/// Which of a program's two outputs a line came from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Runs a program and passes its output on, line by line, letting `watch` see every line first.
/// After `time_max` the program and all its descendants are killed, and the result is an error.
pub(crate) fn watched(
    command: &mut Command,
    time_max: Duration,
    mut watch: impl FnMut(Stream, &str),
) -> anyhow::Result<ExitStatus> {
    let line = line(command);
    eprintln!("$ {line}");
    let deadline = Instant::now() + time_max;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    // A thread for each output, so that neither pipe fills while we read the other.
    let (sender, lines) = mpsc::sync_channel::<(Stream, Vec<u8>)>(LINES_QUEUED_MAX);
    forward(child.stdout.take(), Stream::Out, sender.clone());
    forward(child.stderr.take(), Stream::Err, sender);
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(POLL_INTERVAL) {
            Ok((stream, bytes)) => {
                watch(stream, String::from_utf8_lossy(&bytes).trim_end());
                // A reader that has closed our own output is no reason to stop the program.
                let _ = match stream {
                    Stream::Out => std::io::stdout().write_all(&bytes),
                    Stream::Err => std::io::stderr().write_all(&bytes),
                };
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if ended.is_none() && child.try_wait()?.is_some() {
                    ended = Some(Instant::now());
                }
                // The program has ended, but a process that it started holds its output open: do not wait for that one.
                if ended.is_some_and(|ended| ended.elapsed() > OUTPUT_OPEN_MAX) {
                    return Ok(child.wait()?);
                }
            }
        }
        if ended.is_none() && Instant::now() >= deadline {
            // The descendants first: once their parent is dead they could not be found.
            let pid = Pid::from_raw(child.id().cast_signed());
            for process in living(pid) {
                let _ = kill(process.pid, Signal::SIGKILL);
            }
            child.kill()?;
            child.wait()?;
            bail!("`{line}` was killed: it had not ended after {} s", time_max.as_secs());
        }
    }
    Ok(child.wait()?)
}

fn forward(pipe: Option<impl Read + Send + 'static>, stream: Stream, lines: mpsc::SyncSender<(Stream, Vec<u8>)>) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    // The thread ends with the pipe or with the receiver, whichever closes first.
    thread::spawn(move || {
        loop {
            let mut bytes = Vec::new();
            match pipe.read_until(b'\n', &mut bytes) {
                Ok(1..) if lines.send((stream, bytes)).is_ok() => {}
                _ => break,
            }
        }
    });
}

/// A program that is killed when it goes out of scope.
pub(crate) struct Server(pub(crate) Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy()))));
    let program = command.get_program().to_string_lossy();
    // The full path of a toolchain's cargo tells the reader nothing.
    let program = if program.ends_with("/cargo") { "cargo".into() } else { program };
    let args = command.get_args().map(|arg| quoted(&arg.to_string_lossy()));
    set.chain([program.into_owned()]).chain(args).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// "exit code 1", "killed by signal 9".
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A living process, as /proc describes it.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    parent: Pid,
    pub(crate) command: String,
}

/// Every descendant of `ancestor` that has not ended. A zombie has ended and only waits to be reaped.
pub(crate) fn living(ancestor: Pid) -> Vec<Process> {
    let all: Vec<Process> = repository::list("/proc").iter().filter_map(|name| read_process(name)).collect();
    let mut found: Vec<Process> = Vec::new();
    let mut rest = all;
    loop {
        let (below, others): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|process| process.parent == ancestor || found.iter().any(|parent| parent.pid == process.parent));
        if below.is_empty() {
            return found;
        }
        found.extend(below);
        rest = others;
    }
}

fn read_process(name: &str) -> Option<Process> {
    let pid: i32 = name.parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "PID (NAME) STATE PARENT …", and NAME can hold anything, even parentheses.
    let (head, tail) = stat.rsplit_once(')')?;
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let full = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let full = String::from_utf8_lossy(&full).trim_end_matches('\0').replace('\0', " ");
    let short = head.split_once('(').map_or("", |(_, short)| short).to_owned();
    let command = if full.is_empty() { short } else { full };
    (state != "Z" && state != "X").then_some(Process {
        pid: Pid::from_raw(pid),
        parent: Pid::from_raw(parent),
        command,
    })
}

/// Lines queued between a reader's thread and us; a program that prints faster than we do blocks on its pipe.
const LINES_QUEUED_MAX: usize = 1024;

/// How long we wait for the output of a program that has ended to close.
const OUTPUT_OPEN_MAX: Duration = Duration::from_secs(5);

/// How often we check whether a silent program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_outputs_are_seen_and_the_end_is_told() {
        let mut seen = Vec::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo one; echo two >&2; exit 3"]);
        let status = watched(&mut shell, Duration::from_secs(20), |stream, line| seen.push((stream, line.to_owned())));
        assert_eq!(ending(status.unwrap()), "exit code 3");
        assert!(seen.contains(&(Stream::Out, "one".into())) && seen.contains(&(Stream::Err, "two".into())));
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let started = Instant::now();
        let mut shell = Command::new("sh");
        // Each shell waits for another process, so that killing the first alone would leave one behind.
        shell.args(["-c", "sh -c 'sleep 87.25; true'; true"]);
        let error = watched(&mut shell, Duration::from_millis(300), |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("it had not ended after"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(20));
        let is_left = |name: &String| read_process(name).is_some_and(|process| process.command.contains("sleep 87.25"));
        while repository::list("/proc").iter().any(is_left) {
            assert!(started.elapsed() < Duration::from_secs(20), "it lives on");
            thread::sleep(POLL_INTERVAL);
        }
    }

    #[test]
    fn commands_print_as_one_would_type_them() {
        let mut command = Command::new("/opt/rust/bin/cargo");
        command.env("RUSTFLAGS", "--cfg loom").args(["test", "--", "a b"]);
        assert_eq!(line(&command), "RUSTFLAGS='--cfg loom' cargo test -- 'a b'");
    }
}
