//! What the threads of a running blade report to its readers, such as the admin port. Each thread writes its own part;
//! readers only read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use fanblade_feed::{Condition, Pulse};
use fanblade_market::Counters as MarketCounters;
use fanblade_worker::{LatencyHistogram, LatencySnapshot, WorkerStats};

use crate::log::Log;
use crate::supervisor::Supervisor;
use crate::vitals::Vital;

/// A running blade, as seen from outside.
#[derive(Debug)]
pub struct Blade {
    /// When the blade started.
    pub started: Instant,
    /// Where subscribers connect.
    pub data: SocketAddr,
    /// The workers' socket engine.
    pub engine: &'static str,
    /// A description of the feed.
    pub feed: String,
    /// First segment of the subjects.
    pub venue: String,
    /// Written by the sequencer.
    pub sequencer: Arc<SequencerShared>,
    /// In the order of their indices.
    pub workers: Vec<WorkerView>,
    /// Written by the control thread.
    pub kernel: ArcSwap<KernelView>,
    /// Latencies of the last seconds, written by the control thread.
    pub recent: ArcSwap<Recent>,
    /// Set once a stop has begun.
    pub stopping: AtomicBool,
    /// Set, with the reason, when a thread has ended and will not be replaced.
    pub broken: OnceLock<String>,
    /// The log, for its counts.
    pub log: Log,
    /// Every thread that the others depend on.
    pub vitals: Vec<Vital>,
    /// The service manager that started the blade, if any.
    pub supervisor: Supervisor,
    /// What became of reloads.
    pub reloads: Reloads,
}

/// What became of reloads, for metrics. Written by the thread that reloads.
#[derive(Debug, Default)]
pub struct Reloads {
    /// The file was good.
    pub applied: AtomicU64,
    /// The file could not be read or had a mistake, or the blade did not take it.
    pub refused: AtomicU64,
    /// The newest reload was refused.
    pub is_refused: AtomicBool,
    /// Changed keys that wait for a restart.
    pub keys_waiting: AtomicU64,
}

/// One worker.
#[derive(Debug)]
pub struct WorkerView {
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// Written by the worker.
    pub stats: Arc<WorkerStats>,
}

/// What the sequencer reports.
#[derive(Debug, Default)]
pub struct SequencerShared {
    /// Counts the turns of its loop.
    pub pulse: Pulse,
    /// From the poll that took a message in to the publication of its frames, nanoseconds.
    pub latency: LatencyHistogram,
    /// A copy of the counts, renewed now and then. Neither side waits for the other, which may be stalled anywhere.
    pub report: ArcSwap<SequencerReport>,
}

/// A copy of everything that the sequencer counts.
#[derive(Debug, Default, Clone)]
pub struct SequencerReport {
    /// The condition of the feed.
    pub state: FeedState,
    /// The epoch under way.
    pub epoch: String,
    /// What the feed counts.
    pub feed: fanblade_feed::FeedCounters,
    /// What the market counts.
    pub market: MarketCounters,
    /// What the ring's writer counts.
    pub ring: fanblade_ring::WriterStats,
    /// Open orders.
    pub orders: u64,
    /// Known instruments.
    pub instruments: u64,
    /// Subjects in the ring.
    pub subjects: u64,
    /// Notices to subscribers that were lost because the control thread's queue was full.
    pub notices_lost: u64,
    /// The lines or connections by which packets come.
    pub lines: Vec<fanblade_feed::Line>,
    /// Upstream troubles, counted by kind.
    pub troubles: Vec<(&'static str, u64)>,
    /// Gaps in the numbers of single subjects.
    pub subject_gaps: u64,
}

/// The condition of the feed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum FeedState {
    /// Waits for its subscribers (`wait_for`).
    #[default]
    Waiting,
    /// The feed replays what it missed; the blade is not ready.
    CatchingUp,
    /// Messages come, or are due later.
    Live,
    /// What is served may not be current.
    Stale,
    /// The feed has ended; the last values are still served.
    Finished,
    /// The feed has failed.
    Failed,
}

