//! Code that the tests share: privileges, pin directories, network namespaces. All is gone when a test ends or panics.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(unreachable_pub, reason = "a module of several test binaries")]

pub mod frames;
pub mod lane;
pub mod network;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use fanblade_steer::{Steer, SteerOptions, probe};

/// The port that is ours in all tests.
pub const PORT: u16 = 9001;

/// May this process load eBPF programs and make namespaces? If not, says so in one line, and the test passes.
pub fn is_privileged(test: &str) -> bool {
    let missing: Vec<_> = probe()
        .into_iter()
        .filter(|check| check.name.starts_with("CAP_") && !check.is_ok)
        .map(|check| check.name)
        .collect();
    if !missing.is_empty() {
        // Written to stderr, not printed: the harness hides the prints of a passing test.
        let line = format!("skipped: {test}: needs {}\n", missing.join(", "));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    missing.is_empty()
}

/// A pin directory of this test's own.
pub fn pin_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/sys/fs/bpf/fanblade-test-{}-{number}", std::process::id()))
}

pub fn options() -> SteerOptions {
    SteerOptions { ports: vec![443, PORT], pin_dir: Some(pin_dir()), flows_max: 16_384, ..SteerOptions::default() }
}

pub fn load() -> Steer {
    let steer = Steer::load(&options()).unwrap();
    assert!(steer.unpinned_because().is_none(), "{}", steer.unpinned_because().unwrap());
    steer
}
