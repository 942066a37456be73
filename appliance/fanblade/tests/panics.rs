//! A panic ends one worker, not the blade. If a part panics that the blade cannot do without, the blade ends with a
//! message.

mod common;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{ENGINES, FANBLADE, Pins};
use fanblade_testkit::{Blade, PATIENCE};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message};

/// A blade in which a test can cause panics.
fn blade(inject: &TempDir, args: &[&str]) -> Blade {
    let mut command = Command::new(FANBLADE);
    command.arg("run").args(args).env("FANBLADE_INJECT", inject.path()).env("NO_COLOR", "1");
    Blade::spawn(command)
}

/// Makes the thread of this name panic. Returns when it is about to.
fn inject(directory: &TempDir, name: &str) {
    let file = directory.path().join(name);
    std::fs::write(&file, "").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while file.exists() {
        assert!(Instant::now() < deadline, "{name} does not look");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a subscriber saw.
#[derive(Debug, Default)]
struct Seen {
    frames: u64,
    /// Frames whose predecessor is missing.
    holes: u64,
    has_notice: bool,
    close: Option<u16>,
    /// The connection has ended before the test asked it to.
    has_ended: bool,
}

/// A subscriber in mode `all` that reads until its connection ends, or until the test stops it.
struct Subscriber {
    stop: std::sync::mpsc::Sender<()>,
    seen: Receiver<Seen>,
}

impl Subscriber {
    fn new(blade: &Blade) -> Subscriber {
        let (stop, stopped) = channel::<()>();
        let (tell, seen) = channel();
        let stream = TcpStream::connect(blade.data).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{}/v1/stream?subjects=/NASDAQ/*/trade&mode=all&snapshot=false", blade.data);
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        loop {
            let Message::Text(text) = socket.read().unwrap() else { continue };
            if text.contains("\"subscribed\"") && !text.contains("\"more\":true") {
                break;
            }
        }
        std::thread::spawn(move || {
            let (mut result, mut last) = (Seen::default(), BTreeMap::<String, u64>::new());
            while stopped.try_recv().is_err() {
                match socket.read() {
                    Ok(Message::Text(text)) => {
                        let message: Value = serde_json::from_str(&text).unwrap();
                        let Some(subject) = message["s"].as_str() else {
                            result.has_notice |= message["kind"] == "restart";
                            continue;
                        };
                        result.frames += 1;
                        let prev = last.insert(subject.to_owned(), message["q"].as_u64().unwrap());
                        result.holes += u64::from(prev.is_some_and(|prev| message["p"] != prev));
                    }
                    Ok(Message::Close(frame)) => result.close = frame.map(|frame| frame.code.into()),
                    Ok(_) => {}
                    Err(_) => {
                        result.has_ended = true;
                        break;
                    }
                }
            }
            let _ = tell.send(result);
        });
        Subscriber { stop, seen }
    }

    fn end(self) -> Seen {
        let _ = self.stop.send(());
        self.seen.recv_timeout(PATIENCE).unwrap()
    }
}

fn sessions(blade: &Blade) -> Vec<u64> {
    let status = blade.status();
    status["workers"].as_array().unwrap().iter().map(|worker| worker["sessions"].as_u64().unwrap()).collect()
}

fn of_worker(blade: &Blade, name: &str, worker: usize) -> f64 {
    blade.metric(&format!("fanblade_worker_{name}{{worker=\"{worker}\"}}"))
}

/// Waits until a counter has this value.
fn until_metric(blade: &Blade, name: &str, worker: usize, value: f64) {
    let deadline = Instant::now() + PATIENCE;
    while of_worker(blade, name, worker) != value {
        assert!(Instant::now() < deadline, "{name} of {worker} is not {value}:\n{}", blade.log());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_worker_that_panics_costs_its_own_sessions_and_is_replaced() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no panics on demand");
        return;
    }
    for engine in ENGINES {
        let directory = tempfile::tempdir().unwrap();
        let blade = blade(&directory, &["--no-ebpf", "--workers", "4", "--engine", engine]);
        let subscribers: Vec<Subscriber> = (0..40).map(|_| Subscriber::new(&blade)).collect();
        let before = sessions(&blade);
        assert_eq!(before.iter().sum::<u64>(), 40, "{before:?}");
        let victim = (0..4).max_by_key(|worker| before[*worker]).unwrap();
        inject(&directory, &format!("worker-{victim}"));
        let started = Instant::now();
        until_metric(&blade, "restarts_total", victim, 1.0);
        println!("{engine}: replaced {:?} after it was told to panic", started.elapsed());
        assert_eq!(of_worker(&blade, "panics_total", victim), 1.0);
        // The others go on for a while; then the test looks at all of them.
        let published = blade.metric("fanblade_ring_frames_published_total");
        blade.until("more frames", |_| blade.metric("fanblade_ring_frames_published_total") > published + 2_000.0);
        let (mut ended, mut told) = (0, 0);
        for subscriber in subscribers {
            let seen = subscriber.end();
            // A subscriber that is told early may have no frame yet.
            assert!(seen.holes == 0 && (seen.frames > 0 || seen.has_ended), "{engine}: {seen:?}");
            assert_eq!(seen.close, seen.has_notice.then_some(1012), "{engine}: {seen:?}");
            ended += u64::from(seen.has_ended);
            told += u64::from(seen.has_notice);
        }
        assert_eq!(ended, before[victim], "{engine}: its own and no other");
        // A subscriber that was behind at that moment could not be told.
        println!("{engine}: {told} of {ended} were told");
        assert!(told > 0, "{engine}: {before:?}");
        // New connections may reach the new worker.
        let mut again = Vec::new();
        while sessions(&blade)[victim] == 0 {
            assert!(again.len() < 200, "{engine}: nobody comes to the new worker: {:?}", sessions(&blade));
            again.push(Subscriber::new(&blade));
        }
        let (healthy, ready) = (blade.get("/healthz").0, blade.get("/readyz").0);
        assert!(healthy.contains(" 200 ") && ready.contains(" 200 "), "{healthy}{ready}");
        let log = blade.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("has panicked at ")).collect();
        assert!(
            lines.len() == 1
                && lines[0].contains(&format!("thread worker-{victim} has panicked at "))
                && lines[0].contains("worker.rs:")
                && lines[0].ends_with("told to panic"),
            "{log}"
        );
    }
}

#[test]
fn who_panics_again_and_again_is_given_up_and_health_says_so() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no panics on demand");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut blade = blade(&directory, &["--no-ebpf", "--workers", "2"]);
    let started = Instant::now();
    for round in 0..=6 {
        inject(&directory, "worker-0");
        until_metric(&blade, "panics_total", 0, f64::from(round + 1));
        if round < 6 {
            until_metric(&blade, "restarts_total", 0, f64::from(round + 1));
        }
    }
    assert!(started.elapsed() > Duration::from_secs(6), "ever later: {:?}", started.elapsed());
    let health = blade.until("health", |_| !blade.get("/healthz").0.contains(" 200 "));
    let (head, body) = blade.get("/healthz");
    assert!(head.contains(" 503 ") && body.contains("worker 0 has panicked: told to panic"), "{health} {head}{body}");
    assert!(body.contains("given up"), "{body}");
    // The other worker serves, and the blade can be stopped.
    let mut served = 0;
    for _ in 0..20 {
        let Ok(stream) = TcpStream::connect(blade.data) else { continue };
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let url = format!("ws://{}/v1/stream?subjects=/NASDAQ/**", blade.data);
        served += u32::from(tungstenite::client(url, stream).is_ok());
    }
    assert!(served > 0);
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
}

#[test]
fn what_the_blade_cannot_do_without_ends_it_with_words() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no panics on demand");
        return;
    }
    for (name, words) in [("sequencer", "the sequencer has panicked"), ("control", "the control thread has panicked")] {
        let directory = tempfile::tempdir().unwrap();
        let mut blade = blade(&directory, &["--no-ebpf", "--workers", "2"]);
        let subscribers: Vec<Subscriber> = (0..10).map(|_| Subscriber::new(&blade)).collect();
        inject(&directory, name);
        for subscriber in subscribers {
            let seen = subscriber.seen.recv_timeout(PATIENCE).unwrap();
            assert_eq!((seen.close, seen.has_notice, seen.holes), (Some(1012), true, 0), "{name}: {seen:?}");
        }
        let status = blade.wait();
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{name}");
        let log = blade.log();
        assert!(log.contains(&format!("{words}: the blade cannot go on")), "{log}");
        assert!(log.contains(&format!("injected into {name}")) && log.contains(&format!("fanblade: {words}")), "{log}");
    }
}

#[test]
fn a_feed_s_thread_that_panics_ends_the_blade_with_words() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no panics on demand");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    std::fs::write(
        &file,
        "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nstate = \"\"\n\
         stale_without_publisher = true\n",
    )
    .unwrap();
    let mut blade = blade(&directory, &["--no-ebpf", "--workers", "1", "--config", file.to_str().unwrap()]);
    // Nobody has published, so nothing is current; a worker that replaces another one knows that, too.
    let stale = |blade: &Blade| {
        let url = format!("ws://{}/v1/stream?subjects=/X/A/v", blade.data);
        let stream = TcpStream::connect(blade.data).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut socket, _) = tungstenite::client(url, stream).unwrap();
        socket.read().unwrap().to_text().unwrap().contains("\"stale\":true,\"source\":\"publisher\"")
    };
    blade.until("stale", |status| status["feed"]["state"] == "stale");
    assert!(stale(&blade));
    inject(&directory, "worker-0");
    until_metric(&blade, "restarts_total", 0, 1.0);
    assert!(stale(&blade));
    inject(&directory, "publishers");
    assert_eq!(blade.wait().code(), Some(1));
    let log = blade.log();
    assert!(log.contains("thread publishers has panicked at ") && log.contains("the blade cannot go on"), "{log}");
}

#[test]
fn a_request_to_the_admin_port_that_panics_costs_only_itself() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no panics on demand");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut blade = blade(&directory, &["--no-ebpf", "--workers", "1"]);
    std::fs::write(directory.path().join("admin"), "").unwrap();
    let answer = fanblade_testkit::try_http(blade.admin, "/healthz").map(|(head, _)| head).unwrap_or_default();
    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(blade.get("/healthz").0.contains(" 200 "));
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    assert!(blade.log().contains("injected into admin"), "{}", blade.log());
}

#[test]
fn steering_leaves_out_who_has_ended_and_takes_in_who_follows() {
    if !cfg!(debug_assertions) {
        println!("skipped: a release build has no panics on demand");
        return;
    }
    if !fanblade_testkit::is_root("loading eBPF programs") {
        return;
    }
    fanblade_testkit::Namespace::enter_new();
    let directory = tempfile::tempdir().unwrap();
    let pin_dir = format!("/sys/fs/bpf/fanblade-test-panics-{}", std::process::id());
    let _pins = Pins(pin_dir.clone());
    let file = directory.path().join("blade.toml");
    std::fs::write(&file, format!("[ebpf]\npin_dir = \"{pin_dir}\"\n")).unwrap();
    let mut blade = blade(&directory, &["--workers", "2", "--config", file.to_str().unwrap()]);
    let first: Vec<Subscriber> = (0..10).map(|_| Subscriber::new(&blade)).collect();
    let steered = |worker: usize| blade.metric(&format!("fanblade_steer_connections_total{{worker=\"{worker}\"}}"));
    assert!(sessions(&blade)[1] > 0);
    // Two panics, so that there is a pause in which the place is empty.
    inject(&directory, "worker-1");
    until_metric(&blade, "restarts_total", 1, 1.0);
    inject(&directory, "worker-1");
    until_metric(&blade, "panics_total", 1, 2.0);
    until_metric(&blade, "restarts_total", 1, 2.0);
    blade.until("counts", |_| steered(0) + steered(1) >= 10.0);
    let before = steered(1);
    // Which worker gets a connection is drawn by its ports, so connect until the new worker has some; each is answered.
    let mut second = Vec::new();
    while sessions(&blade)[1] < 5 {
        assert!(second.len() < 200, "hardly anybody comes to the new worker: {:?}", sessions(&blade));
        second.push(Subscriber::new(&blade));
    }
    blade.until("counts", |_| steered(1) >= before + 5.0);
    assert_eq!(blade.metric("fanblade_steer_fallback_total"), 0.0);
    drop((first, second));
    blade.signal(Signal::SIGTERM);
    assert!(blade.wait().success());
    assert!(!std::path::Path::new(&pin_dir).exists());
}
