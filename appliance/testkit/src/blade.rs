//! A running blade, and the questions that tests ask it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::wait::until;
use crate::{Child, PATIENCE, http};

/// The program, as cargo has built it beside the test.
///
/// # Panics
///
/// The program does not exist: cargo builds it only for the tests of its own package.
pub fn program() -> PathBuf {
    // Tests lie in `deps`, below the directory of the programs.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("fanblade");
    assert!(program.is_file(), "there is no {}: `cargo build -p fanblade` makes it", program.display());
    program
}

/// A running blade; it ends with its test.
pub struct Blade {
    child: Child,
    /// Where subscribers connect.
    pub data: SocketAddr,
    /// The admin port.
    pub admin: SocketAddr,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Blade {
    /// Starts a blade with these arguments, without eBPF, on free ports.
    pub fn start(args: &[&str]) -> Blade {
        let mut command = Command::new(program());
        command.args(["run", "--no-ebpf"]).args(args);
        Blade::spawn(command)
    }

    /// Starts a blade by a command that has all arguments but the ports.
    pub fn spawn(command: Command) -> Blade {
        Blade::spawn_logging_to(command, Stdio::piped())
    }

    /// As [`Blade::spawn`], with the log going to `stderr`; [`Blade::log`] is empty then.
    pub fn spawn_logging_to(mut command: Command, stderr: Stdio) -> Blade {
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut child = Child::spawn(command.stdout(Stdio::piped()).stderr(stderr));
        // The command holds copies of the test's own descriptors: close them here, or a pipe would never end.
        drop(command);
        let log = Arc::new(Mutex::new(String::new()));
        let log_reader = child.stderr.take().map(|stderr| {
            let (log, stderr) = (Arc::clone(&log), BufReader::new(stderr));
            std::thread::spawn(move || {
                stderr.lines().map_while(Result::ok).for_each(|line| *log.lock().unwrap() += &format!("{line}\n"));
            })
        });
        // The blade prints its ports at its start, for people and for this.
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

    /// The number of the blade's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the blade.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for the blade's end, and for the last line of its log.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_wait() {
                if let Some(reader) = self.log_reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(Instant::now() < deadline, "the blade does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The exit status, if the blade has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// All that the blade has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for words in the log: an event that the status shows already may reach the log a little later.
    #[track_caller]
    pub fn until_logged(&self, words: &str) {
        self.until(words, |_| self.log().contains(words));
    }

    /// As [`Blade::until_logged`], for a blade whose admin port does not answer any more.
    #[track_caller]
    pub fn until_logged_alone(&self, words: &str) {
        until(words, || self.log().contains(words).then_some(()));
    }

    /// The answer of the admin port: status line and headers, body.
    #[track_caller]
    pub fn get(&self, path: &str) -> (String, String) {
        http(self.admin, path)
    }

    /// The answer of `/v1/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.get("/v1/status").1).unwrap()
    }

    /// The value of a metric; `name` includes the labels, if it has any.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").1;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until a metric has this value: the sequencer reports its counts only every so often.
    #[track_caller]
    pub fn until_metric(&self, name: &str, value: f64) {
        self.until(&format!("{name} {value}"), |_| self.metric(name) == value);
    }

    /// Waits until `holds` is true of the status, and returns the status.
    #[track_caller]
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

    /// The command `fanblade subscribe`, with this blade's address.
    pub fn subscriber(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("subscribe").arg(self.data.to_string()).args(args);
        command
    }
}

impl Drop for Blade {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The log is printed after the blade's end, so that no line is missing.
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("log of the blade:\n{}", self.log());
            return;
        }
        // Whatever a test does, no worker asks for what it is refused, unless it was told to.
        let log = self.log();
        assert!(!log.contains("workers were refused") || log.contains(", as told"), "{log}");
    }
}
