//! `fanblade tap`: what another process sees in a ring.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::terminal::Terminal;
use common::{FANBLADE, expected_frames, fanblade, simulated_file};
use fanblade_ring::{NewFrame, Payloads, RingConfig, SubjectId, UnixNs, Writer};
use fanblade_testkit::{Blade, Child, PATIENCE};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What a file gives is published once and read by two other processes in different ways; both get every byte.
#[test]
fn what_is_followed_is_what_a_subscriber_gets() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 20_000);
    let expected = expected_frames(&file);
    let blade = Blade::start(&["--workers", "1", "--wait-for", "1", "--feed", &format!("file:{}", file.display())]);
    let mut tap = Tap::start(&[
        "tap",
        "follow",
        "/NASDAQ/**",
        "--pid",
        &blade.pid().to_string(),
        "--count",
        &expected.len().to_string(),
    ]);
    tap.until_it_follows();
    let output =
        blade.subscribe(&["/NASDAQ/**", "--mode", "all", "--count", &expected.len().to_string(), "--for", "50"]);
    let received = String::from_utf8(output.stdout).unwrap();
    let received: Vec<&str> = received.lines().filter(|line| line.starts_with("{\"s\":")).collect();
    let (code, stdout, stderr) = tap.finish();
    let followed: Vec<&str> = stdout.lines().collect();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(followed.iter().zip(&expected).position(|(followed, expected)| followed != expected), None);
    assert_eq!(followed, received);
    assert!(
        stderr.ends_with(&format!("{} frames, 0 gaps, 0 entries of the ring not read\n", expected.len())),
        "{stderr}"
    );

    // A later reader gets the same from the ring's history; the other lane has as many frames.
    let pid = blade.pid().to_string();
    let (_, history, _) = fanblade(&["tap", "follow", "/NASDAQ/**", "--history", "--for", "0", "--pid", &pid]);
    assert_eq!(history, stdout);
    let trades = ["tap", "follow", "/NASDAQ/*/trade", "--history", "--for", "0", "--pid", &pid];
    let (_, json, _) = fanblade(&trades);
    let (_, binary, _) = fanblade(&[&trades[..], &["--lane", "binary"]].concat());
    assert!(json.lines().count() > 100 && json.lines().count() == binary.lines().count());
    for (json, binary) in json.lines().zip(binary.lines()) {
        let json: Value = serde_json::from_str(json).unwrap();
        let [subject, seq, hex] = binary.split(' ').collect::<Vec<_>>()[..] else { panic!("{binary}") };
        assert_eq!((subject, seq), (json["s"].as_str().unwrap(), json["q"].to_string().as_str()));
        // Version 1, channel 1; then the number, little-endian, after version, channel, flags and subject id.
        assert!(hex.starts_with("0101") && hex.len() == 2 * (32 + 24), "{hex}");
        let number: String = (0..8).rev().map(|byte| &hex[16 + 2 * byte..][..2]).collect();
        assert_eq!(u64::from_str_radix(&number, 16).unwrap().to_string(), seq);
    }
}

#[test]
fn a_tap_can_only_read() {
    let blade = Blade::start(&["--workers", "1"]);
    let mut tap = Tap::start(&["tap", "follow", "/NASDAQ/**", "--pid", &blade.pid().to_string()]);
    tap.until_it_follows();
    let maps = fs::read_to_string(format!("/proc/{}/maps", tap.child.id())).unwrap();
    let maps: Vec<&str> = maps.lines().filter(|line| line.contains("/memfd:fanblade-ring")).collect();
    assert!(!maps.is_empty() && maps.iter().all(|line| line.contains(" r--s ")), "{maps:#?}");
    // The descriptor behind the mapping is closed.
    let descriptors = fs::read_dir(format!("/proc/{}/fd", tap.child.id())).unwrap();
    let is_open = |link: std::io::Result<std::path::PathBuf>| {
        link.is_ok_and(|link| link.to_string_lossy().contains("fanblade-ring"))
    };
    assert!(!descriptors.flatten().any(|entry| is_open(fs::read_link(entry.path()))));

    // No other process that reaches the file can write to it, however it opens it.
    let (code, stdout, _) = fanblade(&["tap", "info", "--json", "--pid", &blade.pid().to_string()]);
    assert_eq!(code, 0);
    let info: Value = serde_json::from_str(&stdout).unwrap();
    let mut file = fs::File::options().read(true).write(true).open(info["path"].as_str().unwrap()).unwrap();
    assert_eq!(file.write(&[0]).unwrap_err().raw_os_error(), Some(nix::libc::EPERM));
    assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(nix::libc::EPERM));
    let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).unwrap());
    assert!(
        seals.contains(SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL),
        "{seals:?}"
    );
    tap.signal(Signal::SIGINT);
    let (code, stdout, stderr) = tap.finish();
    assert!(code == Some(0) && stderr.contains(" frames, 0 gaps"), "{stderr}");
    assert!(stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "it ends with a whole line");
}