impl FeedState {
    /// All states, for metrics.
    pub const ALL: [FeedState; 6] = [
        FeedState::Waiting,
        FeedState::CatchingUp,
        FeedState::Live,
        FeedState::Stale,
        FeedState::Finished,
        FeedState::Failed,
    ];

    /// The name in metrics and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FeedState::Waiting => "waiting",
            FeedState::CatchingUp => "catching_up",
            FeedState::Live => "live",
            FeedState::Stale => "stale",
            FeedState::Finished => "finished",
            FeedState::Failed => "failed",
        }
    }
}

impl From<Condition> for FeedState {
    fn from(condition: Condition) -> FeedState {
        match condition {
            Condition::CatchingUp => FeedState::CatchingUp,
            Condition::Live => FeedState::Live,
            Condition::Stale(_) => FeedState::Stale,
        }
    }
}

/// The state and the counts of the eBPF programs.
#[derive(Debug, Default, Clone)]
pub struct KernelView {
    /// New connections are steered by load.
    pub steering: bool,
    /// Interfaces whose incoming packets are counted, with the way the program is attached.
    pub ingress: Vec<(String, &'static str)>,
    /// Interfaces whose outgoing packets are counted.
    pub egress: Vec<String>,
    /// What is not active, and why.
    pub lacking: Vec<String>,
    /// Packets by verdict.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Connections that the program gave to each worker.
    pub steered: Vec<u64>,
}

impl KernelView {
    /// Whether any program is active.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.steering || !self.ingress.is_empty() || !self.egress.is_empty()
    }

    /// Why something is not active, in a line. The verifier's reasons can be pages long; the log has them at level
    /// debug.
    pub(crate) fn reason(error: &fanblade_steer::SteerError) -> String {
        let text = error.to_string();
        tracing::debug!("eBPF: {text}");
        let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((cut, _)) = line.char_indices().nth(REASON_CHARS_MAX) {
            line.truncate(cut);
            line.push_str(" …");
        }
        line
    }

    /// The state in one or two words.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self.ingress.first() {
            Some((_, mode)) => mode,
            None if self.is_active() => "steering only",
            None => "none",
        }
    }
}

/// Latencies over the last seconds.
#[derive(Debug, Default, Clone)]
pub struct Recent {
    /// From the poll that took a message in to its publication, nanoseconds.
    pub feed_to_publish: LatencySnapshot,
    /// From publication to send, for each worker, nanoseconds.
    pub publish_to_send: Vec<LatencySnapshot>,
}

impl Blade {
    /// Whether it listens, all threads are alive, it is not stopping, and it is not replaying what it missed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Why the blade is not ready.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.stopping.load(Relaxed) {
            return Some("the blade stops".to_owned());
        }
        self.ailment().or_else(|| match self.sequencer.report.load().state {
            FeedState::CatchingUp => Some("the feed catches up with what was missed".to_owned()),
            FeedState::Failed => Some("the feed has failed; the log says why".to_owned()),
            FeedState::Waiting | FeedState::Live | FeedState::Stale | FeedState::Finished => None,
        })
    }

    /// What is wrong with a thread.
    #[must_use]
    pub fn ailment(&self) -> Option<String> {
        if let Some(broken) = self.broken.get() {
            return Some(broken.clone());
        }
        let still: Vec<String> = self
            .vitals
            .iter()
            .map(Vital::seen)
            .filter(|thread| thread.stalled)
            .map(|thread| format!("the thread {} has not moved for {} ms", thread.name, thread.heartbeat_age_ms))
            .collect();
        (!still.is_empty()).then(|| still.join("; "))
    }

    /// The sequencer's latest report.
    #[must_use]
    pub fn report(&self) -> Arc<SequencerReport> {
        self.sequencer.report.load_full()
    }
}

const REASON_CHARS_MAX: usize = 300;
