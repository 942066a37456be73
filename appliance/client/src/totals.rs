//! What all connections together have seen.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Sums over connections.
#[derive(Debug, Default, Serialize)]
pub struct Totals {
    /// Connections that were established.
    pub connections: u64,
    /// Connections whose subscription was accepted.
    pub subscribed: u64,
    /// Distinct subjects on the connection that saw most.
    pub subjects: u64,
    /// Data frames.
    pub frames: u64,
    /// The fewest data frames of any connection.
    pub frames_min: u64,
    /// The most data frames of any connection.
    pub frames_max: u64,
    /// Bytes of the data frames' payloads.
    pub bytes: u64,
    /// Frames whose direct predecessor did not come (mode conflate had replaced it).
    pub skipped: u64,
    /// Broken promises.
    pub violations: u64,
    /// The first few of them as text.
    pub violations_first: Vec<String>,
    /// Notices by kind.
    pub notices: BTreeMap<String, u64>,
    /// Sum of `dropped` in lagging notices.
    pub dropped: u64,
    /// Close codes received.
    pub closes: BTreeMap<u16, u64>,
    /// Seconds from the first frame to the last.
    pub seconds: f64,
    /// From exchange time to arrival here, if the two clocks agree (a live or simulated feed).
    pub age_ns: Option<Quantiles>,
}

/// Three points of a distribution.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: u64,
    /// 99 of 100 values are not above it.
    pub p99: u64,
    /// The maximum.
    pub max: u64,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        })
    }
}

impl Totals {
    /// Adds the totals of one connection.
    pub(crate) fn merge(&mut self, other: Totals) {
        self.frames_min = if self.connections == 0 { other.frames } else { self.frames_min.min(other.frames) };
        self.frames_max = self.frames_max.max(other.frames);
        self.connections += other.connections;
        self.subscribed += other.subscribed;
        self.subjects = self.subjects.max(other.subjects);
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
        self.violations += other.violations;
        let room = VIOLATIONS_SHOWN_MAX.saturating_sub(self.violations_first.len());
        self.violations_first.extend(other.violations_first.into_iter().take(room));
        for (kind, count) in other.notices {
            *self.notices.entry(kind).or_default() += count;
        }
        self.dropped += other.dropped;
        for (code, count) in other.closes {
            *self.closes.entry(code).or_default() += count;
        }
    }

    /// Counts a broken promise.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations += 1;
        if self.violations_first.len() < VIOLATIONS_SHOWN_MAX {
            self.violations_first.push(what);
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = if self.seconds > 0.0 { self.frames as f64 / self.seconds } else { 0.0 };
        let megabits = if self.seconds > 0.0 { self.bytes as f64 * 8e-6 / self.seconds } else { 0.0 };
        writeln!(f, "connections  {} established, {} subscribed", self.connections, self.subscribed)?;
        writeln!(f, "subjects     {}", self.subjects)?;
        writeln!(
            f,
            "frames       {} in {:.2} s: {rate:.0} a second, {megabits:.1} Mbit/s; {} to {} a connection",
            self.frames, self.seconds, self.frames_min, self.frames_max
        )?;
        if let Some(Quantiles { p50, p99, max }) = self.age_ns {
            let ms = |ns: u64| ns as f64 / 1e6;
            writeln!(
                f,
                "age          {:.3} ms p50, {:.3} ms p99, {:.3} ms at most, from exchange time to here",
                ms(p50),
                ms(p99),
                ms(max)
            )?;
        }
        if self.skipped > 0 || self.dropped > 0 {
            writeln!(f, "conflated    {} times, {} frames according to the server", self.skipped, self.dropped)?;
        }
        for (kind, count) in &self.notices {
            writeln!(f, "notices      {kind}: {count}")?;
        }
        for (code, count) in &self.closes {
            writeln!(f, "closed       with {code}: {count}")?;
        }
        writeln!(f, "violations   {}", self.violations)?;
        for violation in &self.violations_first {
            writeln!(f, "             {violation}")?;
        }
        Ok(())
    }
}

const VIOLATIONS_SHOWN_MAX: usize = 10;
