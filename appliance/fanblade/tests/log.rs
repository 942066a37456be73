//! The reader of the blade's log may go, stand still, or have a full disk: the blade serves on, says how many lines
//! were lost, and can be stopped.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::FANBLADE;
use fanblade_testkit::{Blade, Child, PATIENCE, try_http};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// `fanblade run` with publishers as its feed: each one that connects and goes adds two lines to the log.
fn command(directory: &TempDir, level: &str) -> Command {
    let file = directory.path().join("blade.toml");
    let config = format!(
        "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nstate = \"\"\n[log]\nlevel = \"{level}\"\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--config"]).arg(file).env_remove("RUST_LOG");
    command
}

/// The address for publishers.
fn intake(blade: &Blade) -> SocketAddr {
    let source = blade.status()["feed"]["source"].as_str().unwrap().to_owned();
    let address = source.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
    address.filter_map(|text| text.parse().ok()).next().unwrap()
}

/// Publishes a value, and checks that a new subscriber gets it.
#[track_caller]
fn serves(blade: &Blade, intake: SocketAddr, value: u64) {
    let mut publisher = Child::spawn(
        Command::new(FANBLADE).args(["publish", &intake.to_string()]).stdin(Stdio::piped()).stderr(Stdio::null()),
    );
    writeln!(publisher.stdin.take().unwrap(), r#"{{"s":"/X/a/v","d":{value}}}"#).unwrap();
    assert!(publisher.wait().unwrap().success(), "it was acknowledged");
    let output = blade.subscribe(&["/X/a/v", "--count", "1", "--for", "50"]);
    let frames = String::from_utf8(output.stdout).unwrap();
    assert!(frames.contains(&format!("\"d\":{value}}}")), "{frames}");
    assert!(blade.get("/healthz").0.starts_with("HTTP/1.1 200"));
}

/// A pipe that is full.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = |flags| fcntl(writer.as_fd(), FcntlArg::F_SETFL(flags)).unwrap();
    flags(OFlag::O_NONBLOCK);
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

#[test]
fn a_reader_that_goes_costs_its_lines_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut blade = Blade::spawn_logging_to(command(&directory, "info"), writer.into());
    let intake = intake(&blade);
    serves(&blade, intake, 1);
    drop(reader);
    for value in 2..5 {
        serves(&blade, intake, value);
    }
    blade.until("lost lines", |status| status["log_lost"].as_u64() > Some(0));
    assert!(blade.metric("fanblade_log_lost_total") > 0.0);
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success(), "it ends as it should");
}

#[test]
fn a_reader_that_stands_still_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = full_pipe();
    let mut blade = Blade::spawn_logging_to(command(&directory, "debug"), writer.into());
    let intake = intake(&blade);
    serves(&blade, intake, 1);
    // Each connection adds lines; the queue cannot hold them all.
    while blade.metric("fanblade_log_lost_total") == 0.0 {
        for _ in 0..500 {
            drop(TcpStream::connect(intake).unwrap());
        }
    }
    serves(&blade, intake, 2);
    // The reader reads again, and learns how many lines it missed.
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("lines of the log were lost")).unwrap();
    let lost: f64 = told.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(lost >= 1.0 && lost <= blade.metric("fanblade_log_lost_total"), "{told}");
    // Now the reader stands still once more, and the blade's end does not wait for it either.
    let before = blade.metric("fanblade_log_lost_total");
    while blade.metric("fanblade_log_lost_total") == before {
        for _ in 0..500 {
            drop(TcpStream::connect(intake).unwrap());
        }
    }
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    drop(lines);
}

#[test]
fn a_full_device_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (data, admin) = (free(), free());
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let mut command = command(&directory, "info");
    command.args(["--listen", &data, "--admin", &admin]).stdout(full()).stderr(full());
    let mut blade = Child::spawn(&mut command);
    let deadline = Instant::now() + PATIENCE;
    while try_http(admin.parse().unwrap(), "/healthz").is_err() {
        assert!(Instant::now() < deadline && blade.try_wait().unwrap().is_none(), "it serves");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let metrics = try_http(admin.parse().unwrap(), "/metrics").unwrap().1;
    let lost = metrics.lines().find_map(|line| line.strip_prefix("fanblade_log_lost_total ")).unwrap();
    assert_ne!(lost, "0");
    blade.signal(Signal::SIGTERM);
    assert!(blade.end().success());
}

#[test]
fn a_log_that_may_not_grow_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let run = command(&directory, "info");
    let mut command = Command::new("sh");
    let script = format!("exec \"$0\" \"$@\" 2>{}", log.display());
    command.args(["-c", &script]).arg(run.get_program()).args(run.get_args()).env_remove("RUST_LOG");
    let mut blade = Blade::spawn(command);
    let intake = intake(&blade);
    // The ring has its memory already, so only the log would grow.
    let len = std::fs::metadata(&log).unwrap().len();
    let limit = Command::new("prlimit").args([format!("--pid={}", blade.pid()), format!("--fsize={len}")]).status();
    if !limit.is_ok_and(|status| status.success()) {
        println!("skipped: prlimit of util-linux is not here, or may not");
        return;
    }
    let mut value = 0;
    while blade.metric("fanblade_log_lost_total") == 0.0 {
        value += 1;
        serves(&blade, intake, value);
    }
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
}

#[test]
fn a_full_disk_is_said_once_there_is_room_again() {
    if !fanblade_testkit::is_root("a mount namespace, for a disk that is full,") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let run = command(&directory, "info");
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=16k none /mnt && exec \"$0\" \"$@\" 2>>/mnt/log";
    command.args(["-m", "sh", "-c", script]).arg(run.get_program()).args(run.get_args()).env_remove("RUST_LOG");
    let mut blade = Blade::spawn(command);
    let intake = intake(&blade);
    let mut value = 0;
    while blade.metric("fanblade_log_lost_total") == 0.0 {
        value += 1;
        serves(&blade, intake, value);
    }
    // The path of the log in the blade's mount namespace.
    let log = format!("/proc/{}/{}", blade.pid(), "root/mnt/log");
    std::fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    serves(&blade, intake, value + 1);
    blade.until("that lines were lost", |_| {
        std::fs::read_to_string(&log).unwrap().contains("lines of the log were lost")
    });
    let mut text = String::new();
    std::fs::File::open(&log).unwrap().read_to_string(&mut text).unwrap();
    let whole = |line: &str| line.is_empty() || line.starts_with("20");
    assert!(text.lines().all(whole), "no line begins within another: {text}");
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
}
