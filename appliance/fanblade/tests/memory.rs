//! Memory that the process has allocated for a burst goes back to the machine.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use fanblade_testkit::Blade;
use fanblade_wire::client::{self, UpgradeRequest};
use fanblade_wire::frame::Opcode;
use tempfile::TempDir;

#[test]
fn memory_of_a_burst_goes_back_to_the_machine() {
    for engine in common::ENGINES {
        let directory = tempfile::tempdir().unwrap();
        let blade = blade(&directory, engine);
        // Allocations that happen once are made in a first round, before the measurement.
        end(&blade, half_requests(&blade, 20));
        let before = settled_kib(&blade);
        let clients = half_requests(&blade, CLIENTS);
        let height = rss_kib(&blade);
        assert!(height > before + 32 * 1_024, "{engine}: {before} to {height} KiB: the test is too gentle");
        end(&blade, clients);
        let ended = Instant::now();
        while rss_kib(&blade) > before + 8 * 1_024 {
            assert!(ended.elapsed() < BACK_MAX, "{engine}: {before} KiB before, still {} after", rss_kib(&blade));
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("{engine}: {before} KiB before, {height} at most, {} after", rss_kib(&blade));
    }
}

/// A blade without publishers, since a simulated market itself takes more and more memory.
fn blade(directory: &TempDir, engine: &str) -> Blade {
    let configuration = directory.path().join("blade.toml");
    std::fs::write(
        &configuration,
        "[feed]\nsource = \"publisher\"\npublisher = { listen = [\"127.0.0.1:0\"], state = \"\" }\n",
    )
    .unwrap();
    let mut command = Command::new(common::FANBLADE);
    command.args(["run", "--no-ebpf", "--workers", "1", "--engine", engine, "--config"]).arg(configuration);
    command.current_dir(directory.path());
    Blade::spawn(command)
}

/// Clients that have each sent half of a long request; the worker holds all of it.
fn half_requests(blade: &Blade, count: usize) -> Vec<TcpStream> {
    let mut frame = Vec::new();
    client::write_frame(&mut frame, Opcode::Text, [7; 4], &vec![b' '; HALF_LEN + 1_000]);
    let clients: Vec<TcpStream> = (0..count).map(|_| client(blade, &frame[..HALF_LEN])).collect();
    let held = (count * HALF_LEN * 9 / 10) as u64;
    blade.until("half requests", |status| status["totals"]["held_bytes"].as_u64() >= Some(held));
    clients
}

fn client(blade: &Blade, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(blade.data).unwrap();
    let mut request = Vec::new();
    UpgradeRequest { host: "blade", target: "/v1/stream", key: client::KEY, protocol: None, token: None }
        .write(&mut request);
    stream.write_all(&request).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    stream.write_all(bytes).unwrap();
    stream
}

fn end(blade: &Blade, clients: Vec<TcpStream>) {
    drop(clients);
    blade.until("the sessions to be gone", |status| status["totals"]["sessions"] == 0);
}

/// The process's memory once it has not grown for a second: tables are made in the first seconds.
fn settled_kib(blade: &Blade) -> u64 {
    let mut seen = Vec::new();
    loop {
        seen.push(rss_kib(blade));
        assert!(seen.len() < 600, "it grows and grows: {seen:?}");
        if seen.iter().rev().take(10).filter(|kib| **kib + 512 > seen[seen.len() - 1]).count() == 10 {
            return seen[seen.len() - 1];
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Anonymous memory of the process.
fn rss_kib(blade: &Blade) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", blade.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

const CLIENTS: usize = 400;
/// Left to itself, the allocator takes more than twice as long.
const BACK_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request that each client has sent.
const HALF_LEN: usize = 128_000;