#[test]
fn subjects_rates_and_the_ring_agree_with_the_blade() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 20_000);
    let blade = Blade::start(&["--workers", "1", "--feed", &format!("file:{}", file.display())]);
    let status = blade.until("the file's end", |status| status["feed"]["state"] == "finished");
    let pid = blade.pid().to_string();

    let expected = expected_frames(&file);
    let (code, stdout, _) = fanblade(&["tap", "info", "--json", "--pid", &pid]);
    let info: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0);
    assert_eq!(info["frames_published"], expected.len());
    assert_eq!((&info["epoch"], &info["subjects"]), (&status["epoch"], &status["ring"]["subjects"]));
    assert_eq!((&info["newest"]["index"], &info["oldest"]["index"]), (&(expected.len() - 1).into(), &0.into()));
    // Nothing has been overwritten in this ring yet.
    assert_eq!(info["lanes"][0]["kept_bytes"], status["ring"]["json_bytes"]);
    assert_eq!(info["lanes"][1]["kept_bytes"], status["ring"]["binary_bytes"]);
    let live = info["lanes"][0]["live_bytes"].as_u64().unwrap();
    assert!(live > 1000 && live < info["lanes"][0]["kept_bytes"].as_u64().unwrap(), "{info:#}");
    let (_, text, _) = fanblade(&["tap", "info", "--pid", &pid]);
    assert!(text.contains(&format!("epoch        {}", info["epoch"].as_str().unwrap())), "{text}");

    let (code, stdout, _) = fanblade(&["tap", "subjects", "/NASDAQ/*/bbo", "--json", "--pid", &pid]);
    assert_eq!(code, 0);
    let rows: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 10 && rows.is_sorted_by_key(|row| row["subject"].to_string()));
    for row in &rows {
        let subject = format!("{{\"s\":{},", row["subject"]);
        let frames: Vec<&String> = expected.iter().filter(|frame| frame.starts_with(&subject)).collect();
        let newest: Value = serde_json::from_str(frames.last().unwrap()).unwrap();
        assert_eq!((&row["frames"], &row["seq"]), (&frames.len().into(), &newest["q"]), "{row}");
    }
    let (_, text, _) = fanblade(&["tap", "subjects", "/NASDAQ/*/bbo", "--pid", &pid]);
    assert!(text.contains(&format!("\n{} of {} subjects\n", rows.len(), info["subjects"])), "{text}");

    // Now nothing is published, and the table shows it.
    let (code, text, _) = fanblade(&["tap", "--pid", &pid]);
    assert!(code == 0 && text.contains("0 frames/s") && text.contains("nothing was published"), "{text}");
}

