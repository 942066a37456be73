//! The sequencer's path, up to a stage: what `fanblade`'s sequencer does with a message, by the same library code in
//! the same order. Its other work (reports, notices, complaints) does not happen per message.

use std::hint::black_box;
use std::ops::Range;

use fanblade_feed::Event;
use fanblade_feed::moldudp64::{InOrder, Start};
use fanblade_market::{Channel, Encoder, Market};
use fanblade_ring::{RingConfig, Sleeper, UnixNs, Writer};
use fanblade_worker::LatencyHistogram;

use super::day::Day;

/// How far messages are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Stage {
    /// MoldUDP64
    Feed,
    /// And ITCH, orders, books
    Market,
    /// And subjects, JSON, binary
    Encode,
    /// And the ring
    Publish,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Feed => "feed",
            Stage::Market => "market",
            Stage::Encode => "encode",
            Stage::Publish => "publish",
        }
    }
}

/// One thread's path from packet to ring.
pub(crate) struct Path {
    in_order: InOrder,
    desk: Desk,
}

/// The stages behind the feed.
pub(crate) struct Desk {
    stage: Stage,
    market: Market,
    encoder: Encoder,
    writer: Writer,
    /// The sleeper of a worker that never sleeps: publishing looks at it.
    _sleeper: Sleeper,
    latency: LatencyHistogram,
    faults: u64,
}

impl Path {
    pub(crate) fn new(stage: Stage) -> anyhow::Result<Self> {
        let mut writer = Writer::create(&RingConfig::default(), "perf-1")?;
        let (waker, sleeper) = fanblade_ring::pair()?;
        writer.add_waker(waker);
        let desk = Desk {
            stage,
            market: Market::new("NASDAQ", MIDNIGHT_UNIX_NS),
            encoder: Encoder::new(),
            writer,
            _sleeper: sleeper,
            latency: LatencyHistogram::default(),
            faults: 0,
        };
        Ok(Self { in_order: InOrder::new(Start::Beginning), desk })
    }

    /// Plays packets as if each had been received alone by a poll; `take` gets each message.
    pub(crate) fn play(
        &mut self,
        day: &Day,
        packets: Range<usize>,
        mut take: impl FnMut(&mut Desk, u64, &[u8], UnixNs),
    ) {
        let Self { in_order, desk } = self;
        for packet in day.iter(packets) {
            in_order.accept(packet, UnixNs::now(), |event| match event {
                Event::Message { seq, bytes, received_ns, .. } => take(desk, seq, bytes, received_ns),
                Event::SessionStart { .. } | Event::EndOfSession { .. } => {}
                _ => desk.faults += 1,
            });
            desk.writer.wake();
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let (feed, market, ring) = (self.in_order.counters(), self.desk.market.counters(), self.desk.writer.stats());
        Figures {
            packets: feed.packets,
            messages: feed.messages,
            updates: Channel::ALL.map(|channel| market.updates(channel)),
            frames: ring.published,
            refreshed: ring.refreshed,
            ring_bytes: ring.lane_bytes.iter().sum(),
            faults: self.desk.faults + feed.gap_messages + feed.malformed + ring.refused,
        }
    }
}

impl Desk {
    /// Takes a message through the stages, up to the last one wanted.
    pub(crate) fn message(&mut self, seq: u64, bytes: &[u8], received_ns: UnixNs) {
        let Self { stage, market, encoder, writer, latency, faults, .. } = self;
        let mut frames = 0;
        let applied = match stage {
            Stage::Feed => {
                black_box(bytes);
                return;
            }
            Stage::Market => market.apply(seq, bytes, &mut |update| {
                black_box(update);
            }),
            Stage::Encode => market.apply(seq, bytes, &mut |update| match encoder.encode(update, writer) {
                Ok(frame) => {
                    black_box(frame);
                }
                Err(_) => *faults += 1,
            }),
            Stage::Publish => {
                market.apply(seq, bytes, &mut |update| match encoder.append(update, UnixNs::now(), writer) {
                    Ok(_) => frames += 1,
                    Err(_) => *faults += 1,
                })
            }
        };
        *faults += u64::from(applied.is_err());
        if frames > 0 {
            latency.record(UnixNs::now().since(received_ns));
        }
    }
}

/// Counts of what has been played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) packets: u64,
    pub(crate) messages: u64,
    /// Updates by channel.
    pub(crate) updates: [u64; Channel::ALL.len()],
    pub(crate) frames: u64,
    /// Copies of last values, which the ring makes by itself.
    pub(crate) refreshed: u64,
    pub(crate) ring_bytes: u64,
    /// Always zero: we made the day ourselves.
    pub(crate) faults: u64,
}

impl Figures {
    pub(crate) fn since(&self, before: &Figures) -> Figures {
        Figures {
            packets: self.packets - before.packets,
            messages: self.messages - before.messages,
            updates: std::array::from_fn(|channel| self.updates[channel] - before.updates[channel]),
            frames: self.frames - before.frames,
            refreshed: self.refreshed - before.refreshed,
            ring_bytes: self.ring_bytes - before.ring_bytes,
            faults: self.faults - before.faults,
        }
    }
}

/// 2019-12-30 00:00 in New York.
const MIDNIGHT_UNIX_NS: UnixNs = UnixNs(1_577_682_000_000_000_000);
