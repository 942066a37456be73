//! The end of a blade: it always comes, subscribers are told, and the log says what could not be done.

mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::still::{Still, can_trace};
use common::{ENGINES, FANBLADE};
use fanblade_testkit::{Blade, Child, PATIENCE, try_http, until};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

/// Two signals this far apart count as two orders.
const APART: Duration = Duration::from_millis(100);

/// A command that starts a blade with this configuration.
fn command(directory: &TempDir, config: &str) -> Command {
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "2", "--config"]).arg(file);
    command
}

/// A blade that is fed by publishers, with its numbering in a file; and the address for publishers.
fn fed_by_publishers(directory: &TempDir) -> (Blade, SocketAddr) {
    let state = directory.path().join("publisher.toml");
    let config =
        format!("[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nstate = {state:?}\n");
    let blade = Blade::spawn(command(directory, &config));
    let source = blade.status()["feed"]["source"].as_str().unwrap().to_owned();
    let address = source.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
    let address = address.filter_map(|text| text.parse().ok()).next().unwrap();
    (blade, address)
}

fn publish(intake: SocketAddr, args: &[&str]) {
    let mut command = Command::new(FANBLADE);
    command.args(["publish", &intake.to_string()]).args(args).stderr(Stdio::null()).stdin(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// A subscriber that has subscribed and prints frames, and that says how it was told about the end.
struct Subscriber {
    child: Child,
    frames: BufReader<std::process::ChildStdout>,
}

impl Subscriber {
    fn of(data: SocketAddr) -> Subscriber {
        let mut command = Command::new(FANBLADE);
        command.args(["subscribe", &data.to_string(), "/NASDAQ/*/bbo", "--for", "120"]);
        let mut child = Child::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut frames = BufReader::new(child.stdout.take().unwrap());
        assert!(frames.read_line(&mut String::new()).unwrap() > 0, "the reply");
        Subscriber { child, frames }
    }

    /// Reads one frame.
    fn gets_a_frame(&mut self) {
        let mut line = String::new();
        while !line.starts_with("{\"s\":") {
            line.clear();
            assert!(self.frames.read_line(&mut line).unwrap() > 0, "it has ended");
        }
    }

    /// What the subscriber says at its end.
    fn end(self) -> String {
        let Subscriber { child, frames } = self;
        std::thread::spawn(move || frames.lines().map_while(Result::ok).for_each(drop));
        String::from_utf8(child.output().stderr).unwrap()
    }
}

/// Waits for the end of a blade that has a stopped thread. The tracer must wait for that thread, too, or the blade's
/// end is not seen.
fn wait_beside(blade: &mut Blade, still: &Still) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        still.reap();
        if let Some(status) = blade.try_wait() {
            return status;
        }
        assert!(Instant::now() < deadline, "the blade does not end: {}", blade.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_end_comes_where_the_state_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut blade, intake) = fed_by_publishers(&directory);
    // A directory stands where the new file would be written: as on a full disk, every attempt fails.
    std::fs::create_dir(directory.path().join("publisher.toml.new")).unwrap();
    // More than half of the reserved numbers, so that the blade tries to reserve more.
    publish(intake, &["--generate", "10", "--len", "30", "--count", "600000"]);
    blade.until("the trouble", |status| status["feed"]["troubles"]["state_not_written"].as_u64() > Some(0));
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    let log = blade.log();
    assert!(log.contains("that the numbering stops before 600001 could not be written"), "{log}");
    assert!(log.contains("none is used twice"), "what it means: {log}");
}

#[test]
fn the_end_comes_where_the_disk_does_not_answer() {
    for signals in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let (mut blade, intake) = fed_by_publishers(&directory);
        // Opening the FIFO for writing waits for a reader, for ever.
        mkfifo(&directory.path().join("publisher.toml.new"), Mode::S_IRWXU).unwrap();
        publish(intake, &["--generate", "1", "--len", "30", "--count", "10"]);
        blade.signal(Signal::SIGTERM);
        blade.until_logged_alone("has connected");
        (1..signals).for_each(|_| {
            std::thread::sleep(APART);
            blade.signal(Signal::SIGTERM);
        });
        let status = blade.wait();
        let log = blade.log();
        if signals == 1 {
            assert!(status.success() && log.contains("the disk has not answered within"), "{log}");
        }
    }
}

