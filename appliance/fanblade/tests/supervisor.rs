//! What a service manager hears from a blade (sd_notify(3)), and what a blade does at SIGHUP.

mod common;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::FANBLADE;
use common::still::{Still, can_trace};
use fanblade_testkit::{Blade, Child, PATIENCE, http};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message};

/// A service manager, as far as a blade sees one.
struct Manager {
    socket: UnixDatagram,
    /// `NOTIFY_SOCKET`.
    name: OsString,
}

impl Manager {
    fn at_a_path(directory: &TempDir) -> Manager {
        let path = directory.path().join("notify");
        Manager { socket: UnixDatagram::bind(&path).unwrap(), name: path.into() }
    }

    fn abstract_one() -> Manager {
        let name = format!("fanblade-test-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).unwrap();
        Manager { socket: UnixDatagram::bind_addr(&address).unwrap(), name: format!("@{name}").into() }
    }

    /// The next message, if one comes within this time.
    fn hears_within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..len].to_vec()).unwrap())
    }

    /// Waits for a message that begins so, and returns it.
    #[track_caller]
    fn hears(&self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match self.hears_within(left) {
                Some(message) if message.starts_with(beginning) => return message,
                Some(_) => {}
                None => panic!("{beginning} does not come"),
            }
        }
    }

    /// Reads what has come so far.
    fn catch_up(&self) {
        while self.hears_within(Duration::from_millis(1)).is_some() {}
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A blade without a terminal: with one, SIGHUP would mean that it has gone.
fn command(manager: &Manager, args: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    command.args([FANBLADE, "run", "--no-ebpf", "--workers", "2"]).args(args);
    command.env("NOTIFY_SOCKET", &manager.name).env_remove("RUST_LOG").env("NO_COLOR", "1");
    command
}

fn config(directory: &TempDir, text: &str) -> String {
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_blade_is_ready_when_its_ports_answer_and_says_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    for manager in [Manager::at_a_path(&directory), Manager::abstract_one()] {
        let (data, admin) = (free(), free());
        // A feed that waits for subscribers: the blade is ready without it.
        let args = ["--wait-for", "1", "--listen", &data.to_string(), "--admin", &admin.to_string()];
        let mut command = command(&manager, &args);
        let mut blade = Child::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        // On a slow machine the first line for people comes before every thread has begun.
        let mut heard = vec![manager.hears_within(PATIENCE).unwrap()];
        while heard.last().unwrap() != "READY=1" {
            assert!(heard.last().unwrap().starts_with("STATUS="), "{heard:?}");
            heard.push(manager.hears_within(PATIENCE).unwrap());
        }
        // At the first attempt, at once.
        for port in [data, admin] {
            assert!(http(port, "/healthz").0.starts_with("HTTP/1.1 200"), "{port}");
        }
        while !heard.iter().any(|message| message.contains("feed waiting; 0 sessions, 0 subscribed")) {
            heard.push(manager.hears("STATUS="));
        }
        blade.signal(Signal::SIGTERM);
        let stopping = manager.hears("STOPPING=1\n");
        let us = stopping.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC=")?.parse().ok());
        assert_eq!(us, Some(25_000_000_u64), "{stopping}");
        assert!(blade.end().success());
        assert_eq!(manager.hears_within(Duration::from_millis(10)), None, "nothing after that");
    }
}

#[test]
fn before_a_delayed_end_the_manager_is_told_how_long_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::at_a_path(&directory);
    let file = config(&directory, "[data]\ndrain_delay_ms = \"10m\"\n");
    let mut blade = Blade::spawn(command(&manager, &["--config", &file]));
    manager.hears("READY=1");
    blade.signal(Signal::SIGTERM);
    assert!(manager.hears("STOPPING=1\n").contains("EXTEND_TIMEOUT_USEC=625000000"));
    blade.until("the order", |status| status["stopping"] == true);
    // Signals within a moment count as one.
    std::thread::sleep(Duration::from_millis(100));
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
}

#[test]
fn the_watchdog_hears_nothing_while_a_thread_stands_still() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::at_a_path(&directory);
    let file = config(&directory, "[admin]\nstalled_ms = 2000\n");
    let mut command = command(&manager, &["--config", &file]);
    command.env("WATCHDOG_USEC", "600000");
    let blade = Blade::spawn(command);
    let comes = |count: u32| {
        let begun = Instant::now();
        (0..count).for_each(|_| drop(manager.hears("WATCHDOG=1")));
        begun.elapsed()
    };
    comes(1);
    // At half of the manager's time, or a little earlier: every 200 or 300 ms, however slow this machine is.
    assert!(comes(5) >= Duration::from_millis(500), "not at every look");
    for comm in ["sequencer", "worker-1", "fanblade"] {
        let still = Still::new(blade.pid(), comm);
        blade.until(comm, |status| status["ailment"] != "");
        manager.catch_up();
        let until = Instant::now() + Duration::from_millis(1_500);
        while let Some(message) =
            manager.hears_within(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
        {
            assert!(message.starts_with("STATUS=") && message.contains("has not moved"), "{comm}: {message}");
        }
        drop(still);
        comes(3);
    }
    // The thread that looks at all others is looked at by the manager.
    let still = Still::new(blade.pid(), "admin");
    manager.catch_up();
    assert_eq!(manager.hears_within(Duration::from_millis(1_500)), None);
    drop(still);
    comes(3);
}

