//! From packets, as the network delivers them, to messages in order.

use super::packet::SEQUENCE_OFFSET;
use super::{Kind, Packet, PacketError, PacketFault};
use crate::limits::{SEQUENCE_JUMP_MAX, STALE_PACKETS_MAX};
use crate::{Event, FeedCounters, Session, UnixNs};

/// Puts out every message at most once and in order, and says what is missing. It holds nothing back: a message that
/// arrives after its gap was announced is a duplicate. (Waiting for the other line and asking again stand before this,
/// not in it.) It allocates nothing.
#[derive(Debug)]
pub struct InOrder {
    start: Start,
    current: Option<Numbering>,
    /// The session before the current one. Its stragglers, from a slower line, must not switch back.
    previous: Option<Numbering>,
    /// How many packets of it have come since the last of the current one.
    stale_packets: u32,
    counters: FeedCounters,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy)]
struct Numbering {
    session: Session,
    /// The number that comes next.
    expected: u64,
    ended: bool,
}

/// What is expected of the first session that it sees. Later ones are expected from their beginning, since
/// numbering restarts with 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Number 1; if the session is under way already, what came before is a gap.
    Beginning,
    /// Begins with whatever comes first.
    Live,
}

impl InOrder {
    /// Begins without having seen anything.
    pub fn new(start: Start) -> Self {
        Self { start, current: None, previous: None, stale_packets: 0, counters: FeedCounters::default() }
    }

    /// Takes one packet that was received at `received_ns`, and puts out what it brings.
    pub fn accept(&mut self, bytes: &[u8], received_ns: UnixNs, mut sink: impl FnMut(Event<'_>)) {
        self.counters.packets += 1;
        self.counters.bytes += bytes.len() as u64;
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(error) => return malformed(&mut self.counters, error, &mut sink),
        };
        if self.enter(&packet, &mut sink)
            && let Some(numbering) = &mut self.current
        {
            numbering.accept(&packet, received_ns, &mut self.counters, &mut sink);
        }
    }

    /// Would a packet begin a session?
    pub(super) fn would_begin(&self, packet: &Packet<'_>) -> bool {
        let session = packet.session();
        let is = |numbering: &Numbering| numbering.session == session;
        let is_straggler = self.previous.as_ref().is_some_and(is) && self.stale_packets < STALE_PACKETS_MAX;
        !self.current.as_ref().is_some_and(is) && !is_straggler && implausible(packet).is_none()
    }

