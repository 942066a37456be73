//! `/v1/status`: the figures of the live page and of `fanblade top`, as JSON. docs/PROTOCOL.md describes the fields.
//!
//! `fanblade top` reads the same structs. It may be older or newer than the blade, so fields may be missing or unknown.
#![expect(missing_docs, reason = "docs/PROTOCOL.md describes each field")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use fanblade_blade::{Blade, KernelView, SequencerReport, Thread, Vital};
use fanblade_ring::Lane;
use fanblade_worker::LatencySnapshot;
use serde::{Deserialize, Serialize};

use crate::settings::Page;

/// A constant in the blade, an owned string in a program that has parsed the answer.
pub type Text = Cow<'static, str>;

/// The whole answer. Counts are since the start, latencies over the last ten seconds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: Text,
    /// The process number, for a reader of its ring.
    pub pid: u32,
    pub uptime_ms: u64,
    pub ready: bool,
    /// The reason if `/healthz` reports a fault; empty: all is well.
    pub ailment: String,
    pub stopping: bool,
    /// Log lines that were lost.
    pub log_lost: u64,
    pub epoch: String,
    pub data: Data,
    pub feed: Feed,
    pub ring: Ring,
    pub totals: Totals,
    pub latency_ns: Latencies,
    pub workers: Vec<Worker>,
    pub threads: Vec<Thread>,
    pub ebpf: Ebpf,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    pub address: String,
    pub host: String,
    pub port: u16,
    pub engine: Text,
    /// The configured URL at which browsers reach the data port, if any.
    pub stream_url: String,
    /// Origins that may connect; empty: any.
    pub allowed_origins: Vec<String>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    pub source: String,
    /// `market` or `values`.
    pub shape: Text,
    pub venue: String,
    pub state: Text,
    pub messages: u64,
    pub gaps: u64,
    pub gap_messages: u64,
    pub malformed: u64,
    pub orders: u64,
    pub instruments: u64,
    pub packets: u64,
    pub duplicates: u64,
    pub suspected: u64,
    pub recovered: u64,
    pub requests: u64,
    pub subject_gaps: u64,
    pub lines: Vec<Line>,
    /// Counts by kind.
    pub troubles: BTreeMap<Text, u64>,
}

