//! One packet does not decide the day: what a stray or a liar sends to a group or as a reply costs no message, and a
//! real change is followed in time, with all that came meanwhile.

use std::net::SocketAddr;

use fanblade_feed::limits::{JUMP_MESSAGES_MAX, PROOF_NS};
use fanblade_feed::moldudp64::{
    Arrived, HEADER_LEN, Origin, PacketBuilder, Receiver, ReceiverConfig, Request, Running, SnapshotUse, Start,
};
use fanblade_feed::{Condition, Event, Session, Stale, UnixNs};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const TRUE: Session = *b"000000001A";
const NEXT: Session = *b"000000002A";
const FALSE: Session = *b"FALSE     ";

fn config(lines: usize) -> ReceiverConfig {
    ReceiverConfig {
        session: None,
        start: Start::Live,
        lines: ["A", "B"].iter().take(lines).map(|name| (*name).to_owned()).collect(),
        has_known_sender: vec![false; lines],
        jump_messages_max: JUMP_MESSAGES_MAX,
        proof_ns: PROOF_NS,
        servers: Vec::new(),
        reorder_ns: MS,
        request_timeout_ns: 1_000 * MS,
        requests_per_s_max: 10_000,
        request_messages_max: 0xFFFE,
        recovery_ns_max: 5_000 * MS,
        window_bytes: 1 << 20,
        stale_ns_max: 3_000 * MS,
        snapshots: SnapshotUse::Never,
    }
}

fn server() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 18_000))
}

/// Messages from `sequence` on, each saying its own number; none: a heartbeat.
fn packet(session: &Session, sequence: u64, count: u64) -> Vec<u8> {
    let mut builder = PacketBuilder::new(*session, sequence, 1_400);
    for seq in sequence..sequence + count {
        assert!(builder.push(&seq.to_be_bytes()));
    }
    builder.finish().to_vec()
}

fn end(session: &Session, sequence: u64) -> Vec<u8> {
    PacketBuilder::new(*session, sequence, HEADER_LEN).end_of_session().to_vec()
}

/// A receiver, what it put out by sessions, and its clock.
struct Bench {
    receiver: Receiver,
    /// Each session begun, with its messages.
    sessions: Vec<(Session, Vec<u64>)>,
    gaps: Vec<(u64, u64)>,
    ends: u64,
    troubles: Vec<String>,
    now_ns: Running,
}

impl Bench {
    fn new(config: ReceiverConfig) -> Bench {
        let receiver = Receiver::new(config);
        Bench {
            receiver,
            sessions: Vec::new(),
            gaps: Vec::new(),
            ends: 0,
            troubles: Vec::new(),
            now_ns: Running(1_000 * MS),
        }
    }

