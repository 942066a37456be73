//! What the threads of a running blade tell the admin port. Everyone writes their own part; the admin port only reads.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use fanblade_feed::{Condition, Pulse};
use fanblade_market::Counters as MarketCounters;
use fanblade_worker::{LatencyHistogram, LatencySnapshot, WorkerStats};

use crate::admin::AdminStats;
use crate::config::{Config, FeedSource};
use crate::run::log::Log;
use crate::vitals::Vital;

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
    pub(crate) kernel: ArcSwap<KernelView>,
    /// Latencies of the last seconds, written by the control thread.
    pub(crate) recent: ArcSwap<Recent>,
    pub(crate) admin: Arc<AdminStats>,
    pub(crate) page: PageView,
    /// Set once a stop has begun.
    pub(crate) stopping: AtomicBool,
    /// Set, with what to say, when a thread has ended that nobody takes the place of.
    pub(crate) broken: OnceLock<String>,
    pub(crate) log: Log,
    /// Every thread that the others count on.
    pub(crate) vitals: Vec<Vital>,
}

/// What the live page has to know of the configuration.
#[derive(Debug, Default)]
pub(crate) struct PageView {
    /// `market`: the channels of a market; `values`: anything.
    pub(crate) shape: &'static str,
    /// Where the data port is reached; empty: at the page's own host.
    pub(crate) stream_url: String,
    /// Of pages that may connect to the data port; empty: any.
    pub(crate) allowed_origins: Vec<String>,
}

impl PageView {
    pub(crate) fn new(config: &Config) -> PageView {
        PageView {
            shape: match config.feed.source {
                FeedSource::Publisher | FeedSource::Websocket => "values",
                FeedSource::Simulator | FeedSource::File(_) | FeedSource::Moldudp64(_) | FeedSource::Soupbintcp(_) => {
                    "market"
                }
            },
            stream_url: config.admin.stream_url.get_ref().clone(),
            allowed_origins: config.data.allowed_origins.get_ref().clone(),
        }
    }
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
    pub(crate) pulse: Pulse,
    /// From the poll that took a message in to the publication of a frame of it, nanoseconds.
    pub(crate) latency: LatencyHistogram,
    /// The counts, copied here now and then. Neither side ever waits for the other, which may stand still anywhere.
    pub(crate) report: ArcSwap<SequencerReport>,
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
    /// The ways by which packets come.
    pub(crate) lines: Vec<fanblade_feed::Line>,
    /// What went wrong upstream, by kind.
    pub(crate) troubles: Vec<(&'static str, u64)>,
    /// Runs of missing values of single subjects.
    pub(crate) subject_gaps: u64,
}

/// How the feed is doing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedState {
    /// Waits for its subscribers (`wait_for`).
    #[default]
    Waiting,
    /// Replays what it missed; the blade is not ready.
    CatchingUp,
    /// Messages come, or are due later.
    Live,
    /// What is served may not be current.
    Stale,
    /// Has said everything; the last values are still served.
    Finished,
    /// Broke off.
    Failed,
}

impl FeedState {
    /// All of them, for metrics.
    pub(crate) const ALL: [FeedState; 6] = [
        FeedState::Waiting,
        FeedState::CatchingUp,
        FeedState::Live,
        FeedState::Stale,
        FeedState::Finished,
        FeedState::Failed,
    ];

    pub(crate) fn name(self) -> &'static str {
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

    /// Why something is not at work, in a line. The verifier's reasons can be pages long; those are in the log at level
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
    /// Listening, all threads alive, not on the way out, and not replaying what it missed.
    pub(crate) fn is_ready(&self) -> bool {
        self.unready().is_none()
    }

    /// Why nobody should be sent here, in words.
    pub(crate) fn unready(&self) -> Option<String> {
        if self.stopping.load(Relaxed) {
            return Some("the blade stops".to_owned());
        }
        self.ailment().or_else(|| match self.sequencer.report.load().state {
            FeedState::CatchingUp => Some("the feed catches up with what was missed".to_owned()),
            FeedState::Failed => Some("the feed has failed; the log says why".to_owned()),
            FeedState::Waiting | FeedState::Live | FeedState::Stale | FeedState::Finished => None,
        })
    }

    /// What is wrong with a thread, in words.
    pub(crate) fn ailment(&self) -> Option<String> {
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

    /// The sequencer's counts.
    pub(crate) fn report(&self) -> Arc<SequencerReport> {
        self.sequencer.report.load_full()
    }
}

const REASON_CHARS_MAX: usize = 300;
