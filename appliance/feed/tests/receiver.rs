//! The receiver against an oracle: whatever two lines and a re-request server lose, double, delay and swap, every
//! message comes once and in order if it can be had, and is said to be missing otherwise.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fanblade_feed::limits::{JUMP_MESSAGES_MAX, PROOF_NS};
use fanblade_feed::moldudp64::{
    Arrived, HEADER_LEN, Origin, Packet, PacketBuilder, Receiver, ReceiverConfig, Request, Running, SnapshotUse, Start,
};
use fanblade_feed::{Condition, Event, FeedCounters, Session, Stale, UnixNs};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SESSION: Session = *b"000000001A";

fn config() -> ReceiverConfig {
    ReceiverConfig {
        session: None,
        start: Start::Beginning,
        lines: vec!["A".to_owned(), "B".to_owned()],
        has_known_sender: vec![false; 2],
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

fn server(index: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], 18_000 + index))
}

/// A packet of `count` messages from `sequence` on, each saying its own number; none: a heartbeat.
fn packet(session: &Session, sequence: u64, count: u64) -> Vec<u8> {
    let mut builder = PacketBuilder::new(*session, sequence, 1_400);
    for seq in sequence..sequence + count {
        assert!(builder.push(&seq.to_be_bytes()));
    }
    builder.finish().to_vec()
}

fn end(sequence: u64) -> Vec<u8> {
    PacketBuilder::new(SESSION, sequence, HEADER_LEN).end_of_session().to_vec()
}

/// What a receiver has put out.
#[derive(Debug, Default)]
struct Output {
    messages: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    words: Vec<String>,
    troubles: Vec<&'static str>,
}

impl Output {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Message { seq, bytes, .. } => {
                assert_eq!(bytes, seq.to_be_bytes(), "the message that this number has");
                self.messages.push(seq);
            }
            Event::Gap { from, to } => {
                self.words.push(format!("gap {from}..{to}"));
                self.gaps.push((from, to));
            }
            Event::Trouble(trouble) => {
                self.words.push(trouble.to_string());
                self.troubles.push(trouble.kind());
            }
            Event::SessionStart { session } => {
                self.words.push(format!("session {}", String::from_utf8_lossy(&session)));
            }
            Event::EndOfSession { seq } => self.words.push(format!("end {seq}")),
            Event::Malformed { offset, .. } => self.words.push(format!("malformed {offset}")),
            other => panic!("{other:?}"),
        }
    }

    /// Messages and gaps, in order of their numbers, are exactly `1..next`.
    fn assert_partitions(&self, next: u64) {
        let mut numbers = self.messages.clone();
        numbers.extend(self.gaps.iter().flat_map(|(from, to)| *from..*to));
        let unsorted = numbers.clone();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..next).collect::<Vec<_>>(), "{unsorted:?}");
        assert!(self.messages.is_sorted());
    }
}

/// A receiver with its output and its clock.
struct Bench {
    receiver: Receiver,
    output: Output,
    now_ns: Running,
}

impl Bench {
    fn new(config: ReceiverConfig) -> Bench {
        Bench { receiver: Receiver::new(config), output: Output::default(), now_ns: Running(1_000 * MS) }
    }

    fn accept(&mut self, origin: Origin, bytes: &[u8]) {
        let arrived = Arrived { origin, source: server(99), bytes, received_ns: UnixNs(self.now_ns.0) };
        self.receiver.accept(&arrived, self.now_ns, &mut |event| self.output.take(event));
    }

    fn a(&mut self, sequence: u64, count: u64) {
        self.accept(Origin::Line(0), &packet(&SESSION, sequence, count));
    }

    fn b(&mut self, sequence: u64, count: u64) {
        self.accept(Origin::Line(1), &packet(&SESSION, sequence, count));
    }

    fn tick(&mut self, pass_ns: u64) {
        self.now_ns += pass_ns;
        self.receiver.tick(self.now_ns, &mut |event| self.output.take(event));
    }

    fn requests(&mut self) -> Vec<(SocketAddr, u64, u16)> {
        let mut requests = Vec::new();
        while let Some((server, Request { sequence, count, .. })) = self.receiver.request(self.now_ns) {
            requests.push((server, sequence, count));
        }
        requests
    }

    fn words(&mut self) -> Vec<String> {
        std::mem::take(&mut self.output.words)
    }

