//! The pinned maps: other programs can read them, the end removes them, and they never prevent the next start.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::frames::table;
use common::network::listen_shared;
use common::{PORT, is_privileged, load, options};
use fanblade_steer::abi::Verdict;
use fanblade_steer::{Hook, MAPS, Steer, SteerError, SteerOptions, View};
use fanblade_testkit::Namespace;

/// Counts one frame.
fn count_one(steer: &mut Steer) {
    let data = table(true).into_iter().find(|case| case.name == "data").unwrap();
    steer.run(Hook::Ingress, &data.frame, 1).unwrap();
}

#[test]
fn others_read_the_pins_and_they_go_with_the_blade() {
    if !is_privileged("others_read_the_pins_and_they_go_with_the_blade") {
        return;
    }
    let mut steer = load();
    let dir = steer.pin_dir().unwrap().to_owned();
    count_one(&mut steer);
    let view = View::open_pinned(&dir).unwrap();
    assert_eq!(view.verdict(Verdict::IngressCounted).unwrap(), 1);
    assert_eq!(view.flows().collect::<Vec<_>>(), steer.view().flows().collect::<Vec<_>>());
    assert_eq!(view.config().unwrap().ports[..3], [443, PORT, 0]);
    for name in MAPS {
        assert!(dir.join(name).exists(), "{name}");
    }
    drop(steer);
    assert!(!dir.exists());
    assert_eq!(view.verdict(Verdict::IngressCounted).unwrap(), 1, "who has them open still reads them");
    let error = View::open_pinned(&dir).err().unwrap();
    assert!(matches!(error, SteerError::NothingPinned { .. }), "{error}");
}

#[test]
fn bpftool_prints_the_names_of_the_fields() {
    if !is_privileged("bpftool_prints_the_names_of_the_fields") {
        return;
    }
    if Command::new("bpftool").arg("version").output().is_err() {
        println!("skipped: needs bpftool");
        return;
    }
    let mut steer = load();
    count_one(&mut steer);
    let dump = |map: &str| {
        let path = steer.pin_dir().unwrap().join(map);
        let output = Command::new("bpftool").args(["map", "dump", "pinned"]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let flows = dump("FLOWS");
    for field in
        ["\"src_port\": 50000", "\"dst_port\": 9001", "\"packets_in\": 1", "\"bytes_in\": 1040", "\"flags_in\": 16"]
    {
        assert!(flows.contains(field), "{field} is not in {flows}");
    }
    assert!(dump("VERDICTS").contains("\"ingress_counted\": 1"));
    assert!(dump("CONFIG").contains("\"layout_version\": 1"));
    assert!(dump("WORKERS").contains("\"connections\": 0"));
}

#[test]
fn a_second_blade_leaves_the_first_ones_pins_alone() {
    if !is_privileged("a_second_blade_leaves_the_first_ones_pins_alone") {
        return;
    }
    let options = options();
    let mut first = Steer::load(&options).unwrap();
    let mut second = Steer::load(&options).unwrap();
    let reason = second.unpinned_because().unwrap().to_string();
    assert!(reason.contains("another blade has its maps there"), "{reason}");
    count_one(&mut second);
    assert_eq!(second.view().verdict(Verdict::IngressCounted).unwrap(), 1, "it works without pins");
    count_one(&mut first);
    drop(second);
    let pinned = View::open_pinned(first.pin_dir().unwrap()).unwrap();
    assert_eq!(pinned.verdict(Verdict::IngressCounted).unwrap(), 1);
}

#[test]
fn kept_pins_are_counted_on_and_those_of_another_layout_replaced() {
    if !is_privileged("kept_pins_are_counted_on_and_those_of_another_layout_replaced") {
        return;
    }
    let keeping = SteerOptions { keep_pins: true, ..options() };
    let dir = keeping.pin_dir.clone().unwrap();
    let _removed_in_any_case = Removed(dir.clone());
    let mut steer = Steer::load(&keeping).unwrap();
    count_one(&mut steer);
    drop(steer);
    assert_eq!(View::open_pinned(&dir).unwrap().flows().count(), 1, "readable without a blade");

    let mut steer = Steer::load(&keeping).unwrap();
    count_one(&mut steer);
    assert_eq!(steer.view().flows().next().unwrap().counters.packets_in, 2, "counted on");
    drop(steer);

    let other_layout = SteerOptions { flows_max: 2048, keep_pins: false, ..keeping };
    let steer = Steer::load(&other_layout).unwrap();
    assert!(steer.unpinned_because().is_none());
    assert_eq!(steer.view().flows_max().unwrap(), 2048);
    assert_eq!(steer.view().verdict(Verdict::IngressCounted).unwrap(), 0, "all maps are new");
    drop(steer);
    assert!(!dir.exists());
}

#[test]
fn a_directory_that_is_no_bpffs_costs_only_the_pins() {
    if !is_privileged("a_directory_that_is_no_bpffs_costs_only_the_pins") {
        return;
    }
    let dir = std::env::temp_dir().join("fanblade-not-a-bpffs");
    let mut steer = Steer::load(&SteerOptions { pin_dir: Some(dir.clone()), ..options() }).unwrap();
    let reason = steer.unpinned_because().unwrap().to_string();
    assert!(reason.contains("mount -t bpf bpf /sys/fs/bpf"), "{reason}");
    assert!(!dir.exists());
    count_one(&mut steer);
    assert_eq!(steer.view().flows().count(), 1);
}

#[test]
fn what_the_programs_say_reaches_the_log() {
    if !is_privileged("what_the_programs_say_reaches_the_log") {
        return;
    }
    let (lines, subscriber) = log();
    let mut steer = with_something_to_say();
    tracing::subscriber::with_default(subscriber, || steer.drain_log());
    let warnings = warnings(&lines);
    // Each CPU logs its 1st, 2nd, 4th … time: some lines, but not a hundred.
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!((1..=8 * cpus).contains(&warnings), "{warnings}");
}

#[test]
fn a_task_writes_the_log_as_it_comes() {
    if !is_privileged("a_task_writes_the_log_as_it_comes") {
        return;
    }
    let (lines, subscriber) = log();
    let mut steer = with_something_to_say();
    // A runtime of one thread, so that the task logs to this test's own subscriber.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            steer.spawn_log().unwrap();
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
            while warnings(&lines) == 0 && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
    });
    assert!(warnings(&lines) > 0);
}

/// Programs that have left 100 connections to the kernel's hash, and so have lines to log.
fn with_something_to_say() -> Steer {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let mut steer = load();
    Namespace::new().run(|| {
        let listeners = [listen_shared(address), listen_shared(address)];
        steer.attach_listeners(&listeners).unwrap();
        steer.set_weight(1, 0).unwrap();
        steer.remove_listener(0).unwrap();
        for _ in 0..100 {
            TcpStream::connect(address).unwrap();
        }
        // Checked before the listeners close, when the kernel asks again for the connections that wait at them.
        assert_eq!(steer.view().verdict(Verdict::SteerFallback).unwrap(), 100);
    });
    steer
}

fn log() -> (Lines, impl tracing::Subscriber + Send + Sync) {
    let lines = Lines::default();
    let writer = lines.clone();
    (lines, tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish())
}

fn warnings(lines: &Lines) -> usize {
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    log.lines().filter(|line| line.contains("WARN fanblade::ebpf: steer: worker 0 has no listener")).count()
}

/// A pin directory that is removed in the end, even after a panic.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A log that a test can read.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