    fn run(&mut self, work: impl FnOnce(&mut Receiver, Running, &mut dyn FnMut(Event<'_>))) {
        let Bench { receiver, sessions, gaps, ends, troubles, now_ns } = self;
        work(receiver, *now_ns, &mut |event| match event {
            Event::SessionStart { session } => sessions.push((session, Vec::new())),
            Event::Message { seq, bytes, .. } => {
                assert_eq!(bytes, seq.to_be_bytes(), "the message that this number has");
                let (_, messages) = sessions.last_mut().unwrap();
                assert!(messages.last().is_none_or(|last| seq > *last), "{seq} after {messages:?}");
                messages.push(seq);
            }
            Event::Gap { from, to } => gaps.push((from, to)),
            Event::EndOfSession { .. } => *ends += 1,
            Event::Trouble(trouble) => troubles.push(format!("{}: {trouble}", trouble.kind())),
            _ => {}
        });
    }

    fn accept(&mut self, origin: Origin, bytes: &[u8]) {
        let source = if matches!(origin, Origin::Line(_)) { SocketAddr::from(([10, 0, 0, 1], 9)) } else { server() };
        self.run(|receiver, now_ns, sink| {
            receiver.accept(&Arrived { origin, source, bytes, received_ns: UnixNs(now_ns.0) }, now_ns, sink);
        });
    }

    fn line(&mut self, line: usize, session: &Session, sequence: u64, count: u64) {
        self.accept(Origin::Line(line), &packet(session, sequence, count));
    }

    /// A packet on all lines.
    fn all(&mut self, session: &Session, sequence: u64, count: u64) {
        for line in 0..self.receiver.lines(Running::ZERO).len() {
            self.line(line, session, sequence, count);
        }
    }

    fn tick(&mut self, pass_ns: u64) {
        // As a feed does, which looks at least every so often.
        for _ in 0..(pass_ns / (50 * MS)).max(1) {
            self.now_ns += pass_ns / (pass_ns / (50 * MS)).max(1);
            self.run(|receiver, now_ns, sink| receiver.tick(now_ns, sink));
        }
        while self.receiver.is_backlogged() {
            self.run(|receiver, now_ns, sink| receiver.tick(now_ns, sink));
        }
    }

    fn requests(&mut self) -> Vec<(u64, u16)> {
        let mut requests = Vec::new();
        while let Some((_, Request { sequence, count, .. })) = self.receiver.request(self.now_ns) {
            requests.push((sequence, count));
        }
        requests
    }

    fn condition(&self) -> Condition {
        self.receiver.condition(self.now_ns)
    }

    /// The feed goes on for so long, with a packet of one message each 10 ms; returns the number that comes next.
    fn go_on(&mut self, session: &Session, mut next: u64, ms: u64) -> u64 {
        for _ in 0..ms / 10 {
            self.all(session, next, 1);
            next += 1;
            self.tick(10 * MS);
        }
        next
    }

    fn kinds(&self) -> Vec<&str> {
        self.troubles.iter().filter_map(|trouble| trouble.split(':').next()).collect()
    }

    fn assert_untouched(&self, next: u64) {
        let sessions: Vec<_> = self
            .sessions
            .iter()
            .map(|(session, messages)| (session.escape_ascii().to_string(), ranges(messages)))
            .collect();
        let wanted = [(TRUE.escape_ascii().to_string(), vec![(1, next)])];
        assert_eq!((sessions.as_slice(), self.gaps.as_slice()), (&wanted[..], &[][..]), "{:?}", self.troubles);
    }
}

/// What is in order, as ranges: a thousand numbers are hard to read.
fn ranges(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if to == number => *to += 1,
            _ => ranges.push((*number, number + 1)),
        }
    }
    ranges
}

/// What one packet may say.
fn lies() -> Vec<Vec<u8>> {
    vec![
        packet(&FALSE, 1, 1),
        packet(&FALSE, 4_711, 30),
        packet(&FALSE, 1, 0),
        end(&FALSE, 1),
        packet(&TRUE, 1_500_000, 0),
        packet(&TRUE, 1_500_000, 3),
        packet(&TRUE, 1 << 33, 0),
        packet(&TRUE, 2_000, 0),
        packet(&TRUE, 2_000, 5),
        packet(&TRUE, 130, 0),
        packet(&TRUE, 103, 0),
        end(&TRUE, 101),
        end(&TRUE, 110),
        end(&TRUE, 3_000),
        end(&TRUE, 3_000_000),
        packet(&TRUE, 1, 5),
        packet(&TRUE, 1, 0),
        packet(b"\x01garbled\xff\xff", 7, 0),
    ]
}

#[test]
fn no_single_packet_changes_anything() {
    for lines in [1, 2] {
        for (number, lie) in lies().into_iter().enumerate() {
            // In the midst of the day, and in a quiet moment.
            for pause_ms in [0, 150, 1_000] {
                for has_server in [false, true] {
                    let servers = if has_server { vec![server()] } else { Vec::new() };
                    let mut bench = Bench::new(ReceiverConfig { servers, ..config(lines) });
                    bench.all(&TRUE, 1, 1);
                    let next = bench.go_on(&TRUE, 2, 990);
                    assert_eq!(next, 101);
                    bench.tick(pause_ms * MS);
                    bench.accept(Origin::Line(lines - 1), &lie);
                    bench.tick(pause_ms * MS);
                    let next = bench.go_on(&TRUE, next, 9_000);
                    bench.assert_untouched(next);
                    assert_eq!(bench.condition(), Condition::Live, "lie {number}: {:?}", bench.troubles);
                    let told = bench.kinds();
                    assert!(told.iter().all(|kind| *kind == "suspected") && told.len() <= 1, "lie {number}: {told:?}");
                    assert_eq!(bench.receiver.counters().suspected, told.len() as u64, "lie {number}");
                }
            }
        }
    }
}