    fn condition(&self) -> Condition {
        self.receiver.condition(self.now_ns)
    }
}

/// What happens to a packet: lost, doubled, late by so many steps.
type Fate = (u8, u8);

/// The arrivals of one line: by step, packets of the numbers `1..next`.
fn line(sizes: &[u64], fates: &[Fate], spread: usize) -> Vec<(usize, u64, u64)> {
    let mut arrivals = Vec::new();
    let mut next = 1;
    for (index, &count) in sizes.iter().enumerate() {
        let (fate, late) = fates[index % fates.len()];
        let copies = match fate % 10 {
            0..=2 => 0,
            3 => 2,
            _ => 1,
        };
        for copy in 0..copies {
            let late = if (fate / 10) % 2 == copy { usize::from(late) % spread } else { 0 };
            arrivals.push((index + late, next, count));
        }
        next += count;
    }
    // Heartbeats until everybody has understood.
    for step in 0..40 {
        arrivals.push((sizes.len() + spread + 10 * step, next, 0));
    }
    arrivals.sort_by_key(|&(step, ..)| step);
    arrivals
}

struct Run {
    output: Output,
    counters: FeedCounters,
    offered: u64,
    condition: Condition,
    next: u64,
}

/// Plays both lines, a step being 200 µs, and serves requests with `reply`: the messages it sends for a request, if it
/// answers, and after how many steps.
fn play(
    config: ReceiverConfig,
    sizes: &[u64],
    lines: &[Vec<(usize, u64, u64)>; 2],
    mut reply: impl FnMut(u64, Request) -> Option<(u64, u64, usize)>,
) -> Run {
    let next = 1 + sizes.iter().sum::<u64>();
    let mut bench = Bench::new(config);
    let mut replies: Vec<(usize, usize, Vec<u8>)> = Vec::new();
    let (mut positions, mut offered, mut asked) = ([0; 2], 0, 0);
    for step in 0..60_000 {
        for (index, arrivals) in lines.iter().enumerate() {
            while let Some(&(_, sequence, count)) = arrivals.get(positions[index]).filter(|(at, ..)| *at <= step) {
                positions[index] += 1;
                offered += count;
                bench.accept(Origin::Line(index), &packet(&SESSION, sequence, count));
            }
        }
        let due: Vec<_> = replies.extract_if(.., |(at, ..)| *at <= step).collect();
        for (_, server, bytes) in due {
            offered += Packet::parse(&bytes).unwrap().messages().count() as u64;
            bench.accept(Origin::Server(server), &bytes);
        }
        bench.tick(200_000);
        while let Some((address, request)) = bench.receiver.request(bench.now_ns) {
            asked += 1;
            assert!(request.count > 0 && request.sequence + u64::from(request.count) <= next, "{request:?}");
            if let Some((from, to, delay)) = reply(asked, request) {
                let server = usize::from(address.port() - 18_000);
                replies.push((step + delay, server, packet(&SESSION, from, to - from)));
            }
        }
        let is_idle = replies.is_empty() && !bench.receiver.is_backlogged() && bench.receiver.due_ns().is_none();
        if is_idle && positions == [lines[0].len(), lines[1].len()] {
            break;
        }
    }
    let condition = bench.condition();
    Run { counters: bench.receiver.counters(), output: bench.output, offered, condition, next }
}

