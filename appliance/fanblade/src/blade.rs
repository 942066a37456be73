//! What the threads of a running blade tell the admin port. Everyone writes their own part; the admin port only reads.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fanblade_market::Counters as MarketCounters;
use fanblade_worker::{LatencyHistogram, LatencySnapshot, WorkerStats};

/// A running blade, as seen from outside.
#[derive(Debug)]
pub(crate) struct Blade {
    pub(crate) started: Instant,
    /// Where subscribers connect.
    pub(crate) data: SocketAddr,
    /// The workers' socket engine.
    pub(crate) engine: &'static str,
    /// The feed, in words.
    pub(crate) feed: String,
    pub(crate) venue: String,
    pub(crate) sequencer: Arc<SequencerShared>,
    pub(crate) workers: Vec<WorkerView>,
    /// Written by the control thread.
    pub(crate) kernel: Mutex<KernelView>,
    /// Latencies of the last seconds, written by the control thread.
    pub(crate) recent: Mutex<Recent>,
    /// Set once a stop has begun.
    pub(crate) stopping: AtomicBool,
    /// Set when a thread has ended that should not have.
    pub(crate) broken: AtomicBool,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct WorkerView {
    pub(crate) cpu: Option<usize>,
    pub(crate) stats: Arc<WorkerStats>,
}

/// What the sequencer tells.
#[derive(Debug, Default)]
pub(crate) struct SequencerShared {
    /// From the poll that took a message in to the publication of a frame of it, nanoseconds.
    pub(crate) latency: LatencyHistogram,
    /// The counts, copied here now and then. The sequencer never waits for this lock.
    pub(crate) report: Mutex<SequencerReport>,
}

/// A copy of everything that the sequencer counts.
#[derive(Debug, Default, Clone)]
pub(crate) struct SequencerReport {
    pub(crate) state: FeedState,
    pub(crate) epoch: String,
    pub(crate) feed: fanblade_feed::FeedCounters,
    pub(crate) market: MarketCounters,
    pub(crate) ring: fanblade_ring::WriterStats,
    pub(crate) orders: u64,
    pub(crate) instruments: u64,
    pub(crate) subjects: u64,
    /// Notices to subscribers that found the control thread's queue full.
    pub(crate) notices_lost: u64,
}

/// How the feed is doing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedState {
    /// Waits for its subscribers (`wait_for`).
    #[default]
    Waiting,
    /// Messages come, or are due later.
    Live,
    /// Has said everything; the last values are still served.
    Finished,
    /// Broke off.
    Failed,
}

impl FeedState {
    /// All of them, for metrics.
    pub(crate) const ALL: [FeedState; 4] =
        [FeedState::Waiting, FeedState::Live, FeedState::Finished, FeedState::Failed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            FeedState::Waiting => "waiting",
            FeedState::Live => "live",
            FeedState::Finished => "finished",
            FeedState::Failed => "failed",
        }
    }
}

/// What the eBPF programs do and count.
#[derive(Debug, Default, Clone)]
pub(crate) struct KernelView {
    /// New connections are steered by load.
    pub(crate) steering: bool,
    /// Interfaces whose incoming packets are counted, with the way the program is attached.
    pub(crate) ingress: Vec<(String, &'static str)>,
    /// Interfaces whose outgoing packets are counted.
    pub(crate) egress: Vec<String>,
    /// What is not at work, and why.
    pub(crate) lacking: Vec<String>,
    pub(crate) verdicts: Vec<(&'static str, u64)>,
    /// Connections that the program gave to each worker.
    pub(crate) steered: Vec<u64>,
}

impl KernelView {
    /// Is any program at work?
    pub(crate) fn is_active(&self) -> bool {
        self.steering || !self.ingress.is_empty() || !self.egress.is_empty()
    }

    /// Takes note of what is not at work. The verifier's reasons can be pages long; those are in the log at level
    /// debug.
    pub(crate) fn lack(&mut self, error: &fanblade_steer::SteerError) {
        let text = error.to_string();
        tracing::debug!("eBPF: {text}");
        let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((cut, _)) = line.char_indices().nth(REASON_CHARS_MAX) {
            line.truncate(cut);
            line.push_str(" …");
        }
        self.lacking.push(line);
    }

    /// In one or two words.
    pub(crate) fn mode(&self) -> &'static str {
        match self.ingress.first() {
            Some((_, mode)) => mode,
            None if self.is_active() => "steering only",
            None => "none",
        }
    }
}

/// Latencies over the last seconds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Recent {
    pub(crate) feed_to_publish: LatencySnapshot,
    pub(crate) publish_to_send: Vec<LatencySnapshot>,
}

impl Blade {
    /// Listening, all threads alive, not on the way out.
    pub(crate) fn is_ready(&self) -> bool {
        !self.stopping.load(Relaxed) && self.is_healthy() && self.report().state != FeedState::Failed
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.broken.load(Relaxed)
    }

    /// The sequencer's counts.
    pub(crate) fn report(&self) -> SequencerReport {
        lock(&self.sequencer.report).clone()
    }
}

/// These mutexes guard plain values: a panic elsewhere leaves them whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const REASON_CHARS_MAX: usize = 300;
