//! `/metrics`: everything that a blade counts, read at each scrape. Names follow the rules of Prometheus: base units,
//! `_total` after counters, every set of labels present from the start.

mod out;
mod process;
mod text;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fanblade_abi::Verdict;
use fanblade_blade::{Blade, FeedState, KernelView, Reloads, SequencerReport, Vital};
use fanblade_feed::Line;
use fanblade_market::{Channel, SYSTEM_EVENTS, Skipped};
use fanblade_ring::Lane;
use fanblade_upstream::troubles;
use fanblade_worker::Kind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::door::AdminStats;
use out::Out;

pub(crate) use text::Format;

/// The registry behind `/metrics`.
pub(crate) fn registry(blade: Arc<Blade>, admin: Arc<AdminStats>) -> Registry {
    let mut registry = Registry::default();
    // The process metrics have no prefix: their names are the same for every program.
    registry.register_collector(Box::new(process::Process));
    registry.sub_registry_with_prefix("fanblade").register_collector(Box::new(Everything { blade, admin }));
    registry
}

#[derive(Debug)]
struct Everything {
    blade: Arc<Blade>,
    admin: Arc<AdminStats>,
}

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        out.gauge("build_info", "Version of this program.", &[("version", env!("CARGO_PKG_VERSION"))], 1)?;
        out.gauge("uptime_seconds", "Time since the blade started.", &[], self.blade.started.elapsed().as_secs())?;
        out.gauge(
            "ready",
            "1: the blade serves and is not about to stop; 0: /readyz answers 503.",
            &[],
            u64::from(self.blade.is_ready()),
        )?;
        let (lines, lost) = self.blade.log.counts();
        out.counter("log_lines", "Log lines, the lost ones included.", lines)?;
        out.counter("log_lost", "Log lines lost: their queue was full, or they could not be written.", lost)?;
        out.counter(
            "calls_refused",
            "System calls that workers' threads made although no worker needs them; they were refused.",
            fanblade_sandbox::refusals().count,
        )?;
        self.life(&mut out)?;
        self.threads(&mut out)?;
        self.feed(&mut out)?;
        self.workers(&mut out)?;
        self.kernel(&mut out)?;
        self.admin(&mut out)
    }
}

impl Everything {
    /// The service manager, and reloads.
    fn life(&self, out: &mut Out<'_>) -> fmt::Result {
        let (told, lost) = self.blade.supervisor.counts();
        out.counter("supervisor_messages", "Messages that the service manager's socket took.", told)?;
        let help = "Messages to the service manager that its socket did not take.";
        out.counter("supervisor_messages_lost", help, lost)?;
        let Reloads { applied, refused, is_refused, keys_waiting } = &self.blade.reloads;
        let results = [("applied", applied.load(Relaxed)), ("refused", refused.load(Relaxed))];
        out.counters("reloads", "Times that the configuration was read again (SIGHUP).", "result", &results)?;
        let help = "1: the newest reload was refused, and the configuration before it is in force.";
        out.gauge("reload_refused", help, &[], is_refused.load(Relaxed).into())?;
        let help = "Keys of the configuration that have changed since the start and need a restart.";
        out.gauge("reload_keys_waiting", help, &[], keys_waiting.load(Relaxed))
    }

    fn threads(&self, out: &mut Out<'_>) -> fmt::Result {
        let threads: Vec<_> = self.blade.vitals.iter().map(Vital::seen).collect();
        let mut ages = out.0.encode_descriptor(
            "heartbeat_age_seconds",
            "Time since a thread last moved.",
            None,
            MetricType::Gauge,
        )?;
        for thread in &threads {
            let age_s = thread.heartbeat_age_ms as f64 / 1e3;
            ConstGauge::new(age_s).encode(ages.encode_family(&[("thread", thread.name.as_str())])?)?;
        }
        let stalls: Vec<_> = threads.into_iter().map(|thread| (thread.name, thread.stalls)).collect();
        out.counters("thread_stalls", "Times that a thread has stood still for stalled_ms.", "thread", &stalls)
    }