#[test]
fn rates_are_those_of_the_feed() {
    let blade = Blade::start(&["--workers", "1"]);
    let before = blade.until("a market that moves", |status| status["ring"]["published"].as_u64() > Some(1000));
    let (code, stdout, stderr) =
        fanblade(&["tap", "--once", "--json", "--top", "1000000", "--pid", &blade.pid().to_string()]);
    let after = blade.status();
    let rates: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    assert!(code == 0 && rates["overtaken"] == 0, "{rates:#}");
    let counted = rates["frames_per_s"].as_f64().unwrap() * rates["seconds"].as_f64().unwrap();
    let published =
        (after["ring"]["published"].as_u64().unwrap() - before["ring"]["published"].as_u64().unwrap()) as f64;
    assert!(counted > 0.0 && counted <= published, "{counted} of {published}");
    let busiest: Vec<f64> =
        rates["busiest"].as_array().unwrap().iter().map(|rate| rate["frames_per_s"].as_f64().unwrap()).collect();
    assert!(busiest.is_sorted_by(|a, b| a >= b) && rates["subjects_busy"] == busiest.len());
    assert!((busiest.iter().sum::<f64>() - rates["frames_per_s"].as_f64().unwrap()).abs() < 0.01);
}

#[test]
fn on_a_terminal_the_table_is_renewed() {
    let mut blade = Blade::start(&["--workers", "1"]);
    let mut terminal = Terminal::run(&["tap", "--pid", &blade.pid().to_string()], (12, 75));
    let newest = |text: &str| text.lines().nth(3)?.split_whitespace().nth(4)?.parse::<u64>().ok();
    let text = terminal.until("a busy subject", |text| text.contains("\n/NASDAQ/"));
    // The table is cut to what fits: one line for the blade, one for each subject.
    assert!(text.starts_with(&format!("process {}, epoch ", blade.pid())) && text.lines().count() <= 12, "{text}");
    terminal.until("newer numbers", |later| newest(later) > newest(&text));
    blade.signal(Signal::SIGKILL);
    blade.wait();
    terminal.until("the end", |text| text.contains("has ended; its ring ends at index"));
    assert_eq!(terminal.exit().code(), Some(3));
}

#[test]
fn the_end_of_the_blade_is_told_after_the_last_frame() {
    let directory = tempfile::tempdir().unwrap();
    let file = simulated_file(&directory, 5_000);
    let mut blade = Blade::start(&["--workers", "1", "--feed", &format!("file:{}", file.display())]);
    blade.until("the file's end", |status| status["feed"]["state"] == "finished");
    let pid = blade.pid().to_string();
    let mut tap = Tap::start(&["tap", "follow", "/NASDAQ/**", "--history", "--pid", &pid]);
    tap.until_it_follows();
    blade.signal(Signal::SIGKILL);
    blade.wait();
    let (code, stdout, stderr) = tap.finish();
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(&format!("the blade (process {pid}) has ended; its ring ends at index ")), "{stderr}");
    assert_eq!(stdout.lines().collect::<Vec<_>>(), expected_frames(&file));
}

#[test]
fn an_overtaken_tap_says_what_it_did_not_read() {
    let mut ring = Ring::new(false);
    let mut tap = Tap::start(&ring.args(&["tap", "follow", "/test/**"]));
    tap.until_it_follows();
    // The third subject gets one frame. The writer then carries copies of it along, which are no news.
    let [a, b] = ring.subjects[..] else { unreachable!() };
    ring.subjects = vec![ring.writer.subject("/test/quiet", 1).unwrap(), a, b];
    ring.publish(3);
    ring.subjects = vec![a, b];
    tap.until_it_has_printed("3");
    tap.signal(Signal::SIGSTOP);
    tap.until_it_stands_still();
    // The writer goes ten times round the index while the tap is stopped.
    ring.publish(10 * u64::from(INDEX_LEN));
    let last = ring.seq;
    tap.signal(Signal::SIGCONT);
    tap.until_it_has_printed(&last.to_string());
    tap.signal(Signal::SIGTERM);
    let (code, stdout, stderr) = tap.finish();
    assert_eq!(code, Some(0), "{stderr}");
    let seqs: Vec<u64> = stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b) && seqs.len() < usize::try_from(last).unwrap(), "{} of {last}", seqs.len());
    // Two subjects got frames in turn, so each of them has a gap; the quiet one has none.
    assert_eq!(stderr.matches("a gap between").count(), 2, "{stderr}");
    let told: u64 = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("overtaken by the writer: ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    // The copies are entries, too: one per round.
    let missing = last - seqs.len() as u64;
    assert!((missing..missing + 20).contains(&told), "{told} told, {missing} of {last} missing");
}