#[test]
fn numbers_that_are_nearly_used_up_are_refused_at_the_start() {
    for next in [u64::MAX, i64::MAX as u64, i64::MAX as u64 - 1000] {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("publisher.toml");
        std::fs::write(&state, format!("epoch = \"pub-x\"\nnext = {next}\n")).unwrap();
        let config = format!(
            "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nstate = {state:?}\n"
        );
        let mut command = command(&directory, &config);
        let output = command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("publisher.toml"), "{said}");
    }
}

#[test]
fn subscribers_are_told_although_the_sequencer_stands_still() {
    if !can_trace() {
        return;
    }
    // The thread stops at a random place, perhaps while it holds a lock, such as the log queue's or the allocator's. Of
    // several attempts some hit one.
    std::thread::scope(|scope| {
        for engine in ENGINES.into_iter().cycle().take(8) {
            scope.spawn(move || told_although_the_sequencer_stands_still(engine));
        }
    });
}

/// A function of its own, since only the thread that has stopped another may let it go on.
fn told_although_the_sequencer_stands_still(engine: &str) {
    let mut blade = Blade::start(&["--workers", "1", "--engine", engine]);
    let subscriber = Subscriber::of(blade.data);
    let still = Still::new(blade.pid(), "sequencer");
    blade.signal(Signal::SIGTERM);
    let said = subscriber.end();
    assert!(said.contains("closed by the blade: 1001"), "{engine}: {said}");
    let status = wait_beside(&mut blade, &still);
    assert!(!status.success(), "somebody was left");
    assert!(blade.log().contains("the sequencer has not ended within"), "{}", blade.log());
}

#[test]
fn several_signals_within_a_moment_are_one_order() {
    for engine in ENGINES {
        let mut blade = Blade::start(&["--workers", "1", "--engine", engine]);
        let subscriber = Subscriber::of(blade.data);
        // Like `timeout`: the signal goes to the child and to its group. If it counted twice, sessions would end
        // without a notice.
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| blade.signal(signal));
        let said = subscriber.end();
        assert!(said.contains("closed by the blade: 1001"), "{engine}: {said}");
        assert!(blade.wait().success() && !blade.log().contains("stopping at once"), "{engine}: {}", blade.log());
    }
}

#[test]
fn the_end_comes_although_a_worker_stands_still() {
    if !can_trace() {
        return;
    }
    let mut blade = Blade::start(&["--workers", "2"]);
    let still = Still::new(blade.pid(), "worker-1");
    blade.signal(Signal::SIGTERM);
    blade.until_logged_alone("stopping: ");
    std::thread::sleep(APART);
    blade.signal(Signal::SIGTERM);
    assert!(!wait_beside(&mut blade, &still).success());
    assert!(blade.log().contains("worker 1 has not ended"), "{}", blade.log());
}

#[test]
fn a_second_signal_works_although_the_control_thread_stands_still() {
    if !can_trace() {
        return;
    }
    let mut blade = Blade::start(&["--workers", "1"]);
    let still = Still::new(blade.pid(), "fanblade");
    blade.signal(Signal::SIGTERM);
    std::thread::sleep(APART);
    blade.signal(Signal::SIGTERM);
    assert!(!wait_beside(&mut blade, &still).success());
    assert!(blade.log().contains("the end takes too long"), "{}", blade.log());
}

#[test]
fn before_the_end_a_balancer_has_time_to_look() {
    for (signal, code) in [(Signal::SIGTERM, "1001"), (Signal::SIGUSR2, "1012")] {
        let directory = tempfile::tempdir().unwrap();
        let mut blade = Blade::spawn(command(&directory, "[data]\ndrain_delay_ms = \"10m\"\n"));
        let mut early = Subscriber::of(blade.data);
        assert!(blade.get("/readyz").0.starts_with("HTTP/1.1 200"));
        blade.signal(signal);
        blade.until("the order", |status| status["stopping"] == true && status["ready"] == false);
        assert!(blade.get("/readyz").0.starts_with("HTTP/1.1 503"));
        assert!(blade.get("/healthz").0.starts_with("HTTP/1.1 200"), "it serves");
        // New clients are still let in, and values go on.
        let mut late = Subscriber::of(blade.data);
        for _ in 0..2_000 {
            early.gets_a_frame();
            late.gets_a_frame();
        }
        // A second signal ends the delay; sessions are closed with the code of the first signal.
        blade.signal(Signal::SIGTERM);
        for subscriber in [early, late] {
            let said = subscriber.end();
            assert!(said.contains(&format!("closed by the blade: {code}")), "{said}");
        }
        assert!(blade.wait().success());
    }
    // Without a second signal the blade ends by itself.
    let directory = tempfile::tempdir().unwrap();
    let mut blade = Blade::spawn(command(&directory, "[data]\ndrain_delay_ms = 1500\n"));
    let subscriber = Subscriber::of(blade.data);
    let begun = Instant::now();
    blade.signal(Signal::SIGTERM);
    assert!(subscriber.end().contains("closed by the blade: 1001"));
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert!(blade.wait().success());
}

