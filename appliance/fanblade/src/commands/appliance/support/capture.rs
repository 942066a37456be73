//! One part of the archive: a program's output, a file, an answer of the admin port, each within limits.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a part is.
pub(super) enum What {
    /// A program and its arguments.
    Run(Vec<String>),
    File(PathBuf),
    /// A GET of the admin port: the answer with its head.
    Http(SocketAddr, &'static str),
    /// Those that the blade cares for: others may hold keys.
    Sysctls,
    /// The kernel's, without what is not known to be harmless: it may hold credentials.
    CommandLine,
}

pub(super) struct Captured {
    pub(super) bytes: Vec<u8>,
    /// What went wrong, or "whole".
    pub(super) note: String,
}

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) bytes: usize,
}

impl What {
    /// Words separated by spaces.
    pub(super) fn run(line: &str) -> What {
        What::Run(line.split(' ').map(str::to_owned).collect())
    }

    /// This very program.
    pub(super) fn itself(words: &[&str]) -> What {
        let program = std::env::current_exe().map_or_else(|_| "fanblade".to_owned(), |path| path.display().to_string());
        What::Run([program].into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect())
    }

    pub(super) fn bytes_max(&self) -> usize {
        match self {
            What::Run(words) if words.first().is_some_and(|program| program == "journalctl") => JOURNAL_LEN_MAX,
            _ => PART_LEN_MAX,
        }
    }

    pub(super) fn capture(&self, limits: Limits) -> Captured {
        let captured = match self {
            What::Run(words) => run(words, limits),
            What::File(path) => {
                let path = path.clone();
                read(limits, move || File::open(path))
            }
            What::Http(address, path) => {
                let (address, path) = (*address, *path);
                read(limits, move || get(address, path, limits.time))
            }
            What::Sysctls => Ok(Captured { bytes: sysctls().into_bytes(), note: WHOLE.to_owned() }),
            What::CommandLine => fs::read_to_string("/proc/cmdline")
                .map(|line| Captured { bytes: command_line(&line).into_bytes(), note: WHOLE.to_owned() }),
        };
        captured.unwrap_or_else(|error| Captured { bytes: Vec::new(), note: format!("not there: {error}") })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Run(words) => write!(f, "`{}`", words.join(" ")),
            What::File(path) => path.display().fmt(f),
            What::Http(address, path) => write!(f, "http://{address}{path}"),
            What::Sysctls => f.write_str("/proc/sys"),
            What::CommandLine => f.write_str("/proc/cmdline"),
        }
    }
}

/// Network cards, without loopback.
pub(super) fn cards() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut cards: Vec<String> = names.filter(|name| name != "lo").collect();
    cards.sort();
    cards.truncate(CARDS_MAX);
    cards
}

fn run(words: &[String], limits: Limits) -> io::Result<Captured> {
    let Some((program, args)) = words.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (output, input) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0").env("NO_COLOR", "1");
    // A group of its own, so that its children end with it.
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input).process_group(0);
    let child = command.spawn()?;
    // Our copies of the pipe's other end are closed: it ends with the program.
    drop(command);
    let mut captured = read(limits, move || Ok(output))?;
    if let Some(word) = end(child) {
        captured.note = format!("{}; {word}", captured.note);
    }
    Ok(captured)
}

/// Ends a program that has not ended by itself. Returns how it failed, if it did.
fn end(mut child: Child) -> Option<String> {
    let deadline = Instant::now() + END_MAX;
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let mut is_killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return (!status.success()).then(|| status.to_string()),
            Ok(None) if Instant::now() < deadline => {}
            // It hangs in the kernel.
            _ => return Some("it does not end".to_owned()),
        }
        if !is_killed && Instant::now() + END_MAX / 2 > deadline {
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            is_killed = true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads to the end or to a limit. On a thread of its own, which is left alone if it hangs.
fn read<R: Read>(limits: Limits, open: impl FnOnce() -> io::Result<R> + Send + 'static) -> io::Result<Captured> {
    let (sender, chunks) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(error) => return drop(sender.send(Err(error))),
        };
        let mut chunk = vec![0; 64 << 10];
        loop {
            let result = match reader.read(&mut chunk) {
                Ok(0) => return,
                Ok(len) => Ok(chunk[..len].to_vec()),
                Err(error) => Err(error),
            };
            let has_failed = result.is_err();
            if sender.send(result).is_err() || has_failed {
                return;
            }
        }
    });
    let deadline = Instant::now() + limits.time;
    let mut bytes = Vec::new();
    let note = loop {
        match chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(chunk)) => bytes.extend(chunk),
            Ok(Err(error)) if bytes.is_empty() => return Err(error),
            Ok(Err(error)) => break format!("cut: {error}"),
            Err(RecvTimeoutError::Disconnected) => break WHOLE.to_owned(),
            Err(RecvTimeoutError::Timeout) => break format!("cut: not within {} s", limits.time.as_secs()),
        }
        if bytes.len() > limits.bytes {
            bytes.truncate(limits.bytes);
            break format!("cut after {} KiB", limits.bytes >> 10);
        }
    };
    Ok(Captured { bytes, note })
}