fn sizes() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..30_u64, 1..150)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    prop::collection::vec(any::<Fate>(), 60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// A server that has everything, answers two of three requests, late, with a few messages each; a window that is
    /// much too small.
    #[test]
    fn whatever_can_be_had_comes_exactly_once(
        sizes in sizes(),
        a in fates(),
        b in fates(),
        lost in prop::collection::vec(0..3_u8, 50),
        reply_len in 1..40_u64,
        is_small: bool,
        servers in 1..3_u16,
    ) {
        let config = ReceiverConfig {
            servers: (0..servers).map(server).collect(),
            window_bytes: if is_small { 1 } else { 1 << 20 },
            recovery_ns_max: u64::MAX,
            // The lines fall silent long before the last request has been answered.
            stale_ns_max: u64::MAX,
            ..config()
        };
        let lines = [line(&sizes, &a, 8), line(&sizes, &b, 20)];
        let run = play(config, &sizes, &lines, |asked, request| {
            let to = request.sequence + u64::from(request.count).min(reply_len);
            let delay = 1 + (asked % 7) as usize;
            (lost[usize::try_from(asked).unwrap() % lost.len()] > 0).then_some((request.sequence, to, delay))
        });
        prop_assert_eq!(run.output.messages, (1..run.next).collect::<Vec<_>>());
        prop_assert_eq!(run.output.gaps, vec![]);
        prop_assert_eq!(run.condition, Condition::Live);
        let FeedCounters { messages, duplicates, dropped, stale, .. } = run.counters;
        prop_assert_eq!(messages + duplicates + dropped + stale, run.offered);
    }

    /// No server: what neither line brought is a gap, and what one of them brought is none if it fits the window and
    /// comes in time.
    #[test]
    fn without_recovery_messages_and_gaps_partition_the_numbers(
        sizes in sizes(), a in fates(), b in fates(), is_small: bool, spread in 1..20_usize,
    ) {
        let lines = [line(&sizes, &a, spread), line(&sizes, &b, spread)];
        let brought: BTreeSet<u64> =
            lines.iter().flatten().flat_map(|&(_, sequence, count)| sequence..sequence + count).collect();
        let config = ReceiverConfig { window_bytes: if is_small { 1 } else { 1 << 20 }, ..config() };
        let run = play(config, &sizes, &lines, |_, _| unreachable!("there is nobody to ask"));
        run.output.assert_partitions(run.next);
        // Five steps make the millisecond that a hole may close by itself.
        if spread <= 5 && !is_small {
            let messages: Vec<u64> = brought.into_iter().collect();
            prop_assert_eq!(&run.output.messages, &messages);
        }
        let FeedCounters { messages, duplicates, dropped, gap_messages, .. } = run.counters;
        prop_assert_eq!(messages + duplicates + dropped, run.offered);
        prop_assert_eq!(messages + gap_messages, run.next - 1);
        let expected = if gap_messages > 0 { Condition::Stale(Stale::Incomplete) } else { Condition::Live };
        prop_assert_eq!(run.condition, expected);
    }

    /// A server that lacks some messages: exactly those that nobody has are missing.
    #[test]
    fn exactly_what_nobody_has_is_given_up(
        sizes in sizes(), a in fates(), b in fates(), lacks in prop::collection::btree_set(1..2_000_u64, 0..40),
    ) {
        let config = ReceiverConfig { servers: vec![server(0)], recovery_ns_max: 50 * MS, ..config() };
        let lines = [line(&sizes, &a, 4), line(&sizes, &b, 4)];
        let brought: BTreeSet<u64> =
            lines.iter().flatten().flat_map(|&(_, sequence, count)| sequence..sequence + count).collect();
        let run = play(config, &sizes, &lines, |_, request| {
            let asked = request.sequence..request.sequence + u64::from(request.count);
            let to = asked.clone().find(|seq| lacks.contains(seq)).unwrap_or(asked.end);
            (to > asked.start).then_some((asked.start, to.min(asked.start + 20), 2))
        });
        run.output.assert_partitions(run.next);
        let had: BTreeSet<u64> = run.output.messages.iter().copied().collect();
        for seq in 1..run.next {
            // A request may begin before what the server lacks, and be answered up to there; or begin with it, and not
            // be answered at all although it has the rest. So some that it has may be given up, never one that came.
            prop_assert!(had.contains(&seq) || !brought.contains(&seq), "{} came and was lost", seq);
            prop_assert!(had.contains(&seq) || !lacks.is_empty(), "{} could be had", seq);
        }
    }

    /// Nothing that arrives makes it panic, run backwards or say the same number twice.
    #[test]
    fn any_bytes(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..64), 0..4_u8, any::<u8>()), 0..40),
        wild: bool,
    ) {
        let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0)], window_bytes: 1, ..config() });
        let mut last = 0;
        for (mut bytes, origin, sequence) in packets {
            if !wild && let Some(head) = bytes.first_chunk_mut::<18>() {
                head[..10].copy_from_slice(&SESSION);
                head[10..].copy_from_slice(&u64::from(sequence).to_be_bytes());
            }
            let origin = if origin < 3 { Origin::Line(origin.into()) } else { Origin::Server(0) };
            let arrived = Arrived { origin, source: server(0), bytes: &bytes, received_ns: UnixNs(0) };
            let mut take = |event: Event<'_>| match event {
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
            };
            bench.receiver.accept(&arrived, bench.now_ns, &mut take);
            bench.now_ns += u64::from(sequence) * 100 * MS;
            bench.receiver.tick(bench.now_ns, &mut take);
            bench.receiver.request(bench.now_ns);
        }
    }
}