#[test]
fn a_service_goes_on_at_sighup_and_sigusr1() {
    let mut setsid = Command::new("setsid");
    setsid.args([FANBLADE, "run", "--no-ebpf", "--workers", "1"]);
    let mut blade = Blade::spawn(setsid);
    let mut subscriber = Subscriber::of(blade.data);
    for (signal, words) in [
        (Signal::SIGHUP, "started without --config, so there is no file to read"),
        (Signal::SIGUSR1, "SIGUSR1 changes nothing"),
    ] {
        blade.signal(signal);
        blade.until_logged(words);
    }
    blade.signal(Signal::SIGPIPE);
    (0..2_000).for_each(|_| subscriber.gets_a_frame());
    assert_eq!(blade.status()["stopping"], false);
    blade.signal(Signal::SIGTERM);
    assert!(subscriber.end().contains("closed by the blade: 1001"));
    assert!(blade.wait().success());
}

/// A program with a terminal of its own, as its session leader, which gets SIGHUP; it ends with its test.
struct InTerminal {
    program: Child,
    master: File,
}

impl InTerminal {
    /// `before`: shell commands that run first.
    fn run(before: &str, args: &[&str]) -> InTerminal {
        // No child may inherit the master: the terminal is gone only when all its descriptors are closed.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = || {
            let mut options = File::options();
            Stdio::from(options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name).unwrap())
        };
        let size = ["rows", "30", "columns", "100"];
        assert!(Command::new("stty").args(size).stdin(slave()).status().unwrap().success());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "sh", "-c", &format!("{before}exec \"$0\" \"$@\""), FANBLADE]).args(args);
        command.env("TERM", "xterm-256color").stdin(slave()).stdout(slave()).stderr(slave());
        let child = Child::spawn(&mut command);
        // The master is used to read what is shown.
        InTerminal { program: child, master: File::from(OwnedFd::from(master)) }
    }

    /// Closes the program's terminal.
    fn hang_up(self) -> Child {
        let InTerminal { program, master } = self;
        drop(master);
        program
    }
}

#[test]
fn a_blade_whose_terminal_goes_says_goodbye() {
    let (data, admin) = (free(), free());
    let blade = InTerminal::run("", &run_args(&data.to_string(), &admin.to_string()));
    until("it serves", || try_http(admin, "/healthz").ok());
    let subscriber = Subscriber::of(data);
    let mut blade = blade.hang_up();
    let said = subscriber.end();
    assert!(said.contains("closed by the blade: 1001"), "{said}");
    assert!(blade.end().success());
}

#[test]
fn what_nohup_starts_outlives_its_terminal() {
    let (data, admin) = (free(), free());
    let blade = InTerminal::run("trap '' HUP; ", &run_args(&data.to_string(), &admin.to_string()));
    until("it serves", || try_http(admin, "/healthz").ok());
    let mut subscriber = Subscriber::of(data);
    let mut blade = blade.hang_up();
    (0..2_000).for_each(|_| subscriber.gets_a_frame());
    blade.signal(Signal::SIGTERM);
    assert!(subscriber.end().contains("closed by the blade: 1001"));
    assert!(blade.end().success());
}

#[test]
fn top_ends_with_its_terminal() {
    let blade = Blade::start(&["--workers", "1"]);
    // The second one ignores SIGHUP, and only sees that its terminal has ended.
    for before in ["", "trap '' HUP; "] {
        let mut top = InTerminal::run(before, &["top", &blade.admin.to_string()]);
        let mut shown = String::new();
        let mut bytes = [0; 4096];
        while !shown.contains("fanblade") {
            let len = top.master.read(&mut bytes).unwrap();
            shown += &String::from_utf8_lossy(&bytes[..len]);
        }
        top.hang_up().end();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn run_args<'a>(data: &'a str, admin: &'a str) -> [&'a str; 8] {
    ["run", "--no-ebpf", "--workers", "1", "--listen", data, "--admin", admin]
}

#[test]
fn signals_are_in_the_help() {
    let output = Command::new(FANBLADE).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for name in ["SIGTERM", "SIGUSR2", "SIGHUP"] {
        assert!(help.contains(name), "{help}");
    }
}
