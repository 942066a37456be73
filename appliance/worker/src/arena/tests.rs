//! The arena against a model that has a list for each session.

use std::collections::BTreeMap;

use fanblade_ring::{LanePosition, SubjectId};
use fanblade_testkit::allocations;

use super::*;
use crate::batching::Batching;

fn descriptor(index: u64) -> Descriptor {
    let frame = |lane: u64| FrameRef { position: position(index, lane), length: 10, ..FrameRef::default() };
    Descriptor {
        index: RingIndex(index),
        seq: index,
        prev: 0,
        prev_index: RingIndex(0),
        ts_feed_ns: UnixNs(0),
        ts_publish_ns: UnixNs(index * 3),
        subject: SubjectId(0),
        channel: 0,
        flags: 0,
        origin: RingIndex(index),
        lanes: std::array::from_fn(|lane| frame(lane as u64)),
    }
}

fn position(index: u64, lane: u64) -> LanePosition {
    LanePosition(index * 100 + lane)
}

fn window(ms_max: u32) -> Window {
    Window::of(&[Batching { subjects: "/**".to_owned(), ms_max, bytes_max: 300 }], "/a/b")
}

/// One session: its `member`, and what it is owed, as `(index, conflatable)`.
struct Modelled {
    member: u32,
    owed: Vec<(u64, bool)>,
    due_us: RunningUs,
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn place(&mut self, end: u64) -> usize {
        usize::try_from(self.below(end)).unwrap()
    }
}

fn lane(session: u32) -> Lane {
    [Lane::Json, Lane::Binary][session as usize % 2]
}

/// Frames as they come, with windows and without, in passes; sessions that leave and come again; passes taken back.
#[test]
fn everybody_is_owed_what_was_added_until_it_is_due() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut arena = Arena::new();
        let mut sessions: Vec<Modelled> =
            (0..60).map(|_| Modelled { member: IDLE, owed: Vec::new(), due_us: RunningUs::NEVER }).collect();
        let (mut index, mut now_us) = (1, RunningUs(1_000_000));
        let windows = [Window::default(), window(5), window(50)];
        for _ in 0..400 {
            now_us.0 += random.below(4_000);
            let first = index;
            for _ in 0..random.below(12) {
                let moment = Moment { now_us, before_seq: first - 1 };
                let frame = arena.begin_frame(&descriptor(index), moment.before_seq);
                let window = windows[random.place(3)];
                let mut at = random.below(20);
                while at < 60 {
                    let session = u32::try_from(at).unwrap();
                    let it = &mut sessions[usize::try_from(at).unwrap()];
                    let was_owed = !it.owed.is_empty();
                    let conflatable = random.below(2) == 0;
                    let delivery =
                        Delivery { session: SessionId(session), lane: lane(session), frame, length: 10, conflatable };
                    (it.member, _) = arena.add(it.member, delivery, window, &moment);
                    it.owed.push((index, conflatable));
                    if random.below(4) == 0 {
                        // Another filter leads to it, too.
                        let again = Delivery { conflatable: !conflatable, ..delivery };
                        assert_eq!(arena.add(it.member, again, window, &moment), (it.member, false));
                        it.owed.last_mut().unwrap().1 = false;
                    }
                    let bytes = it.owed.len() as u64 * 10;
                    let end_us = if window.is_filled_by(bytes) { now_us } else { window.end_us(now_us, session) };
                    it.due_us = if was_owed { it.due_us.min(end_us) } else { end_us };
                    at += 1 + random.below(9);
                }
                index += 1;
            }
            match random.below(20) {
                0 => {
                    arena.forget_from(RingIndex(first));
                    sessions.iter_mut().for_each(|it| it.owed.retain(|(index, _)| *index < first));
                    // The worker then has everybody fall behind.
                    for it in &mut sessions {
                        if it.member != IDLE {
                            check(&arena, it);
                            arena.leave(it.member);
                            (it.member, it.owed) = (IDLE, Vec::new());
                        }
                    }
                    arena.clear();
                }
                1..4 => {
                    let it = &mut sessions[random.place(60)];
                    if it.member != IDLE {
                        arena.leave(it.member);
                        (it.member, it.owed) = (IDLE, Vec::new());
                    }
                }
                _ => {}
            }
            sessions.iter().for_each(|it| check(&arena, it));
            let all = random.below(15) == 0;
            assert_eq!(arena.is_waited_for(), sessions.iter().any(|it| !it.owed.is_empty()));
            let is_due = |it: &Modelled| !it.owed.is_empty() && (all || it.due_us <= now_us);
            if sessions.iter().any(is_due) {
                assert!(all || arena.due_us() <= now_us);
                arena.take_due(now_us, all);
                take_idle(&mut arena, &mut sessions);
                let mut due = BTreeMap::new();
                for place in 0..arena.due_count() {
                    let Some((slot, load)) = arena.due_slot(place) else { continue };
                    assert!(due.insert(load.session, slot).is_none(), "twice");
                }
                for (at, it) in (0..).zip(&mut sessions) {
                    assert_eq!(due.get(&SessionId(at)).copied(), is_due(it).then_some(it.member), "{at}");
                }
                if random.below(3) == 0
                    && let Some((session, slot)) = due.pop_first()
                {
                    // One does not take it.
                    arena.leave(slot);
                    (sessions[session.index()].member, sessions[session.index()].owed) = (IDLE, Vec::new());
                }
                arena.settle();
                due.keys().for_each(|session| sessions[session.index()].owed.clear());
                take_idle(&mut arena, &mut sessions);
            }
            sessions.iter().for_each(|it| check(&arena, it));
        }
    }
}