#[test]
fn checksums_are_verified_where_the_ring_has_them() {
    let mut ring = Ring::new(true);
    ring.publish(20);
    let args = ring.args(&["tap", "follow", "/test/**", "--history", "--count", "20"]);
    let (code, stdout, stderr) = Tap::start(&args).finish();
    assert_eq!((code, stdout.lines().count()), (Some(0), 20), "{stderr}");

    // The same ring with one digit changed. The ring itself is sealed against writing, so the test changes a copy.
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/self/fd/{}", ring.writer.fd().as_raw_fd())).unwrap().read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(4).position(|window| window == b"\x81\x0217").unwrap();
    bytes[at + 3] = b'8';
    let copy: OwnedFd = memfd_create("fanblade-ring", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let mut file = fs::File::from(copy);
    file.write_all(&bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)).unwrap();
    let (pid, fd) = (std::process::id().to_string(), file.as_raw_fd().to_string());
    let (code, stdout, stderr) =
        fanblade(&["tap", "follow", "/test/**", "--history", "--count", "20", "--pid", &pid, "--fd", &fd]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("the frame with number 17 at index 16 is damaged"), "{stderr}");
    assert!(stderr.ends_with("20 frames, 0 gaps, 0 entries of the ring not read, 1 damaged\n"), "{stderr}");
    assert_eq!(stdout.lines().nth(16), Some("18"));
}

#[test]
fn the_ring_is_found_or_the_reason_told() {
    // This process holds two rings.
    let rings = [Ring::new(false), Ring::new(false)];
    let pid = std::process::id().to_string();
    let (code, _, stderr) = fanblade(&["tap", "info", "--pid", &pid]);
    let fds = rings.each_ref().map(|ring| ring.writer.fd().as_raw_fd());
    assert!(code == 1 && stderr.contains("say which one is meant by --fd"), "{stderr}");
    for fd in fds {
        assert!(
            stderr.contains(&format!("  process {pid}, descriptor {fd}: ")) && stderr.contains("(epoch test-1)"),
            "{stderr}"
        );
    }
    // Without --pid the command lists all rings that it sees; other processes may hold some, too.
    let (code, _, stderr) = fanblade(&["tap", "info"]);
    assert!(code == 1 && stderr.contains("by --pid") && stderr.contains(&format!("process {pid}, ")), "{stderr}");
    let fails = |args: &[&str], part: &str| {
        let (code, _, stderr) = fanblade(args);
        assert!(code != 0 && stderr.contains(part), "{args:?} does not say {part:?} but: {stderr}");
    };
    fails(&["tap", "info", "--pid", &pid, "--fd", "0"], "is not a ring");
    let mut idle = Child::spawn(Command::new("sleep").arg("60"));
    // A process that is just starting has no command line yet.
    while std::fs::read(format!("/proc/{}/cmdline", idle.id())).unwrap().is_empty() {
        std::thread::yield_now();
    }
    fails(&["tap", "info", "--pid", &idle.id().to_string()], "(sleep 60) holds no ring");
    idle.kill().unwrap();
    let gone = idle.id().to_string();
    idle.wait().unwrap();
    fails(&["tap", "info", "--pid", &gone], &format!("there is no process {gone}"));
    fails(&["tap", "--once", "info"], "options of the table do not go together with a command");
    fails(&["tap", "follow", "NASDAQ"], "a subject begins with '/'");
    fails(&["tap", "follow", "/a/b", "--for", "soon"], "`soon` is not a number of seconds");
    let (_, _, stderr) = Tap::start(&rings[0].args(&["tap", "follow", "/test/nothing", "--for", "0"])).finish();
    assert!(stderr.contains("/test/nothing does not exist yet"), "{stderr}");
}

