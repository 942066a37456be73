//! Writes one metric of each shape.

use std::fmt;

use fanblade_worker::LatencySnapshot;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The encoder, with one method for each shape of metric.
pub(super) struct Out<'a>(pub(super) DescriptorEncoder<'a>);

impl Out<'_> {
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(impl AsRef<str>, u64)],
    ) -> fmt::Result {
        self.family(MetricType::Counter, name, help, label, values, ConstCounter::new)
    }

    pub(super) fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    pub(super) fn gauges_f64(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&str, f64)],
    ) -> fmt::Result {
        self.family(MetricType::Gauge, name, help, label, values, ConstGauge::new)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, labels: &[(&'static str, &str)], value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        if labels.is_empty() {
            return ConstGauge::new(signed(value)).encode(family);
        }
        ConstGauge::new(signed(value)).encode(family.encode_family(&labels)?)
    }

    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(impl AsRef<str>, u64)],
    ) -> fmt::Result {
        self.family(MetricType::Gauge, name, help, label, values, |value| ConstGauge::new(signed(value)))
    }

    /// Writes one metric for each value of `label`.
    fn family<V: Copy, M: EncodeMetric>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(impl AsRef<str>, V)],
        metric: impl Fn(V) -> M,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (text, value) in values {
            metric(*value).encode(family.encode_family(&[(label, text.as_ref())])?)?;
        }
        Ok(())
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        values: &[(Option<usize>, LatencySnapshot)],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (worker, snapshot) in values {
            match worker {
                Some(worker) => histogram(family.encode_family(&[("worker", worker.to_string())])?, snapshot)?,
                None => return histogram(family, snapshot),
            }
        }
        Ok(())
    }
}

/// Encodes a histogram: Prometheus needs the same edges at every scrape, the encoder each bucket's own count.
fn histogram(mut encoder: MetricEncoder<'_>, snapshot: &LatencySnapshot) -> fmt::Result {
    let mut sum_ns = 0.0;
    let mut buckets = EDGES_NS.map(|edge| (edge as f64 / 1e9, 0)).to_vec();
    buckets.push((f64::INFINITY, 0));
    let mut before = 0;
    for (edge_ns, cumulative) in snapshot.cumulative() {
        let count = cumulative - before;
        before = cumulative;
        sum_ns += edge_ns as f64 * count as f64;
        let at = EDGES_NS.iter().position(|edge| edge_ns <= *edge).unwrap_or(EDGES_NS.len());
        buckets[at].1 += count;
    }
    encoder.encode_histogram::<NoLabelSet>(sum_ns * 1e-9, snapshot.count(), &buckets, None)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One microsecond to ten seconds in steps of 1, 2, 5.
const EDGES_NS: [u64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];
