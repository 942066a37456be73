//! When a packet is due.

use std::str::FromStr;
use std::time::{Duration, Instant};

use fanblade_feed::pace;
use fanblade_wire::float::whole;

use super::limits::{PACKET_SPAN_NS, RATE_LAG_MAX};

/// How fast messages are published.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// By their own timestamps, this many times as fast.
    Factor(f64),
    /// In full packets, at most this many messages a second.
    Rate(Rate),
}

/// Messages a second; none: as fast as the machine can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub(super) Option<u32>);

/// Turns packets into times.
#[derive(Debug)]
pub(super) struct Pacer {
    pace: Pace,
    anchor: Option<Anchor>,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    exchange_ns: u64,
    at: Instant,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, anchor: None }
    }

    /// How long, by the exchange's clock, messages are gathered into one packet. This depends on the pace alone, so
    /// that the same messages make the same packets in each replay.
    pub(super) fn span_ns(&self) -> u64 {
        match self.pace {
            Pace::Factor(factor) => whole(PACKET_SPAN_NS as f64 * factor),
            Pace::Rate(_) => u64::MAX,
        }
    }

    /// When a packet of `count` messages is due, the last of which happened at `exchange_ns`.
    pub(super) fn due(&mut self, exchange_ns: u64, count: u16, now: Instant) -> Instant {
        let anchor = self.anchor.get_or_insert(Anchor { exchange_ns, at: now });
        match self.pace {
            Pace::Factor(factor) => {
                let elapsed_ns = exchange_ns.saturating_sub(anchor.exchange_ns) as f64 / factor;
                // A century is as good as never.
                let elapsed = Duration::from_nanos(whole(elapsed_ns)).min(Duration::from_secs(100 * 365 * 86_400));
                anchor.at + elapsed
            }
            Pace::Rate(Rate(None)) => now,
            Pace::Rate(Rate(Some(rate))) => {
                // A packet is due when the packets before it have taken their time.
                let due = anchor.at.max(now.checked_sub(RATE_LAG_MAX).unwrap_or(now));
                anchor.at = due + Duration::from_secs(1) * count.into() / rate.max(1);
                due
            }
        }
    }
}

impl Pace {
    /// `rate` is for messages that have no times to keep.
    pub(super) fn new(speed: pace::Pace, rate: Rate) -> Self {
        match speed {
            pace::Pace::Factor(factor) => Pace::Factor(factor),
            pace::Pace::Unpaced => Pace::Rate(rate),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(rate) if rate > 0 => Ok(Self(Some(rate))),
            _ if text == "none" => Ok(Self(None)),
            _ => Err(format!("`{text}` is not a rate; write a number of messages a second, or `none`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_timestamps() {
        let mut pacer = Pacer::new(Pace::Factor(10.0));
        let start = Instant::now();
        let late = start + Duration::from_secs(9);
        assert_eq!(pacer.due(5_000, 3, start), start);
        assert_eq!(pacer.due(6_000, 1, late), start + Duration::from_nanos(100), "the caller being late moves nothing");
        assert_eq!(pacer.due(4_000, 1, late), start, "clocks that run backwards do not hold the feed up");
        assert_eq!(pacer.span_ns(), 500_000);
    }

    #[test]
    fn by_a_rate() {
        let mut pacer = Pacer::new(Pace::Rate("1000".parse().unwrap()));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pacer.due(0, 30, start), start);
        assert_eq!(pacer.due(0, 10, start), at(30));
        assert_eq!(pacer.due(0, 10, at(41)), at(40), "a little lag is made up for");
        assert_eq!(pacer.due(0, 10, at(500)), at(490), "a stopped process is not");
        assert_eq!(pacer.due(0, 10, at(500)), at(500));
        assert_eq!(pacer.due(0, 10, at(500)), at(510));
        let mut unlimited = Pacer::new(Pace::Rate("none".parse().unwrap()));
        assert_eq!([unlimited.due(0, 9, start), unlimited.due(0, 9, at(1))], [start, at(1)]);
        for wrong in ["", "0", "-1", "fast"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