    fn feed(&self, out: &mut Out<'_>) -> fmt::Result {
        let report = self.blade.report();
        // The feed, and the counters that the market and the ring keep beside it.
        let states = FeedState::ALL.map(|state| (state.name(), u64::from(state == report.state)));
        out.gauges("feed_state", "1 for the state that the feed is in, 0 for all others.", "state", &states)?;
        let feed = &report.feed;
        for (name, help, value) in [
            ("feed_packets", "Packets taken from the feed.", feed.packets),
            ("feed_bytes", "Bytes taken from the feed.", feed.bytes),
            ("feed_messages", "Messages passed on by the feed.", feed.messages),
            ("feed_duplicates", "Messages dropped because they had come before.", feed.duplicates),
            ("feed_unmatched", "Messages that are mapped to no subject.", feed.unmatched),
            (
                "feed_stale",
                "Messages dropped because they were of another session, or changes of a book without a snapshot.",
                feed.stale,
            ),
            (
                "feed_suspected",
                "Packets that were not believed when they came: they could be a stranger's.",
                feed.suspected,
            ),
            (
                "feed_dropped",
                "Messages dropped because they had to wait for others, or for a book's snapshot, and found no place.",
                feed.dropped,
            ),
            ("feed_recovered", "Missing messages that a re-request server sent.", feed.recovered),
            ("feed_requests", "Requests for missing messages.", feed.requests),
            ("feed_gaps", "Runs of missing messages.", feed.gaps),
            ("feed_gap_messages", "Messages missing in those runs.", feed.gap_messages),
            ("feed_malformed", "Packets and messages of the feed that could not be read.", feed.malformed),
            ("feed_sessions", "Sessions begun.", feed.sessions),
            ("feed_clock_skips", "Times that the simulator fell behind the clock and skipped.", feed.clock_skips),
            ("feed_subject_gaps", "Runs of missing values of single subjects.", report.subject_gaps),
            ("market_malformed", "Messages that were not valid ITCH.", report.market.malformed),
            (
                "market_shares_excess",
                "Executions and cancellations of more shares than the order had left.",
                report.market.shares_excess,
            ),
            (
                "market_unchanged_suppressed",
                "Images not published because nothing changed.",
                report.market.unchanged_suppressed,
            ),
            ("market_quotes_crossed", "Best quotes with the bid at or above the ask.", report.market.quotes_crossed),
            ("ring_frames_published", "Frames published.", report.ring.published),
            ("ring_frames_refreshed", "Newest frames copied forward before they left the ring.", report.ring.refreshed),
            ("ring_publish_refused", "Frames and subjects that the ring refused.", report.ring.refused),
            ("notices_lost", "Notices of the feed that were not passed on to subscribers.", report.notices_lost),
        ] {
            out.counter(name, help, value)?;
        }
        self.lines(out, &report)?;
        // The market, by kinds of messages and channels.
        let kinds: Vec<(String, u64)> =
            ITCH_TYPES.iter().map(|kind| (char::from(*kind).to_string(), report.market.messages(*kind))).collect();
        out.counters("market_messages", "Messages applied, by type.", "type", &kinds)?;
        let skipped = Skipped::ALL.map(|reason| (reason.name(), report.market.skipped(reason)));
        out.counters("market_skipped", "Valid messages that were left out.", "reason", &skipped)?;
        let updates = Channel::ALL.map(|channel| (channel.name(), report.market.updates(channel)));
        out.counters("market_updates", "Images published.", "channel", &updates)?;
        let events = SYSTEM_EVENTS.map(|event| (char::from(event).to_string(), report.market.system_events(event)));
        out.counters("market_system_events", "System event messages.", "event", &events)?;
        // Sizes now, of the market and of the ring.
        out.gauge("market_orders", "Live orders.", &[], report.orders)?;
        out.gauge("market_instruments", "Instruments with a symbol.", &[], report.instruments)?;
        out.gauge("ring_subjects", "Subjects.", &[], report.subjects)?;
        let lane_bytes = LANES.map(|lane| (lane.name(), report.ring.lane_bytes[lane as usize]));
        out.counters("ring_bytes", "Bytes written to the ring.", "lane", &lane_bytes)?;
        let live = LANES.map(|lane| (lane.name(), report.ring.live_bytes[lane as usize]));
        out.gauges("ring_live_bytes", "Bytes of all subjects' newest frames.", "lane", &live)?;
        let help = "Time from the poll that took a message in to the publication of its frame. The sum is made of the upper edges \
                    of buckets 19 % wide.";
        out.histograms("feed_to_publish_seconds", help, &[(None, self.blade.sequencer.latency.snapshot())])
    }