#[test]
fn claims_that_overlap_are_taken_back_one_by_one() {
    let (far, near) = (end(&TRUE, 3_000), packet(&TRUE, 2_000, 0));
    let (held, across) = (packet(&TRUE, 2_000, 5), packet(&TRUE, 1_998, 4));
    for lies in [[&far, &near, &near], [&near, &far, &near], [&far, &held, &across], [&across, &near, &far]] {
        for line in [0, 1] {
            let mut bench = Bench::new(config(2));
            bench.all(&TRUE, 1, 1);
            let mut next = bench.go_on(&TRUE, 2, 990);
            for lie in lies {
                bench.accept(Origin::Line(line), lie);
                next = bench.go_on(&TRUE, next, 10);
            }
            let next = bench.go_on(&TRUE, next, PROOF_NS / MS + 1_000);
            assert_eq!(bench.receiver.seen(), next, "nothing is left of them");
            // The feed comes to the numbers that were named, and nothing ends there.
            let next = bench.go_on(&TRUE, next, 32_000);
            bench.assert_untouched(next);
            assert_eq!((bench.condition(), bench.ends), (Condition::Live, 0));
        }
    }
}

#[test]
fn more_claims_than_are_told_apart_cost_nothing() {
    let mut bench = Bench::new(config(2));
    bench.all(&TRUE, 1, 1);
    let mut next = bench.go_on(&TRUE, 2, 990);
    for lie in 0..100 {
        bench.line(0, &TRUE, 100_000 + (lie * 37 % 100) * 100, 1 + lie % 2);
        next = bench.go_on(&TRUE, next, 10);
    }
    let next = bench.go_on(&TRUE, next, 2 * PROOF_NS / MS + 5_000);
    bench.assert_untouched(next);
    assert_eq!((bench.receiver.seen(), bench.condition()), (next, Condition::Live));
}

#[test]
fn what_was_said_before_an_end_is_no_proof_after_it() {
    let mut bench = Bench::new(config(2));
    bench.all(&TRUE, 1, 1);
    let mut next = bench.go_on(&TRUE, 2, 990);
    for lie in [packet(&FALSE, 1, 0), packet(&FALSE, 1, 0), packet(&FALSE, 1, 0), end(&TRUE, 110)] {
        bench.accept(Origin::Line(0), &lie);
        next = bench.go_on(&TRUE, next, 10);
    }
    let next = bench.go_on(&TRUE, next, 2_000);
    bench.assert_untouched(next);
}