    /// Takes note of a packet's session, without its messages. False: the packet is of none that counts.
    pub(super) fn enter(&mut self, packet: &Packet<'_>, mut sink: impl FnMut(Event<'_>)) -> bool {
        let session = packet.session();
        if self.current.is_some_and(|current| current.session == session) {
            self.stale_packets = 0;
            return true;
        }
        let previous = self.previous.filter(|previous| previous.session == session);
        // One session that nobody else speaks of was a mistake: one bad packet must not silence a feed.
        if previous.is_some() && self.stale_packets < STALE_PACKETS_MAX {
            self.stale_packets += 1;
            self.counters.stale += packet.messages().filter(Result::is_ok).count() as u64;
            return false;
        }
        if let Some(error) = implausible(packet) {
            malformed(&mut self.counters, error, &mut sink);
            return false;
        }
        let numbering = previous.unwrap_or_else(|| {
            let first = self.start == Start::Live && self.current.is_none();
            Numbering { session, expected: if first { packet.sequence() } else { 1 }, ended: false }
        });
        self.stale_packets = 0;
        self.previous = self.current.replace(numbering);
        self.counters.sessions += 1;
        sink(Event::SessionStart { session });
        true
    }

    /// The session under way begins anew, with number `expected`: upstream counts from there once more.
    pub(super) fn restart(&mut self, expected: u64, mut sink: impl FnMut(Event<'_>)) {
        if let Some(numbering) = &mut self.current {
            (numbering.expected, numbering.ended) = (expected, false);
            self.counters.sessions += 1;
            sink(Event::SessionStart { session: numbering.session });
        }
    }

    /// The session under way was a mistake: the next one is the first.
    pub(super) fn forget(&mut self) {
        (self.current, self.previous) = (None, None);
    }

    /// Has the session under way said that it is over, and nothing since?
    pub(super) fn is_ended(&self) -> bool {
        self.current.is_some_and(|numbering| numbering.ended)
    }

    /// Where a session begins that is not the first.
    pub(super) fn starts_live(&self) -> bool {
        self.start == Start::Live
    }

    /// Nobody has the messages before `sequence`: they are a gap.
    pub(super) fn give_up(&mut self, sequence: u64, mut sink: impl FnMut(Event<'_>)) {
        if let Some(numbering) = &mut self.current {
            numbering.catch_up(sequence, &mut self.counters, &mut sink);
        }
    }

    /// The messages before `sequence` are known from elsewhere, and those from it on come next.
    pub(super) fn rebase(&mut self, sequence: u64) {
        if let Some(numbering) = &mut self.current {
            numbering.expected = sequence;
        }
    }

    /// The number that comes next; none before the first packet.
    pub fn expected(&self) -> Option<u64> {
        self.current.map(|numbering| numbering.expected)
    }

    /// The session under way.
    pub fn session(&self) -> Option<Session> {
        self.current.map(|numbering| numbering.session)
    }

    /// What came, what went, what was missing.
    pub fn counters(&self) -> &FeedCounters {
        &self.counters
    }
}

impl Numbering {
    fn accept(
        &mut self,
        packet: &Packet<'_>,
        received_ns: UnixNs,
        counters: &mut FeedCounters,
        sink: &mut impl FnMut(Event<'_>),
    ) {
        if packet.sequence().saturating_sub(self.expected) > SEQUENCE_JUMP_MAX {
            let fault = PacketFault::SequenceJump { sequence: packet.sequence(), expected: self.expected };
            return malformed(counters, PacketError { offset: SEQUENCE_OFFSET, fault }, sink);
        }
        if let Kind::Heartbeat | Kind::EndOfSession = packet.kind() {
            self.catch_up(packet.sequence(), counters, sink);
        }
        for message in packet.messages() {
            match message {
                Ok((seq, _, _)) if seq < self.expected => counters.duplicates += 1,
                Ok((seq, offset, bytes)) => {
                    // Only the first message of a packet can lie beyond a gap.
                    self.catch_up(seq, counters, sink);
                    counters.messages += 1;
                    // Whoever said so, the session was not over.
                    self.ended = false;
                    // Fits: the parser has checked that the packet's last number does.
                    self.expected = seq + 1;
                    sink(Event::Message { seq, bytes, offset: offset as u64, received_ns });
                }
                Err(error) => malformed(counters, error, sink),
            }
        }
        match packet.kind() {
            Kind::Messages(_) => {}
            Kind::Heartbeat => {
                counters.heartbeats += 1;
                self.ended = false;
            }
            // It is repeated for a while, for those who missed it.
            Kind::EndOfSession if self.ended => {}
            Kind::EndOfSession => {
                self.ended = true;
                sink(Event::EndOfSession { seq: self.expected });
            }
        }
    }

    /// Tells what lies between here and `sequence` as missing.
    fn catch_up(&mut self, sequence: u64, counters: &mut FeedCounters, sink: &mut impl FnMut(Event<'_>)) {
        if sequence > self.expected {
            counters.gaps += 1;
            counters.gap_messages += sequence - self.expected;
            sink(Event::Gap { from: self.expected, to: sequence });
            self.expected = sequence;
        }
    }
}

/// Why a packet cannot be the first of a session. One that was garbled must not begin a numbering of its own.
fn implausible(packet: &Packet<'_>) -> Option<PacketError> {
    let (session, sequence) = (packet.session(), packet.sequence());
    if !session.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        return Some(PacketError { offset: 0, fault: PacketFault::SessionUnprintable });
    }
    let fault = PacketFault::SequenceJump { sequence, expected: 1 };
    (sequence > SEQUENCE_JUMP_MAX).then_some(PacketError { offset: SEQUENCE_OFFSET, fault })
}

fn malformed(counters: &mut FeedCounters, error: PacketError, sink: &mut impl FnMut(Event<'_>)) {
    counters.malformed += 1;
    sink(Event::Malformed { offset: error.offset as u64, reason: error.fault.into() });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::PacketBuilder;
    use super::super::vectors::*;
    use super::*;

    /// What is put out for `packets`, in words.
    fn events<'a>(in_order: &mut InOrder, packets: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut words = Vec::new();
        for packet in packets {
            in_order.accept(packet, UnixNs(0), |event| {
                words.push(match event {
                    Event::SessionStart { session } => format!("session {}", String::from_utf8_lossy(&session)),
                    Event::Message { seq, bytes, offset, .. } => format!("{seq}: {} at {offset}", bytes.len()),
                    Event::Gap { from, to } => format!("gap {from}..{to}"),
                    Event::EndOfSession { seq } => format!("end {seq}"),
                    Event::Malformed { offset, reason } => format!("malformed {offset}: {reason}"),
                    other => panic!("{other:?}"),
                });
            });
        }
        words
    }

    /// A packet of `count` messages from `sequence` on, each saying its own number.
    fn packet(session: &Session, sequence: u64, count: u64) -> Vec<u8> {
        let mut builder = PacketBuilder::new(*session, sequence, 1_400);
        for seq in sequence..sequence + count {
            assert!(builder.push(&seq.to_be_bytes()));
        }
        builder.finish().to_vec()
    }

    #[test]
    fn published_packets_in_order() {
        let mut in_order = InOrder::new(Start::Beginning);
        let words = events(&mut in_order, [TWO_MESSAGES, TWO_MESSAGES, HEARTBEAT, END, END]);
        assert_eq!(words, ["session 000000001A", "1: 36 at 22", "2: 31 at 60", "end 3"]);
        let counters = *in_order.counters();
        assert_eq!((counters.packets, counters.messages, counters.duplicates, counters.heartbeats), (5, 2, 2, 1));
        assert_eq!((counters.bytes, counters.sessions, in_order.expected()), (91 * 2 + 60, 1, Some(3)));
    }

    #[test]
    fn heartbeats_and_ends_reveal_lost_tails() {
        let mut in_order = InOrder::new(Start::Beginning);
        assert_eq!(events(&mut in_order, [HEARTBEAT, HEARTBEAT]), ["session 000000001A", "gap 1..3"]);
        let mut in_order = InOrder::new(Start::Beginning);
        assert_eq!(events(&mut in_order, [END]), ["session 000000001A", "gap 1..3", "end 3"]);
        let mut in_order = InOrder::new(Start::Live);
        assert_eq!(events(&mut in_order, [END]), ["session 000000001A", "end 3"]);
        assert_eq!(in_order.counters().gaps, 0);
    }

    #[test]
    fn gaps_overlaps_and_stragglers() {
        let mut in_order = InOrder::new(Start::Live);
        let packets = [(5, 2), (9, 1), (7, 2), (8, 4)].map(|(sequence, count)| packet(&SESSION, sequence, count));
        let words = events(&mut in_order, packets.iter().map(Vec::as_slice));
        let expected =
            ["session 000000001A", "5: 8 at 22", "6: 8 at 32", "gap 7..9", "9: 8 at 22", "10: 8 at 42", "11: 8 at 52"];
        assert_eq!(words, expected);
        assert_eq!((in_order.counters().duplicates, in_order.counters().gap_messages), (4, 2));
    }

    #[test]
    fn sessions_change_forwards_only() {
        let mut in_order = InOrder::new(Start::Live);
        let packets = [
            packet(b"MONDAY    ", 40, 1),
            packet(b"TUESDAY   ", 2, 1),
            packet(b"MONDAY    ", 41, 3),
            packet(b"TUESDAY   ", 3, 1),
            packet(b"WEDNESDAY ", 1, 1),
        ];
        let words = events(&mut in_order, packets.iter().map(Vec::as_slice));
        let expected = [
            "session MONDAY    ",
            "40: 8 at 22", //
            "session TUESDAY   ",
            "gap 1..2",
            "2: 8 at 22",
            "3: 8 at 22", //
            "session WEDNESDAY ",
            "1: 8 at 22",
        ];
        assert_eq!(words, expected);
        assert_eq!((in_order.counters().stale, in_order.counters().sessions), (3, 3));
    }

    #[test]
    fn one_bad_packet_does_not_silence_a_feed() {
        let mut in_order = InOrder::new(Start::Live);
        let mut accept = |packet: &[u8]| events(&mut in_order, [packet]);
        assert_eq!(accept(&packet(&SESSION, 7, 1)).len(), 2);
        let fault = PacketFault::SequenceJump { sequence: 1 << 60, expected: 8 };
        assert_eq!(accept(&packet(&SESSION, 1 << 60, 1)), [format!("malformed 10: {fault}")]);
        assert_eq!(accept(&packet(&SESSION, 8, 1)), ["8: 8 at 22"]);

        assert_eq!(accept(&packet(b"NONSENSE  ", 1, 0)), ["session NONSENSE  "]);
        let stale = u64::from(STALE_PACKETS_MAX);
        for sequence in 9..9 + stale {
            assert_eq!(accept(&packet(&SESSION, sequence, 1)).len(), 0);
        }
        let expected =
            ["session 000000001A".to_owned(), format!("gap 9..{}", 9 + stale), format!("{}: 8 at 22", 9 + stale)];
        assert_eq!(accept(&packet(&SESSION, 9 + stale, 1)), expected);
        assert_eq!((in_order.counters().stale, in_order.counters().gap_messages), (stale, stale));
    }

    #[test]
    fn what_a_broken_packet_withholds_becomes_a_gap() {
        let mut in_order = InOrder::new(Start::Beginning);
        let words = events(&mut in_order, [&TWO_MESSAGES[..70], &TWO_MESSAGES[..7], HEARTBEAT]);
        let beyond = PacketFault::LengthBeyondPacket { length: 31, available: 10 };
        let expected = [
            "session 000000001A".to_owned(),
            "1: 36 at 22".to_owned(),
            format!("malformed 58: {beyond}"),
            format!("malformed 0: {}", PacketFault::HeaderTruncated { len: 7 }),
            "gap 2..3".to_owned(),
        ];
        assert_eq!(words, expected);
        assert_eq!(in_order.counters().malformed, 2);
    }

    #[test]
    fn heartbeats_have_no_messages() {
        let mut bytes = HEARTBEAT.to_vec();
        bytes.extend_from_slice(&[0, 0]);
        let mut in_order = InOrder::new(Start::Live);
        let words = events(&mut in_order, [bytes.as_slice()]);
        assert_eq!(words[1..], [format!("malformed 20: {}", PacketFault::TrailingBytes { len: 2 })]);
    }

    proptest! {
        /// Packets are lost, doubled and swapped. What comes out rises strictly, and messages and gaps together are
        /// exactly the numbers from the first to the last.
        #[test]
        fn messages_and_gaps_partition_the_numbers(
            sizes in prop::collection::vec(0..6_u64, 1..60),
            fates in prop::collection::vec((0..10_u8, 0..8_usize), 60),
            live: bool,
        ) {
            let mut arriving = Vec::new();
            let mut next = 1;
            for (index, (&count, &(fate, delay))) in sizes.iter().zip(&fates).enumerate() {
                let bytes = packet(&SESSION, next, count);
                next += count;
                let copies = match fate { 0 | 1 => 0, 2 | 3 => 2, _ => 1 };
                for copy in 0..copies {
                    let late = if fate % 2 == copy { delay } else { 0 };
                    arriving.push((index + late, bytes.clone()));
                }
            }
            arriving.sort_by_key(|&(place, _)| place);
            let count = |bytes: &[u8]| Packet::parse(bytes).unwrap().messages().count() as u64;
            let offered = arriving.iter().map(|(_, bytes)| count(bytes)).sum();

            let mut in_order = InOrder::new(if live { Start::Live } else { Start::Beginning });
            let mut at = if live { None } else { Some(1) };
            let (mut messages, mut missing) = (0_u64, 0_u64);
            for (_, bytes) in &arriving {
                in_order.accept(bytes, UnixNs(0), |event| match event {
                    Event::Message { seq, bytes, .. } => {
                        assert_eq!(seq, *at.get_or_insert(seq));
                        assert_eq!(bytes, seq.to_be_bytes());
                        at = Some(seq + 1);
                        messages += 1;
                    }
                    Event::Gap { from, to } => {
                        assert_eq!(from, *at.get_or_insert(from));
                        assert!(to > from);
                        at = Some(to);
                        missing += to - from;
                    }
                    Event::SessionStart { session } => assert_eq!(session, SESSION),
                    other => panic!("{other:?}"),
                });
            }
            let counters = in_order.counters();
            prop_assert_eq!(counters.messages + counters.duplicates, offered);
            prop_assert_eq!((counters.messages, counters.gap_messages), (messages, missing));
            if !live && !arriving.is_empty() {
                prop_assert_eq!(in_order.expected(), Some(1 + messages + missing));
            }
        }

        /// Nothing that arrives makes it panic, run backwards or say the same number twice.
        #[test]
        fn any_bytes(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20), wild: bool) {
            let mut in_order = InOrder::new(Start::Live);
            let mut last = 0;
            for mut bytes in packets {
                // Mostly the same session, or the numbering would begin anew each time.
                if let Some(session) = bytes.first_chunk_mut::<10>().filter(|_| !wild) {
                    *session = SESSION;
                }
                in_order.accept(&bytes, UnixNs(0), |event| match event {
                    Event::SessionStart { .. } => last = 0,
                    Event::Message { seq, .. } => {
                        assert!(seq > last);
                        last = seq;
                    }
                    Event::Gap { from, to } => {
                        assert!(from > last && to > from);
                        last = to - 1;
                    }
                    _ => {}
                });
            }
        }
    }
}