#[test]
fn a_manager_that_is_not_there_is_said_once_and_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nothing").to_str().unwrap().to_owned();
    for (name, words) in
        [(missing.as_str(), "No such file"), ("notify", "neither a path"), ("vsock:2:1234", "neither a path")]
    {
        let mut command = Command::new(FANBLADE);
        command.args(["run", "--no-ebpf", "--workers", "1"]).env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "200000");
        let mut blade = Blade::spawn(command);
        blade.until_logged(&format!("NOTIFY_SOCKET={name}: "));
        if name == missing {
            blade.until("attempts", |_| blade.metric("fanblade_supervisor_messages_lost_total") > 5.0);
        }
        assert!(blade.subscribe(&["/NASDAQ/**", "--count", "10"]).status.success());
        blade.signal(Signal::SIGTERM);
        assert!(blade.wait().success());
        let log = blade.log();
        assert!(log.matches("NOTIFY_SOCKET").count() == 1 && log.contains(words), "{log}");
    }
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1"]).env_remove("NOTIFY_SOCKET").env("WATCHDOG_USEC", "200000");
    let blade = Blade::spawn(command);
    blade.until("a moment", |status| status["uptime_ms"].as_u64() > Some(1_000));
    for name in ["fanblade_supervisor_messages_total", "fanblade_supervisor_messages_lost_total"] {
        assert_eq!(blade.metric(name), 0.0);
    }
    assert!(!blade.log().contains("NOTIFY_SOCKET") && !blade.log().contains("watchdog"), "{}", blade.log());
}

#[test]
fn a_good_file_is_taken_and_a_wrong_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::at_a_path(&directory);
    let file = config(&directory, "[limits]\nrequests_per_s_max = 1000\n");
    let blade = Blade::spawn(command(&manager, &["--config", &file]));
    manager.hears("READY=1");
    let stream = TcpStream::connect(blade.data).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{}/v1/stream", blade.data), stream).unwrap();
    // More requests at once than the second limit admits, less than would end the session.
    let mut refused = || {
        (0..30).for_each(|_| socket.write(Message::text(r#"{"op":"subscribe","subjects":["/X/y"]}"#)).unwrap());
        socket.flush().unwrap();
        let mut answers = (0..30).map(|_| socket.read().unwrap().into_text().unwrap().to_string());
        answers.by_ref().filter(|answer| answer.contains("too_many_requests")).count()
    };
    assert_eq!(refused(), 0);

    let reload = |text: &str| {
        config(&directory, text);
        let before = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros();
        blade.signal(Signal::SIGHUP);
        let reloading = manager.hears("RELOADING=1\nMONOTONIC_USEC=");
        let at: u128 = reloading.rsplit('=').next().unwrap().parse().unwrap();
        assert!(at >= before, "{at} is before {before}");
        manager.hears("READY=1");
    };
    let reloads = |result: &str| blade.metric(&format!("fanblade_reloads_total{{result=\"{result}\"}}"));

    // One mistake, and nothing of the file is taken.
    reload("[limits]\nrequests_per_s_max = 20\n\n[log]\nlevl = \"debug\"\n");
    blade.until_logged("reload refused, everything stays as it is: ");
    blade.until_logged("blade.toml:5:1: unknown field `levl`");
    blade.until_logged("did you mean `level`?");
    assert_eq!((reloads("refused"), reloads("applied")), (1.0, 0.0));
    assert_eq!(blade.metric("fanblade_reload_refused"), 1.0);
    assert_eq!(refused(), 0, "the old limit is in force");

    reload(
        "[data]\nbacklog = 1024\nspin_us = 50\n[ring]\njson = \"32MiB\"\n[log]\nlevel = \"debug\"\n[limits]\nrequests_per_s_max = 20\n",
    );
    blade.until_logged("reloaded: limits.requests_per_s_max, log.level; needs a restart: data.backlog, ring.json");
    blade.until_logged("reloaded: the log shows lines from level debug on");
    assert_eq!((reloads("refused"), reloads("applied")), (1.0, 1.0));
    assert_eq!(blade.metric("fanblade_reload_refused"), 0.0);
    assert_eq!(blade.metric("fanblade_reload_keys_waiting"), 2.0);
    // The session that was there goes by the new limit. A new second begins its count, and may do so between requests.
    let deadline = Instant::now() + PATIENCE;
    loop {
        std::thread::sleep(Duration::from_millis(1_100));
        if refused() == 10 {
            break;
        }
        assert!(Instant::now() < deadline, "the new limit is not in force");
    }
    assert_eq!(blade.status()["totals"]["sessions"], 1);

    // Back again, and less is logged.
    reload("[limits]\nrequests_per_s_max = 1000\n[log]\nlevel = \"error\"\n");
    blade.until_logged("reloaded: limits.requests_per_s_max, log.level\n");
    assert_eq!(blade.metric("fanblade_reload_keys_waiting"), 0.0);
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(refused(), 0);
    blade.signal(Signal::SIGUSR1);
    reload("");
    assert!(!blade.log().contains("SIGUSR1"), "a warning at level error: {}", blade.log());
    blade.until_logged("reloaded: the log shows lines from level info on");
    blade.signal(Signal::SIGUSR1);
    blade.until_logged("SIGUSR1 changes nothing");

    std::fs::remove_file(&file).unwrap();
    blade.signal(Signal::SIGHUP);
    blade.until_logged("cannot read the configuration: No such file");
    manager.hears("READY=1");
    assert!(blade.get("/healthz").0.starts_with("HTTP/1.1 200"));
}