#[test]
fn a_packet_that_was_overtaken_does_not_keep_a_loss_open() {
    let mut bench = Bench::new(config(1));
    bench.all(&TRUE, 1, 1);
    bench.go_on(&TRUE, 2, 990);
    // Of what was lost, one comes late.
    bench.line(0, &TRUE, 106, 1);
    bench.line(0, &TRUE, 101, 1);
    let next = bench.go_on(&TRUE, 107, PROOF_NS / MS + 100);
    assert_eq!((bench.receiver.expected(), bench.gaps.as_slice()), (Some(next), &[(102, 106)][..]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Lies of all kinds, one after the other, by one of two lines.
    #[test]
    fn true_messages_go_on_whatever_strays(
        lies_at in prop::collection::vec((0..lies().len(), 0..4_u64), 1..12), line in 0..2_usize,
    ) {
        let mut bench = Bench::new(config(2));
        bench.all(&TRUE, 1, 1);
        let mut next = bench.go_on(&TRUE, 2, 990);
        for (lie, pause) in lies_at {
            bench.accept(Origin::Line(line), &lies()[lie]);
            next = bench.go_on(&TRUE, next, 10 + 700 * pause);
        }
        next = bench.go_on(&TRUE, next, 2_000);
        bench.assert_untouched(next);
        prop_assert_eq!(bench.condition(), Condition::Live);
    }
}

#[test]
fn a_new_session_is_followed_with_all_that_came_meanwhile() {
    // Without an end, on one line: after the old one has been silent for long enough.
    let mut bench = Bench::new(config(1));
    bench.all(&TRUE, 1, 1);
    bench.go_on(&TRUE, 2, 990);
    let next = bench.go_on(&NEXT, 1, PROOF_NS / MS - 100);
    assert_eq!(bench.sessions.len(), 1, "not yet");
    let next = bench.go_on(&NEXT, next, 200);
    assert_eq!(bench.sessions[1], (NEXT, (1..next).collect()), "{:?}", bench.troubles);
    assert_eq!((bench.gaps.as_slice(), bench.condition()), (&[][..], Condition::Live));
    assert_eq!(bench.kinds(), ["suspected"], "told once");

    // On two lines: at once, though the slower one may still be in the old session.
    let mut bench = Bench::new(config(2));
    bench.all(&TRUE, 1, 2);
    bench.all(&TRUE, 3, 2);
    bench.line(0, &NEXT, 1, 2);
    bench.line(1, &TRUE, 5, 1);
    bench.line(0, &NEXT, 3, 2);
    assert_eq!(bench.sessions.len(), 1);
    bench.line(1, &NEXT, 1, 2);
    assert_eq!(bench.sessions, [(TRUE, vec![1, 2, 3, 4, 5]), (NEXT, vec![1, 2, 3, 4])]);

    // After an end of the session, with the third packet.
    let mut bench = Bench::new(config(1));
    bench.all(&TRUE, 1, 2);
    bench.all(&TRUE, 3, 2);
    bench.accept(Origin::Line(0), &end(&TRUE, 5));
    bench.line(0, &NEXT, 1, 2);
    bench.accept(Origin::Line(0), &end(&TRUE, 5));
    bench.line(0, &NEXT, 3, 2);
    assert_eq!(bench.sessions.len(), 1);
    bench.line(0, &NEXT, 5, 0);
    assert_eq!(bench.sessions[1], (NEXT, vec![1, 2, 3, 4]));

    // From a known sender: at once.
    let mut bench = Bench::new(ReceiverConfig { has_known_sender: vec![true], ..config(1) });
    bench.all(&TRUE, 1, 2);
    bench.line(0, &NEXT, 1, 2);
    assert_eq!(bench.sessions, [(TRUE, vec![1, 2]), (NEXT, vec![1, 2])]);
    assert_eq!(bench.kinds(), [] as [&str; 0]);

    // After a silence.
    let mut bench = Bench::new(config(1));
    bench.all(&TRUE, 1, 2);
    bench.all(&TRUE, 3, 2);
    bench.tick(4_000 * MS);
    for sequence in [1, 3, 5] {
        bench.line(0, &NEXT, sequence, 2);
    }
    assert_eq!(bench.sessions[1], (NEXT, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn a_jump_is_followed_and_what_lies_between_is_missing() {
    for lines in [1, 2] {
        let mut bench = Bench::new(config(lines));
        bench.all(&TRUE, 1, 2);
        bench.all(&TRUE, 3, 2);
        let next = bench.go_on(&TRUE, 1_000_000, PROOF_NS / MS + 100);
        bench.tick(5 * MS);
        let expected: Vec<u64> = (1..5).chain(1_000_000..next).collect();
        assert_eq!((&bench.sessions, &bench.gaps), (&vec![(TRUE, expected)], &vec![(5, 1_000_000)]));
        assert_eq!(bench.kinds(), ["suspected"]);
    }
}

#[test]
fn numbers_that_begin_anew_within_a_session_are_followed() {
    for lines in [1, 2] {
        let mut bench = Bench::new(config(lines));
        bench.all(&TRUE, 1, 1);
        bench.go_on(&TRUE, 2, 50_000);
        bench.tick(200 * MS);
        let next = bench.go_on(&TRUE, 1, 2_500);
        assert_eq!(
            (bench.sessions.len(), bench.condition()),
            (1, Condition::Stale(Stale::Unproven)),
            "never live on these"
        );
        let next = bench.go_on(&TRUE, next, 600);
        assert_eq!(bench.sessions[1], (TRUE, (1..next).collect()), "{:?}", bench.troubles);
        assert_eq!(bench.condition(), Condition::Live);
    }
}

#[test]
fn only_duplicates_are_never_the_present() {
    let mut bench = Bench::new(config(2));
    bench.all(&TRUE, 1, 1);
    bench.go_on(&TRUE, 2, 990);
    assert_eq!(bench.condition(), Condition::Live);
    // Somebody repeats one old packet for ever.
    for _ in 0..100 {
        bench.line(0, &FALSE, 9, 1);
        bench.line(1, &TRUE, 10, 0);
        bench.tick(35 * MS);
    }
    assert_eq!(bench.condition(), Condition::Stale(Stale::Unproven));
}

#[test]
fn a_first_packet_that_lies_is_overcome() {
    for lie in [packet(&FALSE, 5, 2), packet(&FALSE, 1 << 33, 0), packet(&TRUE, 1_500_000, 0), packet(&TRUE, 5, 0)] {
        for (lines, start) in [(1, Start::Live), (2, Start::Live), (1, Start::Beginning), (2, Start::Beginning)] {
            if start == Start::Beginning && lie == packet(&TRUE, 5, 0) {
                continue;
            }
            let first = if start == Start::Live { 700_000 } else { 1 };
            let mut bench = Bench::new(ReceiverConfig { start, ..config(lines) });
            bench.accept(Origin::Line(lines - 1), &lie);
            let next = bench.go_on(&TRUE, first, 5_000);
            bench.tick(10 * MS);
            let (session, messages) = bench.sessions.last().unwrap();
            assert_eq!(
                (session, messages),
                (&TRUE, &(first..next).collect()),
                "{:?} {:?}",
                bench.sessions,
                bench.troubles
            );
            let is_whole = start == Start::Live && lie != packet(&TRUE, 5, 0);
            assert!(!is_whole || bench.condition() == Condition::Live, "{:?}", bench.condition());
        }
    }
}

#[test]
fn a_flood_of_sessions_is_bounded_and_the_true_one_is_followed() {
    let mut bench = Bench::new(config(1));
    bench.all(&TRUE, 1, 1);
    let mut next = bench.go_on(&TRUE, 2, 990);
    let mut random = 1_u64;
    let mut flood = |bench: &mut Bench| {
        for _ in 0..20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut session = *b"AAAAAAAAAA";
            for (at, byte) in session.iter_mut().enumerate() {
                *byte = b'A' + (random >> (20 + 4 * at)).to_le_bytes()[0] % 26;
            }
            bench.line(0, &session, random >> 34, 30);
            bench.line(0, &TRUE, 1_000_000 + (random >> 34), 30);
        }
    };
    for _ in 0..300 {
        flood(&mut bench);
        next = bench.go_on(&TRUE, next, 10);
    }
    bench.assert_untouched(next);
    assert_eq!(bench.condition(), Condition::Live);
    let counters = bench.receiver.counters();
    assert_eq!(counters.suspected, 300 * 40);
    assert!(counters.stale >= (300 * 40 - 16 * 40) * 30 / 2, "{counters:?}");
    assert_eq!(counters.gaps, 0);
    // The session changes in the midst of it.
    let mut next = 1;
    for _ in 0..1_200 {
        flood(&mut bench);
        next = bench.go_on(&NEXT, next, 10);
        if bench.sessions.len() > 1 && bench.sessions.last().unwrap().0 == NEXT {
            break;
        }
    }
    assert_eq!(bench.sessions.last().unwrap().0, NEXT, "{:?}", bench.sessions.len());
}

#[test]
fn an_end_that_was_none_ends_nothing() {
    let mut bench = Bench::new(config(1));
    bench.all(&TRUE, 1, 1);
    let next = bench.go_on(&TRUE, 2, 990);
    bench.accept(Origin::Line(0), &end(&TRUE, next));
    let next = bench.go_on(&TRUE, next, 500);
    // It takes the silence again, and not only three packets.
    for sequence in 1..9 {
        bench.line(0, &FALSE, sequence, 1);
    }
    let next = bench.go_on(&TRUE, next, 500);
    bench.assert_untouched(next);
}

#[test]
fn a_server_that_lies_is_told_and_costs_nothing() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server()], ..config(2) });
    bench.all(&TRUE, 1, 3);
    bench.all(&TRUE, 4, 1);
    bench.line(0, &TRUE, 6, 1);
    bench.line(1, &TRUE, 6, 2);
    bench.line(0, &TRUE, 9, 1);
    bench.line(0, &TRUE, 10, 1);
    bench.tick(2 * MS);
    assert_eq!(bench.requests(), [(5, 1), (8, 1)]);
    bench.line(0, &TRUE, 12, 1);
    bench.line(1, &TRUE, 12, 1);
    for lie in [packet(&FALSE, 5, 1), packet(&TRUE, 11, 1), packet(&TRUE, 900_000, 3), packet(&TRUE, 13, 2)] {
        bench.accept(Origin::Server(0), &lie);
    }
    // Those say nothing of messages.
    for nothing in [packet(&TRUE, 900_000, 0), end(&TRUE, 13), packet(&TRUE, 1, 0)] {
        bench.accept(Origin::Server(0), &nothing);
    }
    let what = [
        "messages of another session",
        "message 11, which it was not asked for",
        "message 900002, which no line has named",
        "message 14, which no line has named",
    ];
    let told: Vec<String> = what
        .iter()
        .map(|what| {
            format!(
                "server_contradicts: re-request server 10.0.0.9:18000 cannot be right: it has sent {what}; that is dropped, \
                 where it is not too late"
            )
        })
        .collect();
    assert_eq!(bench.troubles, told);
    assert_eq!((bench.receiver.expected(), bench.receiver.seen(), bench.receiver.session()), (Some(5), 13, Some(TRUE)));
    // A count that promises more than there is.
    let mut short = packet(&TRUE, 5, 1);
    short[19] = 4;
    bench.accept(Origin::Server(0), &short);
    bench.accept(Origin::Server(0), &packet(&TRUE, 8, 1));
    bench.tick(2 * MS);
    bench.requests();
    bench.accept(Origin::Server(0), &packet(&TRUE, 11, 1));
    bench.tick(2 * MS);
    assert_eq!(bench.condition(), Condition::Live);
    bench.assert_untouched(13);
    // Contents that contradict a line: too late for this message, but nobody takes the books for right any more.
    let mut other = packet(&TRUE, 11, 1);
    *other.last_mut().unwrap() = 0xEE;
    bench.accept(Origin::Line(1), &packet(&TRUE, 8, 1));
    assert_eq!(bench.condition(), Condition::Live);
    bench.accept(Origin::Line(1), &other);
    assert!(bench.troubles.last().unwrap().contains("message 11 with other contents than a line"));
    assert_eq!(bench.condition(), Condition::Stale(Stale::Incomplete));
}

#[test]
fn what_waits_to_be_passed_on_is_in_order_and_bounded_per_turn() {
    let mut bench = Bench::new(ReceiverConfig { window_bytes: 4 << 20, ..config(1) });
    bench.all(&TRUE, 1, 1);
    bench.all(&TRUE, 2, 1);
    let mut next = 1;
    for _ in 0..1_000 {
        bench.line(0, &NEXT, next, 30);
        next += 30;
        bench.now_ns += MS;
    }
    bench.now_ns += PROOF_NS;
    bench.run(|receiver, now_ns, sink| receiver.tick(now_ns, sink));
    let passed = bench.sessions[1].1.len();
    assert!((1..4_000).contains(&passed), "{passed} in one turn");
    assert!(bench.receiver.is_backlogged());
    // What comes meanwhile comes after it.
    bench.line(0, &NEXT, next, 1);
    bench.line(0, &NEXT, next + 5_000_000, 0);
    bench.tick(10 * MS);
    assert_eq!(bench.sessions[1], (NEXT, (1..=next).collect()));
    assert_eq!((bench.gaps.as_slice(), bench.receiver.counters().dropped), (&[][..], 0));
}
