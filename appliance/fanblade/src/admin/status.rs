//! `/v1/status`: the figures of the live page, as JSON. docs/PROTOCOL.md describes the fields.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fanblade_ring::Lane;
use fanblade_worker::LatencySnapshot;
use serde::Serialize;

use super::Admin;
use crate::blade::{Blade, lock};

pub(super) async fn status(State(admin): State<Admin>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(Status::of(&admin.blade))).into_response()
}

/// The whole answer. Counts are since the start, latencies over the last ten seconds.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    uptime_ms: u64,
    ready: bool,
    stopping: bool,
    epoch: String,
    data: Data,
    feed: Feed,
    ring: Ring,
    totals: Totals,
    latency_ns: Latencies,
    workers: Vec<Worker>,
    ebpf: Ebpf,
}

#[derive(Debug, Serialize)]
struct Data {
    address: String,
    host: String,
    port: u16,
    engine: &'static str,
}

#[derive(Debug, Serialize)]
struct Feed {
    source: String,
    venue: String,
    state: &'static str,
    messages: u64,
    gaps: u64,
    gap_messages: u64,
    malformed: u64,
    orders: u64,
    instruments: u64,
    packets: u64,
    duplicates: u64,
    recovered: u64,
    requests: u64,
    subject_gaps: u64,
    lines: Vec<Line>,
    /// By kind.
    troubles: BTreeMap<&'static str, u64>,
}

/// One way by which packets come.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    packets: u64,
    bytes: u64,
    wins: u64,
    gaps: u64,
    kernel_drops: u64,
    lead_ns_mean: u64,
    lead_ns_max: u64,
    silent_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Ring {
    subjects: u64,
    published: u64,
    refreshed: u64,
    refused: u64,
    json_bytes: u64,
    binary_bytes: u64,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    sessions: u64,
    sessions_subscribed: u64,
    sessions_behind: u64,
    frames_delivered: u64,
    bytes_delivered: u64,
    frames_conflated: u64,
}

#[derive(Debug, Serialize)]
struct Latencies {
    feed_to_publish: Quantiles,
    publish_to_send: Quantiles,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    count: u64,
    p50: u64,
    p99: u64,
}

#[derive(Debug, Serialize)]
struct Worker {
    index: usize,
    cpu: Option<usize>,
    sessions: u64,
    sessions_behind: u64,
    frames_delivered: u64,
    bytes_delivered: u64,
    sends: u64,
    latency_ns: Quantiles,
}

#[derive(Debug, Serialize)]
struct Ebpf {
    active: bool,
    mode: &'static str,
    steering: bool,
    ingress: Vec<String>,
    egress: Vec<String>,
    reason: String,
    verdicts: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    name: &'static str,
    packets: u64,
}

impl Status {
    fn of(blade: &Blade) -> Status {
        let report = blade.report();
        let kernel = lock(&blade.kernel).clone();
        let recent = lock(&blade.recent).clone();
        let mut totals = Totals::default();
        let mut all = LatencySnapshot::default();
        let mut workers = Vec::with_capacity(blade.workers.len());
        for (index, worker) in blade.workers.iter().enumerate() {
            let stats = &worker.stats;
            totals.sessions += stats.sessions.value();
            totals.sessions_subscribed += stats.sessions_subscribed.value();
            totals.sessions_behind += stats.sessions_behind.value();
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
                latency_ns: Quantiles::of(&latency),
            });
        }
        let host = match blade.data {
            std::net::SocketAddr::V4(address) => address.ip().to_string(),
            std::net::SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: u64::try_from(blade.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ready: blade.is_ready(),
            stopping: blade.stopping.load(Relaxed),
            epoch: report.epoch,
            data: Data { address: blade.data.to_string(), host, port: blade.data.port(), engine: blade.engine },
            feed: Feed {
                source: blade.feed.clone(),
                venue: blade.venue.clone(),
                state: report.state.name(),
                messages: report.feed.messages,
                gaps: report.feed.gaps,
                gap_messages: report.feed.gap_messages,
                malformed: report.feed.malformed + report.market.malformed,
                orders: report.orders,
                instruments: report.instruments,
                packets: report.feed.packets,
                duplicates: report.feed.duplicates,
                recovered: report.feed.recovered,
                requests: report.feed.requests,
                subject_gaps: report.subject_gaps,
                lines: report.lines.into_iter().map(Line::from).collect(),
                troubles: report.troubles.into_iter().collect(),
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
            ebpf: Ebpf {
                active: kernel.is_active(),
                mode: kernel.mode(),
                steering: kernel.steering,
                ingress: kernel.ingress.into_iter().map(|(interface, mode)| format!("{interface} ({mode})")).collect(),
                egress: kernel.egress,
                reason: kernel.lacking.join("; "),
                verdicts: kernel.verdicts.into_iter().map(|(name, packets)| Verdict { name, packets }).collect(),
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
        Quantiles { count: snapshot.count(), p50: snapshot.quantile(0.5), p99: snapshot.quantile(0.99) }
    }
}