fn take_idle(arena: &mut Arena, sessions: &mut [Modelled]) {
    while let Some(session) = arena.take_idle() {
        sessions[session.index()].member = IDLE;
    }
}

fn check(arena: &Arena, it: &Modelled) {
    if it.member == IDLE {
        assert!(it.owed.is_empty());
        return;
    }
    assert!(arena.owed(it.member).map(|owed| (owed.index.0, owed.conflatable)).eq(it.owed.iter().copied()));
    let first = arena.first(it.member);
    assert_eq!(first.map(|first| (first.index.0, first.published_ns.0)), it.owed.first().map(|it| (it.0, it.0 * 3)));
    let lane = arena.slots[it.member as usize].lane as u64;
    assert!(arena.owed(it.member).all(|owed| owed.position == position(owed.index.0, lane) && owed.length == 10));
}

/// A hundred thousand sessions, each owed as much as it may be: a pass ends, everything is due, and the memory goes.
#[test]
fn a_pass_has_an_end_and_its_memory_is_given_back() {
    let mut arena = Arena::new();
    let base = allocations::bytes_held();
    let moment = Moment { now_us: RunningUs(1_000), before_seq: 0 };
    let mut members = vec![IDLE; 100_000];
    let members_len = members.capacity() * size_of::<u32>();
    let mut frames = 0;
    while !arena.is_full() {
        frames += 1;
        let frame = arena.begin_frame(&descriptor(frames), 0);
        for (session, member) in (0..).zip(&mut members) {
            let delivery =
                Delivery { session: SessionId(session), lane: Lane::Json, frame, length: 1, conflatable: true };
            (*member, _) = arena.add(*member, delivery, window(60_000), &moment);
        }
    }
    assert_eq!(frames, (DELIVERIES_MAX as u64).div_ceil(100_000));
    assert_eq!(arena.due_us(), RunningUs(0), "nothing waits any longer");
    let held = usize::try_from(allocations::bytes_held() - base).unwrap();
    // Each list may have grown to twice what it holds.
    let bound = 2 * (DELIVERIES_MAX + 100_000) * size_of::<Node>() + 3 * 100_000 * size_of::<Slot>();
    assert!(held <= bound + members_len, "{held} bytes");
    arena.take_due(RunningUs(1_001), false);
    assert_eq!(arena.due_count(), 100_000);
    arena.settle();
    let mut idle = 0;
    while arena.take_idle().is_some() {
        idle += 1;
    }
    assert_eq!(idle, 100_000);
    // What one such pass needed is kept for the next, and goes when that needs much less.
    for frame in 100..110 {
        let number = arena.begin_frame(&descriptor(frame), 0);
        let delivery =
            Delivery { session: SessionId(5), lane: Lane::Json, frame: number, length: 1, conflatable: true };
        arena.add(IDLE, delivery, Window::default(), &moment);
        arena.take_due(RunningUs(2_000), false);
        arena.settle();
        assert_eq!(arena.take_idle(), Some(SessionId(5)));
    }
    // A pass like the one before asks for no memory.
    let mut counts = Vec::with_capacity(20);
    for frame in 200..220 {
        let before = allocations::count();
        let number = arena.begin_frame(&descriptor(frame), 0);
        for session in 0..1_000 {
            let delivery =
                Delivery { session: SessionId(session), lane: Lane::Json, frame: number, length: 1, conflatable: true };
            arena.add(IDLE, delivery, Window::default(), &moment);
        }
        arena.take_due(RunningUs(2_000), false);
        arena.settle();
        while arena.take_idle().is_some() {}
        counts.push(allocations::count() - before);
    }
    assert_eq!(counts.last(), Some(&0), "{counts:?}");
    let left = usize::try_from(allocations::bytes_held() - base).unwrap() - members_len;
    assert!(left <= KEPT_BYTES_MAX, "{left} bytes are left of {held}");
}

/// Of nodes and slots, and of lists of slots.
const KEPT_BYTES_MAX: usize = DELIVERIES_KEPT * 4 * (size_of::<Node>() + size_of::<Slot>() + 4 * size_of::<u32>());