#[test]
fn the_faster_line_wins_and_its_lead_is_measured() {
    let mut bench = Bench::new(config());
    for sequence in 1..=10 {
        bench.a(sequence, 1);
        bench.now_ns += 5_000;
        bench.b(sequence, 1);
        bench.now_ns += 5_000;
    }
    bench.b(11, 1);
    bench.now_ns += 7_000;
    bench.a(11, 1);
    bench.a(13, 1);
    bench.b(12, 1);
    bench.tick(2 * MS);
    bench.a(15, 1);
    bench.tick(2 * MS);
    assert_eq!(bench.output.messages.last(), Some(&13), "one packet alone says that there was 14");
    bench.b(16, 0);
    bench.tick(0);
    assert_eq!(bench.output.messages, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15]);
    let lines = bench.receiver.lines(bench.now_ns);
    let figures = |index: usize| {
        let line = &lines[index];
        (line.packets, line.wins, line.gaps, line.lead_ns_mean, line.lead_ns_max)
    };
    assert_eq!(figures(0), (13, 12, 2, 5_000, 5_000), "12 and 14 are missing on A");
    assert_eq!(figures(1), (13, 2, 0, 7_000, 7_000), "12 was late on no line: it came after 11");
    assert_eq!((lines[0].silent_ns, lines[1].silent_ns), (Some(2 * MS), Some(0)));
    assert_eq!(bench.receiver.counters().duplicates, 11);
}

#[test]
fn a_packet_that_was_overtaken_is_no_gap() {
    let mut bench = Bench::new(config());
    bench.a(1, 2);
    bench.a(5, 2);
    bench.a(3, 2);
    assert_eq!(bench.output.messages, [1, 2, 3, 4, 5, 6]);
    bench.tick(10 * MS);
    assert_eq!(bench.receiver.lines(bench.now_ns)[0].gaps, 0);
    assert_eq!(bench.words(), ["session 000000001A"]);
}

#[test]
fn a_hole_waits_for_the_other_line_then_is_asked_for() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0), server(1)], ..config() });
    bench.a(1, 1);
    bench.a(4, 1);
    assert_eq!((bench.requests(), bench.receiver.due_ns()), (vec![], Some(bench.now_ns + MS)));
    bench.tick(MS);
    assert_eq!(bench.requests(), [(server(0), 2, 2)]);
    // Nobody answers: the next server is asked, and that is said.
    bench.tick(999 * MS);
    assert_eq!(bench.requests(), []);
    bench.tick(MS);
    assert_eq!(bench.requests(), [(server(1), 2, 2)]);
    let expected = "re-request server 10.0.0.9:18000 has not answered for 1000 ms; 10.0.0.9:18001 is asked next";
    assert_eq!(bench.words(), ["session 000000001A", expected]);
    // Half an answer: the rest is asked for at once.
    bench.accept(Origin::Server(1), &packet(&SESSION, 2, 1));
    assert_eq!(bench.requests(), [(server(1), 3, 1)]);
    assert_eq!(bench.output.messages, [1, 2]);
    bench.accept(Origin::Server(1), &packet(&SESSION, 3, 1));
    assert_eq!((bench.requests(), bench.output.messages.as_slice()), (vec![], &[1, 2, 3, 4][..]));
    bench.tick(1);
    assert_eq!((bench.condition(), bench.receiver.due_ns()), (Condition::Live, None));
    assert_eq!((bench.receiver.counters().recovered, bench.receiver.counters().requests), (2, 3));
}

