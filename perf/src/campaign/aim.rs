//! What attackers know of their target, and when they must stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub(super) struct Aim {
    pub(super) data: SocketAddr,
    pub(super) admin: SocketAddr,
    /// Where publishers connect.
    pub(super) publishers: PathBuf,
    is_over: AtomicBool,
    /// How much the attackers have done: each attack counts connections, frames or requests.
    done: AtomicU64,
    /// The blade's own memory before it was attacked.
    pub(super) rss_kib_before: u64,
}

impl Aim {
    pub(super) fn new(data: SocketAddr, admin: SocketAddr, publishers: PathBuf, rss_kib_before: u64) -> Aim {
        Aim { data, admin, publishers, is_over: AtomicBool::new(false), done: AtomicU64::new(0), rss_kib_before }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Ends the attack.
    pub(super) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// What the attackers have noted.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    pub(super) fn note(&self, done: u64) {
        self.done.fetch_add(done, Relaxed);
    }

    /// Waits, but not beyond the end of the attack.
    pub(super) fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_over() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10).min(time));
        }
    }
}

/// Ends the attack when it is dropped.
pub(super) struct Over<'a>(pub(super) &'a Aim);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