/// One line or connection by which packets come.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    pub name: String,
    pub packets: u64,
    pub bytes: u64,
    pub wins: u64,
    pub gaps: u64,
    pub kernel_drops: u64,
    pub lead_ns_mean: u64,
    pub lead_ns_max: u64,
    pub silent_ns: Option<u64>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ring {
    pub subjects: u64,
    pub published: u64,
    pub refreshed: u64,
    pub refused: u64,
    pub json_bytes: u64,
    pub binary_bytes: u64,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub sessions: u64,
    pub sessions_subscribed: u64,
    pub sessions_behind: u64,
    /// Sessions with a list of subscriptions of their own, the subscriptions in them, and the most memory that these
    /// take.
    pub own_lists: u64,
    pub own_subscriptions: u64,
    pub own_lists_bytes: u64,
    /// Memory held by sessions that are owed something or ask, and how many sessions were ended because it was too
    /// much.
    pub held_bytes: u64,
    pub held_evicted: u64,
    /// Distinct patterns and missing subjects that are asked for (`filters_max`), requests refused for them, and
    /// requests that waited for a later pass.
    pub filters: u64,
    pub filters_refused: u64,
    pub requests_waited: u64,
    pub frames_delivered: u64,
    pub bytes_delivered: u64,
    pub frames_conflated: u64,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    pub feed_to_publish: Quantiles,
    pub publish_to_send: Quantiles,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    pub index: usize,
    pub cpu: Option<usize>,
    pub sessions: u64,
    pub sessions_behind: u64,
    pub frames_delivered: u64,
    pub bytes_delivered: u64,
    pub sends: u64,
    /// Whether it cannot accept connections now, for lack of descriptors or socket memory.
    pub parked: bool,
    /// How often a new worker took its place.
    pub restarts: u64,
    pub latency_ns: Quantiles,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Ebpf {
    pub active: bool,
    pub mode: Text,
    pub steering: bool,
    pub ingress: Vec<String>,
    pub egress: Vec<String>,
    pub reason: String,
    pub verdicts: Vec<Verdict>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    pub name: Text,
    pub packets: u64,
}

impl Status {
    pub(crate) fn of(blade: &Blade, page: &Page) -> Status {
        let report = SequencerReport::clone(&blade.report());
        let kernel = KernelView::clone(&blade.kernel.load());
        let recent = blade.recent.load_full();
        // Each worker counts for itself: one pass gives the sums and the list.
        let mut totals = Totals::default();
        let mut all = LatencySnapshot::default();
        let mut workers = Vec::with_capacity(blade.workers.len());
        for (index, worker) in blade.workers.iter().enumerate() {
            let stats = &worker.stats;
            totals.sessions += stats.sessions.value();
            totals.sessions_subscribed += stats.sessions_subscribed.value();
            totals.sessions_behind += stats.sessions_behind.value();
            totals.own_lists += stats.own_lists.value();
            totals.own_subscriptions += stats.own_subscriptions.value();
            totals.own_lists_bytes += stats.own_lists_bytes.value();
            totals.held_bytes += stats.held_bytes.value();
            totals.held_evicted += stats.held_evicted.value();
            totals.filters += stats.filters.value();
            totals.filters_refused += stats.filters_refused.value();
            totals.requests_waited += stats.requests_waited.value();
            totals.frames_delivered += stats.frames_delivered.value();
            totals.bytes_delivered += stats.bytes_delivered.value();
            totals.frames_conflated += stats.frames_conflated.value();
            let latency = recent.publish_to_send.get(index).cloned().unwrap_or_default();
            all.merge(&latency);
            workers.push(Worker {
                index,
                cpu: worker.cpu,
                sessions: stats.sessions.value(),
                sessions_behind: stats.sessions_behind.value(),
                frames_delivered: stats.frames_delivered.value(),
                bytes_delivered: stats.bytes_delivered.value(),
                sends: stats.sends.value(),
                parked: stats.accepting_parked.value() > 0,
                restarts: stats.restarts.value(),
                latency_ns: Quantiles::of(&latency),
            });
        }
        // As in a URL, for the page.
        let host = match blade.data {
            std::net::SocketAddr::V4(address) => address.ip().to_string(),
            std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(blade.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ready: blade.is_ready(),
            ailment: blade.ailment().unwrap_or_default(),
            stopping: blade.stopping.load(Relaxed),
            log_lost: blade.log.counts().1,
            epoch: report.epoch,
            data: Data {
                address: blade.data.to_string(),
                host,
                port: blade.data.port(),
                engine: blade.engine.into(),
                stream_url: page.stream_url.clone(),
                allowed_origins: page.allowed_origins.clone(),
            },
            feed: Feed {
                source: blade.feed.clone(),
                shape: page.shape.into(),
                venue: blade.venue.clone(),
                state: report.state.name().into(),
                messages: report.feed.messages,
                gaps: report.feed.gaps,
                gap_messages: report.feed.gap_messages,
                malformed: report.feed.malformed + report.market.malformed,
                orders: report.orders,
                instruments: report.instruments,
                packets: report.feed.packets,
                duplicates: report.feed.duplicates,
                suspected: report.feed.suspected,
                recovered: report.feed.recovered,
                requests: report.feed.requests,
                subject_gaps: report.subject_gaps,
                lines: report.lines.into_iter().map(Line::from).collect(),
                troubles: report.troubles.into_iter().map(|(kind, count)| (kind.into(), count)).collect(),
            },
            ring: Ring {
                subjects: report.subjects,
                published: report.ring.published,
                refreshed: report.ring.refreshed,
                refused: report.ring.refused,
                json_bytes: report.ring.lane_bytes[Lane::Json as usize],
                binary_bytes: report.ring.lane_bytes[Lane::Binary as usize],
            },
            totals,
            latency_ns: Latencies {
                feed_to_publish: Quantiles::of(&recent.feed_to_publish),
                publish_to_send: Quantiles::of(&all),
            },
            workers,
            threads: blade.vitals.iter().map(Vital::seen).collect(),
            ebpf: Ebpf {
                active: kernel.is_active(),
                mode: kernel.mode().into(),
                steering: kernel.steering,
                ingress: kernel.ingress.into_iter().map(|(interface, mode)| format!("{interface} ({mode})")).collect(),
                egress: kernel.egress,
                reason: kernel.lacking.join("; "),
                verdicts: kernel
                    .verdicts
                    .into_iter()
                    .map(|(name, packets)| Verdict { name: name.into(), packets })
                    .collect(),
            },
        }
    }
}

impl From<fanblade_feed::Line> for Line {
    fn from(line: fanblade_feed::Line) -> Line {
        let fanblade_feed::Line {
            name,
            packets,
            bytes,
            wins,
            gaps,
            kernel_drops,
            lead_ns_mean,
            lead_ns_max,
            silent_ns,
        } = line;
        Line { name, packets, bytes, wins, gaps, kernel_drops, lead_ns_mean, lead_ns_max, silent_ns }
    }
}

impl Quantiles {
    fn of(snapshot: &LatencySnapshot) -> Quantiles {
        Quantiles {
            count: snapshot.count(),
            p50: snapshot.quantile(0.5),
            p99: snapshot.quantile(0.99),
            p999: snapshot.quantile(0.999),
            max: snapshot.quantile(1.0),
        }
    }
}