#[test]
fn what_nobody_answers_is_given_up_and_what_was_held_goes_on() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0)], ..config() });
    bench.a(1, 1);
    bench.tick(0);
    assert_eq!(bench.condition(), Condition::Live);
    bench.a(3, 1);
    bench.a(6, 2);
    for _ in 0..49 {
        bench.tick(100 * MS);
        bench.requests();
        bench.a(8, 0);
    }
    assert_eq!(bench.output.messages, [1]);
    bench.words();
    bench.tick(100 * MS);
    let words = [
        "messages 2 to 2 could not be recovered within 5000 ms, and are given up",
        "gap 2..3",
        "messages 4 to 5 could not be recovered within 5000 ms, and are given up",
        "gap 4..6",
    ];
    assert_eq!(bench.words(), words);
    assert_eq!(bench.output.messages, [1, 3, 6, 7]);
    assert_eq!(bench.condition(), Condition::Stale(Stale::Incomplete));
    // It came after all: nobody hears of it twice.
    bench.accept(Origin::Server(0), &packet(&SESSION, 2, 1));
    assert_eq!(bench.output.messages, [1, 3, 6, 7]);
    assert_eq!(bench.words(), ["re-request server 10.0.0.9:18000 answers again"]);
    assert_eq!((bench.receiver.counters().gaps, bench.receiver.counters().gap_messages), (2, 3));
    // Books begin anew with the next session.
    bench.accept(Origin::Line(0), &packet(b"NEXT      ", 1, 1));
    bench.accept(Origin::Line(1), &packet(b"NEXT      ", 1, 1));
    bench.tick(0);
    assert_eq!(bench.condition(), Condition::Live);
}

#[test]
fn joining_late_catches_up_from_the_first_message() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0)], ..config() });
    bench.tick(0);
    assert_eq!(bench.condition(), Condition::CatchingUp);
    let mut live = 500_000;
    bench.a(live, 0);
    let mut turns = 0;
    while bench.receiver.expected().unwrap() < live {
        turns += 1;
        // A millisecond there and back, thirty messages a reply, one of twenty lost; the market goes on meanwhile.
        let requests = bench.requests();
        for (index, (_, sequence, count)) in requests.into_iter().enumerate() {
            if (index + turns) % 20 != 0 {
                bench.accept(Origin::Server(0), &packet(&SESSION, sequence, u64::from(count).min(30)));
            }
        }
        // What has been missing for less than a tenth of a second is nothing to be behind with.
        if bench.receiver.expected().unwrap() < live - 300 {
            assert_eq!(bench.condition(), Condition::CatchingUp);
        }
        bench.a(live, 3);
        live += 3;
        bench.tick(MS);
        assert!(turns < 60_000, "{:?} of {live}", bench.receiver.expected());
    }
    bench.tick(MS);
    assert_eq!(bench.condition(), Condition::Live);
    assert_eq!(bench.output.messages, (1..live).collect::<Vec<_>>());
    // Ten thousand a second is the rate that is allowed, and it is reached.
    let FeedCounters { requests, recovered, .. } = bench.receiver.counters();
    assert!(requests <= 10 * turns as u64 + 64 && requests < recovered / 20, "{requests} in {turns} ms, {recovered}");
    assert!(turns < 3_000, "{turns} ms for half a million messages");
}

#[test]
fn the_ends_of_sessions_wait_for_what_is_missing() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0)], ..config() });
    bench.a(1, 1);
    bench.accept(Origin::Line(0), &end(4));
    assert_eq!(bench.words(), ["session 000000001A"]);
    bench.accept(Origin::Server(0), &packet(&SESSION, 2, 2));
    bench.accept(Origin::Line(1), &end(4));
    assert_eq!(bench.words(), ["end 4"], "once");
    assert_eq!(bench.output.messages, [1, 2, 3]);
}

#[test]
fn sessions_change_and_do_not_change_back() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0)], ..config() });
    bench.a(1, 1);
    bench.a(3, 1);
    let next = b"000000002A";
    bench.accept(Origin::Line(0), &packet(next, 1, 1));
    // The slower line, and an answer that comes too late.
    bench.b(1, 3);
    bench.accept(Origin::Server(0), &packet(&SESSION, 2, 1));
    bench.accept(Origin::Line(1), &packet(next, 1, 2));
    let words = bench.words();
    assert_eq!((words.len(), words[0].as_str(), words[2].as_str()), (3, "session 000000001A", "session 000000002A"));
    let told =
        "a packet from 10.0.0.9:18099 by line A: session \"000000002A\", message 1, where 2 comes next in session";
    assert!(words[1].starts_with(told), "{}", words[1]);
    // Until both lines spoke of it, the old one went on.
    assert_eq!(bench.output.messages, [1, 2, 3, 1, 2]);
    assert_eq!((bench.receiver.counters().stale, bench.receiver.counters().sessions), (0, 2));
    // A server does not begin a session.
    bench.accept(Origin::Server(0), &packet(b"000000003A", 1, 1));
    let told = "re-request server 10.0.0.9:18000 cannot be right: it has sent messages of another session; ";
    assert!(bench.words()[0].starts_with(told));
}