#[test]
fn another_user_is_told_what_is_missing() {
    if !fanblade_testkit::is_root("becoming another user") {
        return;
    }
    let ring = Ring::new(false);
    // The program must be in a directory that the other user may enter.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("fanblade");
    fs::copy(FANBLADE, &program).unwrap();
    let nobody = 65_534;
    let output = Command::new(&program).args(ring.args(&["tap", "info"])).uid(nobody).gid(nobody).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("run this as the same user, or with CAP_SYS_PTRACE"), "{stderr}");
    // A blade whose descriptors cannot be read is recognised by its name. Other blades may be running, too.
    let blade = Blade::start(&["--workers", "1"]);
    let output = Command::new(&program).args(["tap", "info"]).uid(nobody).gid(nobody).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("CAP_SYS_PTRACE"), "{}: {stderr}", blade.pid());
}

const INDEX_LEN: u32 = 64;

/// A small ring of this process: two subjects that get frames in turn, and one that got its only frame at the start.
struct Ring {
    writer: Writer,
    subjects: Vec<SubjectId>,
    seq: u64,
}

impl Ring {
    fn new(checksums: bool) -> Ring {
        let config =
            RingConfig { index_len: INDEX_LEN as usize, lane_len: [1 << 16, 0, 0, 0], subjects_max: 8, checksums };
        let mut writer = Writer::create(&config, "test-1").unwrap();
        let subjects = ["/test/a", "/test/b"].map(|name| writer.subject(name, 1).unwrap()).to_vec();
        Ring { writer, subjects, seq: 0 }
    }

    /// Publishes frames whose whole payload is their number.
    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            self.seq += 1;
            let subject = self.subjects[usize::try_from(self.seq).unwrap() % self.subjects.len()];
            let update =
                NewFrame { subject, channel: 1, seq: self.seq, ts_feed_ns: UnixNs(0), ts_publish_ns: UnixNs(0) };
            let json = self.seq.to_string();
            let payloads: Payloads<'_> = [json.as_bytes(), b"", b"", b""];
            self.writer.publish(&update, &payloads).unwrap();
        }
    }

    /// Arguments that select this ring.
    fn args(&self, args: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        all.extend(["--pid".to_owned(), std::process::id().to_string()]);
        all.extend(["--fd".to_owned(), self.writer.fd().as_raw_fd().to_string()]);
        all
    }
}

/// A running `fanblade tap`; it ends with its test.
struct Tap {
    child: Child,
    stderr: BufReader<ChildStderr>,
    printed: Arc<Mutex<String>>,
    printer: Option<JoinHandle<()>>,
}

impl Tap {
    fn start(args: &[impl AsRef<str>]) -> Tap {
        let args = args.iter().map(AsRef::as_ref);
        let mut child = Child::spawn(Command::new(FANBLADE).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let printed = Arc::new(Mutex::new(String::new()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let printer = std::thread::spawn({
            let printed = Arc::clone(&printed);
            move || {
                for line in stdout.lines().map_while(Result::ok) {
                    *printed.lock().unwrap() += &format!("{line}\n");
                }
            }
        });
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Tap { child, stderr, printed, printer: Some(printer) }
    }

    /// Waits until the tap has begun; from then on it misses nothing.
    fn until_it_follows(&mut self) {
        let mut line = String::new();
        while !line.starts_with("following ") {
            line.clear();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "it has ended");
        }
    }

    fn until_it_has_printed(&self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.printed.lock().unwrap().lines().any(|line| line == wanted) {
            assert!(Instant::now() < deadline, "no {wanted} within {PATIENCE:?}: {}", self.printed.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A signal takes a moment to arrive.
    fn until_it_stands_still(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap().contains(") T ") {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for its end; returns the exit code, standard output, and the rest of standard error.
    fn finish(mut self) -> (Option<i32>, String, String) {
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).unwrap();
        self.printer.take().unwrap().join().unwrap();
        let status = self.child.wait().unwrap();
        (status.code(), self.printed.lock().unwrap().clone(), stderr)
    }
}