    fn lines(&self, out: &mut Out<'_>, report: &SequencerReport) -> fmt::Result {
        let troubles: Vec<_> = troubles::counts(&report.troubles).into_iter().collect();
        out.counters("feed_troubles", "What went wrong upstream, by kind.", "kind", &troubles)?;
        let of = |value: fn(&Line) -> u64| -> Vec<(&str, u64)> {
            report.lines.iter().map(|line| (line.name.as_str(), value(line))).collect()
        };
        for (name, help, values) in [
            ("feed_line_packets", "Packets taken from a line.", of(|line| line.packets)),
            ("feed_line_bytes", "Bytes of the packets taken from a line.", of(|line| line.bytes)),
            ("feed_line_wins", "Packets that brought a message before any other line did.", of(|line| line.wins)),
            ("feed_line_gaps", "Runs of messages that a line lacked.", of(|line| line.gaps)),
            ("feed_line_kernel_drops", "Packets dropped by the kernel at a full buffer.", of(|line| line.kernel_drops)),
        ] {
            out.counters(name, help, "line", &values)?;
        }
        for (name, help, of) in [
            (
                "feed_line_lead_mean_seconds",
                "How long a line is ahead of the next line, on average.",
                lead_seconds as fn(&Line) -> _,
            ),
            ("feed_line_silent_seconds", "Time since the last packet of a line.", silent_seconds),
        ] {
            let values: Vec<_> = report.lines.iter().filter_map(|line| Some((line.name.as_str(), of(line)?))).collect();
            out.gauges_f64(name, help, "line", &values)?;
        }
        Ok(())
    }

    fn workers(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut figures: Vec<Figure> = Vec::new();
        for (index, worker) in self.blade.workers.iter().enumerate() {
            let mut position = 0;
            worker.stats.for_each(&mut |name, help, kind, value| {
                if index == 0 {
                    figures.push(Figure { name, help, kind, values: Vec::new() });
                }
                if let Some(figure) = figures.get_mut(position) {
                    figure.values.push((index.to_string(), value));
                }
                position += 1;
            });
        }
        for Figure { name, help, kind, values } in figures {
            let name = format!("worker_{name}");
            match kind {
                Kind::Counter => out.counters(&name, help, "worker", &values)?,
                Kind::Gauge => out.gauges(&name, help, "worker", &values)?,
            }
        }
        self.closes(out)?;
        let help = "Time from publication to the return of the send, worst frame of each pass. The sum is made of the upper edges \
                    of buckets 19 % wide.";
        let latencies: Vec<_> = self
            .blade
            .workers
            .iter()
            .enumerate()
            .map(|(index, worker)| (Some(index), worker.stats.latency.snapshot()))
            .collect();
        out.histograms("publish_to_send_seconds", help, &latencies)
    }

