//! A day's packets, in memory.

use std::ops::Range;

use fanblade_feed::moldudp64::Packet;
use fanblade_feed::simulator::{Simulator, SimulatorConfig};

/// All packets of a day, one after the other.
pub(crate) struct Day {
    bytes: Vec<u8>,
    packets: Vec<Place>,
}

struct Place {
    end: usize,
    /// Number of the packet's last message; if it has none, that of the packet before.
    last_seq: u64,
}

impl Day {
    pub(crate) fn simulated(config: &SimulatorConfig) -> anyhow::Result<Self> {
        let mut simulator = Simulator::new(config)?;
        let mut day = Self { bytes: Vec::new(), packets: Vec::new() };
        while simulator.advance().is_some() {
            let packet = simulator.packet();
            let messages = Packet::parse(packet)?.messages().count() as u64;
            day.bytes.extend_from_slice(packet);
            day.packets.push(Place { end: day.bytes.len(), last_seq: day.messages() + messages });
        }
        Ok(day)
    }

    /// How many messages there are.
    pub(crate) fn messages(&self) -> u64 {
        self.packets.last().map_or(0, |packet| packet.last_seq)
    }

    /// How many packets there are.
    pub(crate) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// How many packets hold the first `messages` messages.
    pub(crate) fn packets_of(&self, messages: u64) -> usize {
        self.packets.partition_point(|packet| packet.last_seq < messages)
    }

    /// Some of its packets.
    pub(crate) fn iter(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        let start = range.start.checked_sub(1).map_or(0, |before| self.packets[before].end);
        self.packets[range].iter().scan(start, |start, packet| {
            let bytes = &self.bytes[*start..packet.end];
            *start = packet.end;
            Some(bytes)
        })
    }
}
