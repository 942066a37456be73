//! Counts for each publisher, for status and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use fanblade_feed::{Line, UnixNs};
use parking_lot::Mutex;

/// Publishers by the names that they give themselves; those without a name are counted by their transport.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<BTreeMap<String, Arc<LineCounters>>>);

/// One line's counts. The publishers' thread writes them, the sequencer's thread reads them; they are independent of
/// each other.
#[derive(Debug, Default)]
pub(super) struct LineCounters {
    /// Publishers connected.
    connected: AtomicUsize,
    records: AtomicU64,
    bytes: AtomicU64,
    accepted: AtomicU64,
    heard_ns: AtomicU64,
}

impl LineCounters {
    pub(super) fn note_record(&self, len: usize, now_ns: UnixNs) {
        self.records.fetch_add(1, Relaxed);
        self.bytes.fetch_add(len as u64, Relaxed);
        self.heard_ns.store(now_ns.0, Relaxed);
    }

    pub(super) fn note_accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }
}

impl Lines {
    /// Counts a publisher that has connected.
    pub(super) fn join(&self, name: &str) -> Arc<LineCounters> {
        let mut lines = self.0.lock();
        let line = lines.entry(name.to_owned()).or_default();
        line.connected.fetch_add(1, Relaxed);
        Arc::clone(line)
    }

    /// Counts a publisher that has left. A name without publishers is removed, so that changing names do not pile up.
    pub(super) fn leave(&self, name: &str) {
        let mut lines = self.0.lock();
        if lines.get(name).is_some_and(|line| line.connected.fetch_sub(1, Relaxed) == 1) && !TRANSPORTS.contains(&name)
        {
            lines.remove(name);
        }
    }

    /// All lines, for the sequencer's report.
    pub(super) fn snapshot(&self) -> Vec<Line> {
        let now = UnixNs::now();
        let lines = self.0.lock();
        lines
            .iter()
            .map(|(name, line)| {
                let heard = UnixNs(line.heard_ns.load(Relaxed));
                Line {
                    name: name.clone(),
                    packets: line.records.load(Relaxed),
                    bytes: line.bytes.load(Relaxed),
                    wins: line.accepted.load(Relaxed),
                    gaps: 0,
                    kernel_drops: 0,
                    lead_ns_mean: 0,
                    lead_ns_max: 0,
                    silent_ns: (heard > UnixNs::default()).then(|| now.since(heard)),
                }
            })
            .collect()
    }
}

const TRANSPORTS: [&str; 3] = ["ws", "tcp", "unix"];