#[test]
fn another_session_than_the_configured_one_is_dropped_and_told() {
    let mut bench = Bench::new(ReceiverConfig { session: Some(SESSION), ..config() });
    bench.accept(Origin::Line(0), &packet(b"OTHER     ", 1, 2));
    bench.a(1, 1);
    let told = "a packet of session \"OTHER\" from 10.0.0.9:18099, where \"000000001A\" is configured; it is dropped";
    assert_eq!(bench.words(), [told, "session 000000001A"]);
    assert_eq!((bench.output.messages.as_slice(), bench.receiver.counters().stale), (&[1][..], 2));
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    let mut bench = Bench::new(config());
    bench.a(1, 1);
    bench.accept(Origin::Line(0), b"");
    bench.accept(Origin::Line(1), b"short");
    bench.accept(Origin::Line(0), &[0xEE; 60]);
    bench.accept(Origin::Line(0), &packet(&SESSION, 1 << 60, 1));
    bench.accept(Origin::Line(0), &packet(&SESSION, 2, 2)[..35]);
    bench.a(2, 2);
    bench.tick(10 * MS);
    let words = ["session 000000001A", "malformed 0", "malformed 0", "malformed 0", "malformed 10", "malformed 30"];
    assert_eq!(bench.words(), words);
    assert_eq!((bench.output.messages.as_slice(), bench.receiver.counters().malformed), (&[1, 2, 3][..], 5));
}

#[test]
fn going_back_within_a_session_is_told_once() {
    let mut bench = Bench::new(config());
    bench.a(1, 9);
    bench.tick(200 * MS);
    bench.a(1, 1);
    bench.a(2, 1);
    let words = bench.words();
    let told = "a packet from 10.0.0.9:18099 by line A: message 1, back, where 10 comes next in session \"000000001A\"";
    assert!(words.len() == 2 && words[1].starts_with(told), "{words:?}");
    // The other line goes on: it is only this one.
    bench.b(10, 1);
    bench.a(3, 1);
    let told = "line A has gone back from message 10 to 4 within its session; what was passed on already is not repeated, and \
                11 comes next";
    assert_eq!(bench.words(), [told]);
    assert_eq!((bench.receiver.counters().duplicates, bench.receiver.counters().suspected), (1, 2));
    // A copy of the last packet is nothing of the kind.
    bench.b(11, 1);
    bench.tick(200 * MS);
    bench.b(11, 1);
    assert_eq!(bench.words(), [] as [&str; 0]);
}

#[test]
fn silence_is_told_of_lines_and_of_the_feed() {
    let mut bench = Bench::new(config());
    bench.a(1, 1);
    bench.tick(0);
    for _ in 0..4 {
        bench.a(2, 0);
        bench.tick(1_000 * MS);
    }
    let told = "line B has been silent for 4000 ms while packets came by another";
    assert_eq!(bench.words(), ["session 000000001A", told]);
    assert_eq!((bench.condition(), bench.receiver.lines(bench.now_ns)[1].silent_ns), (Condition::Live, None));
    bench.b(2, 0);
    bench.tick(0);
    assert_eq!(bench.words(), ["line B has packets again"]);
    bench.tick(3_001 * MS);
    assert_eq!(bench.condition(), Condition::Stale(Stale::Silent));
    bench.a(2, 1);
    bench.tick(0);
    assert_eq!(bench.condition(), Condition::Live);
}

#[test]
fn a_full_window_drops_what_is_furthest_and_asks_for_it_again() {
    let mut bench = Bench::new(ReceiverConfig { servers: vec![server(0)], window_bytes: 1, ..config() });
    bench.a(1, 1);
    for sequence in 3..303 {
        bench.a(sequence, 1);
    }
    let FeedCounters { dropped, .. } = bench.receiver.counters();
    assert!(dropped > 100, "{dropped}");
    bench.tick(2 * MS);
    for _ in 0..100 {
        for (_, sequence, count) in bench.requests() {
            bench.accept(Origin::Server(0), &packet(&SESSION, sequence, u64::from(count).min(30)));
        }
        bench.tick(MS);
    }
    assert_eq!(bench.output.messages, (1..303).collect::<Vec<_>>());
    assert!(bench.output.troubles.iter().all(|kind| *kind == "window_full"), "{:?}", bench.output.troubles);
}
