//! Names with two addresses, of which the first swallows every connection request: the program reaches the second one,
//! whatever it connects to. The names exist in a mount namespace of the program's own.

mod common;
#[path = "common/venue.rs"]
mod venue;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::FANBLADE;
use fanblade_testkit::{Blade, Child, PATIENCE};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, listen, socket};
use serde_json::json;
use venue::Venue;

/// Makes `two.test` resolve to ::1, where nothing answers, and to 127.0.0.1.
struct Names {
    hosts: PathBuf,
    _directory: tempfile::TempDir,
}

impl Names {
    /// None, after printing why, where there can be no such names.
    fn new() -> Option<Names> {
        let directory = tempfile::tempdir().unwrap();
        let hosts = directory.path().join("hosts");
        std::fs::write(&hosts, "::1 two.test\n127.0.0.1 two.test\n127.0.0.1 localhost\n").unwrap();
        let names = Names { hosts, _directory: directory };
        let can = names.command(Path::new("true")).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if TcpListener::bind("[::1]:0").is_err() || !can.is_ok_and(|status| status.success()) {
            println!("skipped: no IPv6, or no mount namespace may be made here");
            return None;
        }
        Some(names)
    }

    /// A command whose program resolves the names.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(&self.hosts).arg(program);
        command
    }

    fn fanblade(&self, args: &[&str]) -> Command {
        let mut command = self.command(Path::new(FANBLADE));
        command.args(args);
        command
    }
}

/// A listener whose queue is full: the kernel drops further connection requests.
struct BlackHole {
    _listener: OwnedFd,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn at(address: SocketAddr) -> BlackHole {
        let SocketAddr::V6(v6) = address else { panic!("{address}") };
        let listener = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &SockaddrIn6::from(v6)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        // The queue takes one connection, perhaps two; then requests get no answer.
        let deadline = Instant::now() + PATIENCE;
        let mut queued = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
                Ok(stream) => queued.push(stream),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
                    return BlackHole { _listener: listener, _queued: queued };
                }
            }
            assert!(Instant::now() < deadline, "the queue does not fill");
        }
    }
}

fn hole_beside(good: SocketAddr) -> BlackHole {
    BlackHole::at(format!("[::1]:{}", good.port()).parse().unwrap())
}

#[test]
fn a_venue_is_reached_by_its_second_address_each_time() {
    let Some(names) = Names::new() else { return };
    let venue = Venue::new();
    let _hole = hole_beside(venue.address());
    let config = format!(
        "[feed]\nsource = \"websocket\"\nvenue = \"V\"\n[feed.websocket]\nurl = \"ws://two.test:{}/feed\"\n\
         reconnect_ms_min = 20\nreconnect_ms_max = 100\nsubscribe = ['{{\"op\":\"subscribe\"}}']\n\
         [[feed.websocket.map]]\nmatch = {{ \"/type\" = \"trade\" }}\nsubject = \"/V/{{/symbol}}/trade\"\n",
        venue.address().port()
    );
    let file = venue.file("config.toml", &config);
    let blade =
        Blade::spawn(names.fanblade(&["run", "--no-ebpf", "--workers", "1", "--config", file.to_str().unwrap()]));
    for price in 1..=4 {
        let mut upstream = venue.accept();
        upstream.expect(&json!({"op": "subscribe"}));
        upstream.send(&json!({"type": "trade", "symbol": "A", "price": price}).to_string());
        blade.until("the value", |status| status["feed"]["messages"] == price);
        upstream.close(1001, "to another server");
    }
}

#[test]
fn every_command_and_feed_reaches_a_name_by_its_second_address() {
    let Some(names) = Names::new() else { return };
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    good.set_nonblocking(true).unwrap();
    let address = good.local_addr().unwrap();
    let _hole = hole_beside(address);
    let named = format!("two.test:{}", address.port());
    let (url, soup) = (format!("ws://{named}"), format!("soupbintcp:{named}"));
    let commands: [&[&str]; 5] = [
        &["publish", &named],
        &["publish", &url],
        &["subscribe", &named, "/**"],
        &["top", "--once", &named],
        &["run", "--no-ebpf", "--workers", "1", "--feed", &soup, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    ];
    for args in commands {
        let mut command = names.fanblade(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = Child::spawn(&mut command);
        let deadline = Instant::now() + PATIENCE;
        let reached = loop {
            match good.accept() {
                Ok(_) => break true,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => break false,
            }
        };
        let _ = child.kill();
        let _ = child.wait();
        // Retries of this command must not pass for the next one.
        while good.accept().is_ok() {}
        assert!(reached, "{args:?} does not connect");
    }
}