    fn closes(&self, out: &mut Out<'_>) -> fmt::Result {
        let help = "Sessions ended, by who sent the first Close frame and its code; 1005: the frame had no code, 1006: there \
                    was no frame.";
        let mut family = out.0.encode_descriptor("worker_closes", help, None, MetricType::Counter)?;
        for (index, worker) in self.blade.workers.iter().enumerate() {
            let index = index.to_string();
            let mut result = Ok(());
            worker.stats.closes.for_each(&mut |by, code, count| {
                let labels = [("worker", index.as_str()), ("by", by), ("code", code)];
                result = result.and_then(|()| ConstCounter::new(count).encode(family.encode_family(&labels)?));
            });
            result?;
        }
        Ok(())
    }

    fn kernel(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut kernel = KernelView::clone(&self.blade.kernel.load());
        // Without the programs nothing is counted, but the series must exist for alerts.
        if kernel.verdicts.is_empty() {
            kernel.verdicts = Verdict::ALL.map(|verdict| (verdict.name(), 0)).to_vec();
        }
        kernel.steered.resize(self.blade.workers.len(), 0);
        out.gauge(
            "ebpf_active",
            "1: at least one kernel program is active; 0: the blade serves without eBPF.",
            &[],
            u64::from(kernel.is_active()),
        )?;
        out.gauge(
            "ebpf_steering",
            "1: connections are steered by weight and load; 0: the kernel's hash spreads them.",
            &[],
            u64::from(kernel.steering),
        )?;
        let ingress: Vec<_> =
            kernel.ingress.iter().map(|(interface, mode)| (format!("{interface}/{mode}"), 1)).collect();
        out.gauges("ebpf_ingress", "Interfaces whose incoming packets are counted.", "interface", &ingress)?;
        let fallback =
            kernel.verdicts.iter().find(|(name, _)| *name == "steer_fallback").map_or(0, |(_, count)| *count);
        out.counter("steer_fallback", "Connections left to the kernel's hash because the choice failed.", fallback)?;
        out.counters(
            "ebpf_verdicts",
            "Packets and connections, by what the kernel programs decided.",
            "verdict",
            &kernel.verdicts,
        )?;
        let steered: Vec<_> =
            kernel.steered.iter().enumerate().map(|(worker, count)| (worker.to_string(), *count)).collect();
        out.counters("steer_connections", "Connections given to each worker by the kernel program.", "worker", &steered)
    }
}

impl Everything {
    fn admin(&self, out: &mut Out<'_>) -> fmt::Result {
        let AdminStats { connections, accepted, shed, timeouts, host_refused, accept_failures } = &*self.admin;
        out.gauge(
            "admin_connections",
            "Connections to the admin port that are open now.",
            &[],
            connections.load(Relaxed),
        )?;
        for (name, help, count) in [
            ("admin_accepted", "Connections that the admin port has accepted.", accepted),
            (
                "admin_shed",
                "Connections to the admin port closed to make room for others, the longest silent first.",
                shed,
            ),
            (
                "admin_timeouts",
                "Connections to the admin port closed because the client was too slow to ask or to read.",
                timeouts,
            ),
            (
                "admin_host_refused",
                "Requests to the admin port answered 421: their Host is not among allowed_hosts.",
                host_refused,
            ),
            (
                "admin_accept_failures",
                "Times that the admin port could not accept a connection, for want of descriptors.",
                accept_failures,
            ),
        ] {
            out.counter(name, help, count.load(Relaxed))?;
        }
        Ok(())
    }
}

/// A metric with a value for each worker.
struct Figure {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// Values by worker.
    values: Vec<(String, u64)>,
}

fn lead_seconds(line: &Line) -> Option<f64> {
    Some(line.lead_ns_mean as f64 / 1e9)
}

/// None: the line has had no packet yet.
fn silent_seconds(line: &Line) -> Option<f64> {
    Some(line.silent_ns? as f64 / 1e9)
}

/// The message types of ITCH 5.0.
const ITCH_TYPES: &[u8] = b"SRHYLVWKJhAFECXDUPQBINO";

/// The lanes that the sequencer writes.
const LANES: [Lane; 2] = [Lane::Json, Lane::Binary];
