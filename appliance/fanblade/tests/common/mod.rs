//! A real blade on free ports, and what tests ask it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

pub mod exchange;
pub mod network;
pub mod soup;
pub mod still;

pub mod terminal;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub const FANBLADE: &str = env!("CARGO_BIN_EXE_fanblade");
pub const ENGINES: [&str; 2] = ["uring", "epoll"];
/// The machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running blade; killed when dropped.
pub struct Blade {
    child: Child,
    pub data: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Blade {
    /// Starts one with these arguments, without eBPF, on free ports.
    pub fn start(args: &[&str]) -> Blade {
        let mut command = Command::new(FANBLADE);
        command.args(["run", "--no-ebpf"]).args(args);
        Blade::spawn(command)
    }

    /// Starts one by a command that has everything but the ports.
    pub fn spawn(command: Command) -> Blade {
        Blade::spawn_logging_to(command, Stdio::piped())
    }

    /// The same, with its log where the test wants it; [`Blade::log`] is empty then.
    pub fn spawn_logging_to(mut command: Command, stderr: Stdio) -> Blade {
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        // What it was given of the test's own descriptors is closed here, or a pipe would never end.
        drop(command);
        let log = Arc::new(Mutex::new(String::new()));
        let log_reader = child.stderr.take().map(|stderr| {
            let (log, stderr) = (Arc::clone(&log), BufReader::new(stderr));
            std::thread::spawn(move || {
                stderr.lines().map_while(Result::ok).for_each(|line| *log.lock().unwrap() += &format!("{line}\n"));
            })
        });
        // What it prints at its start is its interface to people and to this.
        let (mut data, mut admin) = (None, None);
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let address =
                |prefix: &str| line.trim().strip_prefix(prefix)?.trim().split(['/', ' ']).nth(2)?.parse().ok();
            data = data.or(address("subscribers"));
            admin = admin.or(address("live page"));
            if line.trim().starts_with("try ") {
                break;
            }
        }
        let Some((data, admin)) = data.zip(admin) else {
            let status = child.wait();
            panic!("the blade did not start ({status:?}):\n{}", log.lock().unwrap());
        };
        Blade { child, data, admin, log, log_reader }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end, and for the last line of its log.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.log_reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(Instant::now() < deadline, "the blade does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What a status tells already may reach the log a little later.
    pub fn until_logged(&self, words: &str) {
        self.until(words, |_| self.log().contains(words));
    }

    /// The same, where the admin port does not answer any more.
    pub fn until_logged_alone(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(Instant::now() < deadline, "{words}: not within {PATIENCE:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its end, if it has come.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The answer of the admin port: status line and headers, body.
    pub fn get(&self, path: &str) -> (String, String) {
        http(self.admin, path)
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status").1).unwrap()
    }

    /// The value of a metric, without labels or as it stands with them.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until this holds of the status.
    /// Waits until a metric has this value: what the sequencer counts is told every so often.
    pub fn until_metric(&self, name: &str, value: f64) {
        self.until(&format!("{name} {value}"), |_| self.metric(name) == value);
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; {status:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `fanblade subscribe` to its end.
    pub fn subscribe(&self, args: &[&str]) -> Output {
        self.subscriber(args).output().unwrap()
    }

    pub fn subscriber(&self, args: &[&str]) -> Command {
        let mut command = Command::new(FANBLADE);
        command.arg("subscribe").arg(self.data.to_string()).args(args);
        command
    }
}

impl Drop for Blade {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the blade:\n{}", self.log());
        }
    }
}

/// Runs the program to its end: exit code, standard output, standard error.
pub fn fanblade(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(FANBLADE).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The summary that `subscribe --json` printed.
pub fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_else(|| panic!("no summary: {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(line).unwrap()
}

/// The answer to a GET: status line and headers, body.
pub fn http(address: SocketAddr, path: &str) -> (String, String) {
    try_http(address, path).unwrap()
}

/// The same, where there may be no answer yet.
pub fn try_http(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head)? > 0 {}
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = String::new();
    stream.take(length.unwrap_or(u64::MAX)).read_to_string(&mut body)?;
    Ok((head, body))
}

/// A file of real market data; none, and a line that says so, where it is not at hand.
pub fn real_data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FANBLADE_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let file = root.join("itch50").join(name);
    if file.is_file() {
        return Some(file);
    }
    println!("skipped: no {} (FANBLADE_DATA names the directory)", file.display());
    None
}

/// A simulated day of so many messages, as a file.
pub fn simulated_file(directory: &tempfile::TempDir, messages: u64) -> PathBuf {
    let path = directory.path().join("12302019.simulated");
    let config = fanblade_feed::simulator::SimulatorConfig {
        symbols: 100,
        messages_per_s: 10_000,
        ..fanblade_feed::simulator::SimulatorConfig::default()
    };
    let file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    assert_eq!(fanblade_feed::simulator::write_binaryfile(&config, messages, file).unwrap(), messages);
    path
}

/// Every frame that a file must give, in order, worked out without a blade.
pub fn expected_frames(path: &std::path::Path) -> Vec<String> {
    use fanblade_feed::{Event, Feed as _, FileFeed, Poll, pace::Pace};
    // 2019-12-30, and 2019-01-30: both five hours behind UTC.
    let midnight = if path.to_string_lossy().contains("01302019") { 1_548_824_400 } else { 1_577_682_000 };
    let mut market = fanblade_market::Market::new("NASDAQ", midnight * 1_000_000_000);
    let mut feed = FileFeed::open(path, Pace::Unpaced).unwrap();
    let mut newest = std::collections::HashMap::<String, u64>::new();
    let mut frames = Vec::new();
    loop {
        let poll = feed.poll(0, &mut |event| {
            let Event::Message { seq, bytes, .. } = event else { return };
            // A file that does not begin with the day does not know what came before.
            if seq == 1 && !(bytes.first() == Some(&b'S') && bytes.last() == Some(&b'O')) {
                market.set_incomplete();
            }
            let applied = market.apply(seq, bytes, &mut |update| {
                let (mut subject, mut json) = (String::new(), Vec::new());
                update.subject(&mut subject);
                let prev = newest.insert(subject.clone(), seq).unwrap_or(0);
                fanblade_market::encode::json(&mut json, &subject, seq, prev, update.ts_ns, &update.image);
                frames.push(String::from_utf8(json).unwrap());
            });
            applied.unwrap();
        });
        if poll.unwrap() == Poll::Finished {
            return frames;
        }
    }
}
