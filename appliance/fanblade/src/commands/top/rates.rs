//! The rates between two answers of a blade.

use fanblade_admin::status::{Line, Quantiles, Status, Worker};

/// Rates per second; none where there is only one answer so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) messages: Option<f64>,
    pub(super) packets: Option<f64>,
    pub(super) published: Option<f64>,
    pub(super) frames: Option<f64>,
    pub(super) bits: Option<f64>,
    /// In the order in which the blade lists them.
    pub(super) lines: Vec<LineRow>,
    pub(super) workers: Vec<WorkerRow>,
}

/// A line of the feed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LineRow {
    pub(super) name: String,
    pub(super) packets: Option<f64>,
    /// The share of this line in all packets that brought something new, since the start.
    pub(super) wins_percent: Option<f64>,
    pub(super) gaps: u64,
    pub(super) kernel_drops: u64,
    pub(super) lead_ns_mean: u64,
    pub(super) silent_ns: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct WorkerRow {
    pub(super) index: usize,
    pub(super) cpu: Option<usize>,
    pub(super) sessions: u64,
    pub(super) behind: u64,
    pub(super) frames: Option<f64>,
    pub(super) bits: Option<f64>,
    pub(super) sends: Option<f64>,
    /// From publish to send; none where nothing was sent.
    pub(super) latency_ns: Option<(u64, u64)>,
}

impl Rates {
    /// `before` counts only if it comes from the same blade.
    pub(super) fn of(now: &Status, before: Option<&Status>) -> Rates {
        let before = before.filter(|before| before.pid == now.pid && before.uptime_ms < now.uptime_ms);
        // The blade's own clock is used, so that the time which the answers took does not matter.
        let seconds = before.map(|before| (now.uptime_ms - before.uptime_ms) as f64 / 1000.0);
        let per_second = |now: u64, then: Option<u64>| Some(now.saturating_sub(then?) as f64 / seconds?);
        let rate = |count: fn(&Status) -> u64| per_second(count(now), before.map(count));
        let wins: u64 = now.feed.lines.iter().map(|line| line.wins).sum();
        let lines = now.feed.lines.iter().map(|line| {
            let then = before.and_then(|before| before.feed.lines.iter().find(|then| then.name == line.name));
            let Line { ref name, packets, wins: won, gaps, kernel_drops, lead_ns_mean, silent_ns, .. } = *line;
            LineRow {
                name: name.clone(),
                packets: per_second(packets, then.map(|then| then.packets)),
                wins_percent: (wins > 0).then(|| won as f64 * 100.0 / wins as f64),
                gaps,
                kernel_drops,
                lead_ns_mean,
                silent_ns,
            }
        });
        let workers = now.workers.iter().map(|worker| {
            let then = before.and_then(|before| before.workers.iter().find(|then| then.index == worker.index));
            let rate = |count: fn(&Worker) -> u64| per_second(count(worker), then.map(count));
            WorkerRow {
                index: worker.index,
                cpu: worker.cpu,
                sessions: worker.sessions,
                behind: worker.sessions_behind,
                frames: rate(|worker| worker.frames_delivered),
                bits: rate(|worker| worker.bytes_delivered).map(|bytes| bytes * 8.0),
                sends: rate(|worker| worker.sends),
                latency_ns: quantiles(&worker.latency_ns),
            }
        });
        Rates {
            messages: rate(|status| status.feed.messages),
            packets: rate(|status| status.feed.packets),
            published: rate(|status| status.ring.published),
            frames: rate(|status| status.totals.frames_delivered),
            bits: rate(|status| status.totals.bytes_delivered).map(|bytes| bytes * 8.0),
            lines: lines.collect(),
            workers: workers.collect(),
        }
    }
}

/// Median and 99th percentile, if anything was measured.
pub(super) fn quantiles(quantiles: &Quantiles) -> Option<(u64, u64)> {
    (quantiles.count > 0).then_some((quantiles.p50, quantiles.p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_go_by_the_blades_clock_and_begin_anew_with_it() {
        let mut before = Status { pid: 7, uptime_ms: 10_000, ..Status::default() };
        before.feed.messages = 1000;
        before.feed.lines = vec![Line { name: "A".to_owned(), packets: 50, ..Line::default() }];
        before.workers = vec![Worker { index: 0, bytes_delivered: 100, ..Worker::default() }];
        let mut now = before.clone();
        now.uptime_ms += 500;
        now.feed.messages += 250;
        // One line is new, and one has moved in the list.
        now.feed.lines.insert(0, Line { name: "B".to_owned(), packets: 9, wins: 1, ..Line::default() });
        now.feed.lines[1].packets += 10;
        now.feed.lines[1].wins = 3;
        now.workers[0].bytes_delivered += 1000;

        let rates = Rates::of(&now, Some(&before));
        assert_eq!(rates.messages, Some(500.0));
        let lines: Vec<_> = rates.lines.iter().map(|line| (line.packets, line.wins_percent)).collect();
        assert_eq!(lines, [(None, Some(25.0)), (Some(20.0), Some(75.0))]);
        assert_eq!(rates.workers[0].bits, Some(16_000.0));
        assert_eq!(rates.workers[0].latency_ns, None);

        let started_again = Status { pid: 8, ..before.clone() };
        for before in [None, Some(&now), Some(&started_again)] {
            assert_eq!(Rates::of(&now, before).messages, None);
        }
    }
}
