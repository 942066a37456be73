//! A line: one of the two ways that each packet takes.

use std::collections::VecDeque;
use std::net::UdpSocket;

use serde::Serialize;

use super::error::TargetError;
use super::faults::{Fate, Faults};
use super::limits::SEND_ERRORS_SHOWN_MAX;
use super::target::Target;
use super::tell::Tell;

/// A multicast group, and what goes wrong on the way to it.
#[derive(Debug)]
pub(super) struct Line {
    target: Target,
    socket: UdpSocket,
    faults: Faults,
    held: VecDeque<Held>,
    counters: LineCounters,
    tell: Tell,
}

/// A packet that comes late.
#[derive(Debug)]
struct Held {
    /// The number of other packets that go before it.
    distance: u32,
    packet: Vec<u8>,
}

/// What went by a line. Heartbeats and ends of session meet no faults, and only count as such.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct LineCounters {
    /// Packets with messages that were sent, duplicates included.
    pub(super) packets: u64,
    pub(super) dropped: u64,
    pub(super) reordered: u64,
    pub(super) duplicated: u64,
    pub(super) heartbeats: u64,
    /// Packets that the kernel did not take.
    pub(super) send_errors: u64,
}

impl Line {
    pub(super) fn new(target: Target, ttl: u32, faults: Faults, tell: Tell) -> Result<Self, TargetError> {
        let socket = target.connect(ttl)?;
        Ok(Self { target, socket, faults, held: VecDeque::new(), counters: LineCounters::default(), tell })
    }

    pub(super) fn counters(&self) -> LineCounters {
        self.counters
    }

    /// Sends a packet with messages, unless its fate is another.
    pub(super) fn send(&mut self, packet: &[u8]) {
        let Fate { copies, late } = self.faults.fate();
        self.counters.dropped += u64::from(copies == 0 && late.is_none());
        self.counters.duplicated += u64::from(copies + u32::from(late.is_some()) == 2);
        for _ in 0..copies {
            self.transmit(packet);
        }
        self.overtake();
        if let Some(distance) = late {
            self.counters.reordered += 1;
            self.held.push_back(Held { distance, packet: packet.to_vec() });
        }
    }

    /// Sends a packet without messages, after all packets that were held back.
    pub(super) fn say(&mut self, packet: &[u8]) {
        while let Some(held) = self.held.pop_front() {
            self.transmit(&held.packet);
        }
        self.counters.heartbeats += 1;
        self.put(packet);
    }

    /// Counts a packet that has gone before those that are held.
    fn overtake(&mut self) {
        for _ in 0..self.held.len() {
            match self.held.pop_front() {
                Some(held) if held.distance <= 1 => self.transmit(&held.packet),
                Some(held) => self.held.push_back(Held { distance: held.distance - 1, ..held }),
                None => {}
            }
        }
    }

    fn transmit(&mut self, packet: &[u8]) {
        self.counters.packets += 1;
        self.put(packet);
    }

    /// Sends a packet. An interface that is down for a while is no reason to end.
    fn put(&mut self, packet: &[u8]) {
        if let Err(error) = self.socket.send(packet) {
            self.counters.send_errors += 1;
            if self.counters.send_errors <= SEND_ERRORS_SHOWN_MAX {
                (self.tell)(format_args!("cannot send to {}: {error}", self.target));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Odds;

    /// A line to a socket of this test: what arrives for packets that say their numbers, and what was counted.
    fn arrivals(odds: Odds, seed: u64, count: u32) -> (Vec<u32>, LineCounters) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(receiver.local_addr().unwrap()).unwrap();
        let faults = Faults::new(odds, seed, 0);
        let target = "239.192.1.1:1".parse().unwrap();
        let (held, counters) = (VecDeque::new(), LineCounters::default());
        let mut line = Line { target, socket, faults, held, counters, tell: |_| {} };
        let mut arrived = Vec::new();
        let mut buffer = [0; 64];
        for n in 0..=count {
            if n < count {
                line.send(&n.to_be_bytes());
            } else {
                line.say(b"end!");
            }
            while let Ok(len) = receiver.recv(&mut buffer) {
                arrived.push(u32::from_be_bytes(buffer[..len].try_into().unwrap()));
            }
        }
        assert_eq!(arrived.pop(), Some(u32::from_be_bytes(*b"end!")), "an end overtakes nothing");
        (arrived, line.counters())
    }

    fn odds(drop: &str, reorder: &str, duplicate: &str) -> Odds {
        let [drop, reorder, duplicate] = [drop, reorder, duplicate].map(|text| text.parse().unwrap());
        Odds { drop, reorder, duplicate }
    }

    #[test]
    fn without_odds_packets_go_as_they_come() {
        let (arrived, counters) = arrivals(Odds::default(), 1, 1_000);
        assert!(arrived.iter().copied().eq(0..1_000));
        assert_eq!((counters.packets, counters.dropped, counters.heartbeats, counters.send_errors), (1_000, 0, 1, 0));
    }

    #[test]
    fn what_is_counted_is_what_arrives() {
        let (arrived, counters) = arrivals(odds("10", "10", "10"), 3, 2_000);
        assert_eq!(arrivals(odds("10", "10", "10"), 3, 2_000).0, arrived, "a seed decides");
        assert_eq!(arrived.len() as u64, counters.packets);
        let mut unique = arrived.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len() as u64, 2_000 - counters.dropped);
        assert_eq!((arrived.len() - unique.len()) as u64, counters.duplicated);
        assert!(counters.dropped > 100 && counters.duplicated > 100 && counters.reordered > 100);
    }

    #[test]
    fn a_reordered_packet_comes_after_a_few_others() {
        let (arrived, counters) = arrivals(odds("0", "5", "0"), 2, 2_000);
        let mut late = 0;
        for (place, &n) in arrived.iter().enumerate() {
            let overtaken = arrived[..place].iter().filter(|&&before| before > n).count();
            assert!(overtaken <= 3 + 3, "{n} is overtaken by {overtaken}");
            late += u64::from(overtaken > 0);
        }
        // Not those that are held back together with the one after them, or at the very end.
        assert!(late > counters.reordered * 3 / 4 && late <= counters.reordered, "{late} of {}", counters.reordered);
    }
}