fn get(address: SocketAddr, path: &str, time: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, time)?;
    stream.set_write_timeout(Some(time))?;
    // HTTP/1.0: the answer ends with the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    Ok(stream)
}

fn sysctls() -> String {
    let names = SYSCTLS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" ="));
    let names = names.map(|(name, _)| name.trim_start_matches('-')).chain(MORE_SYSCTLS);
    names.fold(String::new(), |text, name| {
        let value = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
        text + &format!("{name} = {}\n", value.map_or_else(|error| error.to_string(), |value| value.trim().to_owned()))
    })
}

fn command_line(line: &str) -> String {
    let word = |word: &str| match word.split_once('=') {
        Some((key, _)) if !HARMLESS.contains(&key) => format!("{key}=removed"),
        _ => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

const WHOLE: &str = "whole";
const PART_LEN_MAX: usize = 4 << 20;
const JOURNAL_LEN_MAX: usize = 16 << 20;
const CARDS_MAX: usize = 32;
/// From the end of a program's output to its own.
const END_MAX: Duration = Duration::from_secs(1);
const SYSCTLS: &str = include_str!("../../../../../../firmware-config/sysctl.d/60-fanblade.conf");
const MORE_SYSCTLS: [&str; 8] = [
    "fs.file-nr",
    "kernel.numa_balancing",
    "kernel.tainted",
    "kernel.watchdog_thresh",
    "net.core.default_qdisc",
    "net.ipv4.tcp_congestion_control",
    "vm.nr_hugepages",
    "vm.overcommit_memory",
];
/// Keys of the kernel's command line whose values are harmless.
const HARMLESS: [&str; 20] = [
    "BOOT_IMAGE",
    "console",
    "default_hugepagesz",
    "hugepages",
    "hugepagesz",
    "intel_pstate",
    "isolcpus",
    "loglevel",
    "mitigations",
    "nohz_full",
    "oops",
    "panic",
    "rcu_nocbs",
    "rd.emergency",
    "rd.shell",
    "root",
    "roothash",
    "systemd.gpt_auto",
    "systemd.show_status",
    "systemd.verity_root_options",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(line: &str, limits: Limits) -> (String, String) {
        let Captured { bytes, note } = What::Run(vec!["sh".into(), "-c".into(), line.into()]).capture(limits);
        (String::from_utf8(bytes).unwrap(), note)
    }

    #[test]
    fn a_part_has_limits_of_time_and_of_bytes() {
        let limits = Limits { time: Duration::from_secs(20), bytes: 1 << 20 };
        assert_eq!(captured("echo a; echo b >&2", limits), ("a\nb\n".to_owned(), "whole".to_owned()));
        let (_, note) = captured("exit 3", limits);
        assert!(note.contains("exit status: 3"), "{note}");
        let (text, note) = captured("yes", Limits { bytes: 1_000, ..limits });
        assert!(text.len() == 1_000 && note.starts_with("cut after"), "{note}");
        let started = Instant::now();
        let short = Limits { time: Duration::from_millis(200), ..limits };
        let (text, note) = captured("echo begins; sleep 60 & sleep 60", short);
        assert!(text == "begins\n" && note.starts_with("cut: not within"), "{note}");
        assert!(started.elapsed() < Duration::from_secs(10));
        let note = What::run("no-such-program-of-anybody").capture(limits).note;
        assert!(note.starts_with("not there"), "{note}");
    }

    #[test]
    fn a_kernels_command_line_may_hold_credentials() {
        assert_eq!(
            command_line("quiet roothash=ab systemd.set_credential_binary=fanblade.toml:c2VjcmV0\n"),
            "quiet roothash=ab systemd.set_credential_binary=removed"
        );
    }

    #[test]
    fn sysctls_are_those_that_the_blade_cares_for() {
        let text = sysctls();
        assert!(text.contains("net.core.somaxconn = ") && !text.contains("tcp_fastopen_key"), "{text}");
    }
}
