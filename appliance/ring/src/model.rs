//! The protocol under the model checker: `RUSTFLAGS="--cfg loom" cargo test -p fanblade-ring --release loom`.
//!
//! What runs here is the code of lap.rs, words.rs, table.rs, epoch.rs and wake.rs itself, over a ring of two frames
//! of eight bytes. The frames lie across word boundaries, so that each shares both of its words with its neighbours.
//! Every model has canaries: the same with one ordering broken, which must fail.

use loom::model::Builder;
use loom::sync::{Arc, Notify};
use loom::thread;

use crate::epoch::{EPOCHS_WORDS, Epoch, Epochs};
use crate::ids::{LanePosition, RingIndex};
use crate::lap::Lap;
use crate::layout::SUBJECT_WORDS;
use crate::sync::{Ordering, Word, load_acquire};
use crate::table::SubjectTable;
use crate::wake::{Handshake, publisher_fence};
use crate::words::{load_bytes, load_record, store_bytes, store_record};

/// Frames that the writer publishes: the third overwrites the first.
const FRAMES: u64 = 3;
const CAPACITY: u64 = 2;

struct Ring {
    intact: Word,
    oldest: Word,
    tail_intent: Word,
    tail: Word,
    slots: [([Word; 2], Word); CAPACITY as usize],
    lane: [Word; 2],
}

impl Ring {
    fn new() -> Self {
        let word = || Word::new(0);
        Self {
            intact: word(),
            oldest: word(),
            tail_intent: word(),
            tail: word(),
            slots: std::array::from_fn(|_| ([word(), word()], word())),
            lane: [word(), word()],
        }
    }

    fn lap(&self) -> Lap<'_> {
        Lap { intact: &self.intact, oldest: &self.oldest, tail_intent: &self.tail_intent, tail: &self.tail }
    }

    fn slot(&self, index: RingIndex) -> &([Word; 2], Word) {
        &self.slots[index.place(self.slots.len())]
    }

    /// As `Writer` does it.
    fn publish(&self, index: RingIndex) {
        self.lap().claim(intact(index), index.next());
        self.write(index);
        self.lap().commit(index.next());
    }

    fn write(&self, index: RingIndex) {
        store_bytes(&self.lane, position(index), &frame(index));
        let (fields, stamp) = self.slot(index);
        store_record(fields, stamp, &record(index), index.stamp());
    }

    /// As `Reader` does it: the descriptor, the frame, the validation.
    fn read(&self, index: RingIndex) -> Option<([u64; 2], Vec<u8>)> {
        let seen = self.read_unchecked(index)?;
        self.lap().is_intact(index).then_some(seen)
    }

    fn read_unchecked(&self, index: RingIndex) -> Option<([u64; 2], Vec<u8>)> {
        let (fields, stamp) = self.slot(index);
        if load_acquire(stamp) != index.stamp() {
            return None;
        }
        let record = load_record(fields);
        let mut bytes = Vec::new();
        load_bytes(&self.lane, position(index), 8, &mut bytes);
        Some((record, bytes))
    }
}

/// What is left whole by the frame at this index.
fn intact(index: RingIndex) -> RingIndex {
    index.next().back(CAPACITY)
}

fn position(index: RingIndex) -> LanePosition {
    LanePosition(4 + 8 * index.0)
}

fn record(index: RingIndex) -> [u64; 2] {
    [position(index).0, index.0 * 3]
}

fn frame(index: RingIndex) -> [u8; 8] {
    [u8::try_from(index.0 + 1).unwrap(); 8]
}

fn assert_whole(index: RingIndex, seen: ([u64; 2], Vec<u8>)) {
    assert_eq!(seen, (record(index), frame(index).to_vec()), "a torn frame passed as {index}");
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = None;
    builder.check(model);
}

/// One writer, and a reader that reads what it believes to be the newest frame.
fn race(write: fn(&Ring, RingIndex), read: fn(&Ring, RingIndex) -> Option<([u64; 2], Vec<u8>)>) {
    check(move || {
        let ring = Arc::new(Ring::new());
        let writer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (0..FRAMES).for_each(|index| write(&ring, RingIndex(index))))
        };
        if let Some(index) = ring.lap().tail().previous()
            && let Some(seen) = read(&ring, index)
        {
            assert_whole(index, seen);
        }
        writer.join().unwrap();
        // Now that it is quiet, the newest must be readable.
        let newest = RingIndex(FRAMES - 1);
        assert_whole(newest, read(&ring, newest).unwrap());
    });
}

#[test]
fn loom_a_validated_frame_is_whole() {
    race(Ring::publish, Ring::read);
}

#[test]
#[should_panic(expected = "a torn frame passed")]
fn loom_canary_reader_that_does_not_validate() {
    race(Ring::publish, Ring::read_unchecked);
}

#[test]
#[should_panic(expected = "a torn frame passed")]
fn loom_canary_writer_that_claims_too_late() {
    let late = |ring: &Ring, index: RingIndex| {
        ring.write(index);
        ring.lap().claim(intact(index), index.next());
        ring.lap().commit(index.next());
    };
    race(late, Ring::read);
}

#[test]
#[should_panic(expected = "a torn frame passed")]
fn loom_canary_writer_without_its_fence() {
    let unfenced = |ring: &Ring, index: RingIndex| {
        ring.intact.store(intact(index).0, Ordering::Release);
        ring.write(index);
        ring.lap().commit(index.next());
    };
    race(unfenced, Ring::read);
}

#[test]
#[should_panic(expected = "a torn frame passed")]
fn loom_canary_reader_without_its_fence() {
    let unfenced = |ring: &Ring, index: RingIndex| {
        let seen = ring.read_unchecked(index)?;
        (index.0 >= ring.intact.load(Ordering::Acquire)).then_some(seen)
    };
    race(Ring::publish, unfenced);
}

/// A subject whose newest frame is refreshed: who sees `tail` or `oldest` must find a `newest` that is not older.
fn newest(refresh: fn(Lap<'_>, SubjectTable<'_>)) {
    check(move || {
        let ring = Arc::new((Ring::new(), Word::new(0), std::array::from_fn::<_, SUBJECT_WORDS, _>(|_| Word::new(0))));
        let writer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let table = SubjectTable { count: &ring.1, entries: &ring.2 };
                table.create(0, "/V/A/bbo", 2);
                table.set_newest(0, RingIndex(0));
                ring.0.lap().commit(RingIndex(1));
                refresh(ring.0.lap(), table);
            })
        };
        let table = SubjectTable { count: &ring.1, entries: &ring.2 };
        let (tail, oldest) = (ring.0.lap().tail(), ring.0.lap().oldest());
        let newest = table.newest(0);
        assert!(tail.previous().is_none_or(|last| newest.is_some_and(|newest| newest >= last)), "older than tail");
        assert!(oldest == RingIndex(0) || newest.is_some_and(|newest| newest >= oldest), "older than oldest");
        if let Some(subject) = table.read(0) {
            assert_eq!((&*subject.name, subject.channel), ("/V/A/bbo", 2));
        }
        writer.join().unwrap();
    });
}

#[test]
fn loom_the_newest_frame_is_never_older_than_what_was_seen() {
    newest(|lap, table| {
        table.set_newest(0, RingIndex(1));
        lap.commit(RingIndex(2));
        lap.retire(RingIndex(1));
    });
}

#[test]
#[should_panic(expected = "older than tail")]
fn loom_canary_tail_before_newest() {
    newest(|lap, table| {
        lap.commit(RingIndex(2));
        table.set_newest(0, RingIndex(1));
    });
}

#[test]
#[should_panic(expected = "older than oldest")]
fn loom_canary_retired_before_the_copy() {
    newest(|lap, table| {
        lap.retire(RingIndex(1));
        table.set_newest(0, RingIndex(1));
        lap.commit(RingIndex(2));
    });
}

#[test]
fn loom_an_epoch_is_read_whole() {
    let epoch = |generation: u32| Epoch {
        generation,
        start: RingIndex(u64::from(generation) * 7),
        name: format!("e{generation}"),
        floor: u64::from(generation) * 3,
    };
    check(move || {
        let words = Arc::new((Word::new(0), std::array::from_fn::<_, EPOCHS_WORDS, _>(|_| Word::new(0))));
        Epochs { generation: &words.0, places: &words.1 }.begin(&epoch(1));
        let writer = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                let epochs = Epochs { generation: &words.0, places: &words.1 };
                epochs.begin(&epoch(2));
                epochs.begin(&epoch(3));
            })
        };
        let seen = Epochs { generation: &words.0, places: &words.1 }.read();
        assert_eq!(seen, epoch(seen.generation));
        writer.join().unwrap();
    });
}

/// A worker that sleeps when there is nothing to do, and a publisher that publishes so many frames and then looks once.
/// If the bell is not rung for a sleeper, nothing ever wakes it, and loom reports the deadlock.
fn sleep(frames: u64, prepare: fn(&Handshake), fence: fn()) {
    check(move || {
        let shared = Arc::new((Handshake::new(), Word::new(0), Notify::new()));
        let publisher = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (handshake, tail, bell) = &*shared;
                (1..=frames).for_each(|published| tail.store(published, Ordering::Release));
                fence();
                if handshake.must_ring() {
                    bell.notify();
                }
            })
        };
        let (handshake, tail, bell) = &*shared;
        let mut seen = 0;
        while seen < frames {
            prepare(handshake);
            if load_acquire(tail) == seen {
                bell.wait();
            }
            handshake.clear();
            seen = load_acquire(tail);
        }
        publisher.join().unwrap();
    });
}

#[test]
fn loom_nobody_sleeps_on_a_full_ring() {
    sleep(1, Handshake::prepare, publisher_fence);
}

#[test]
fn loom_one_look_serves_several_frames() {
    sleep(2, Handshake::prepare, publisher_fence);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_canary_sleeper_without_its_fence() {
    sleep(1, |handshake| handshake.sleeping.store(true, Ordering::Release), publisher_fence);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_canary_publisher_without_its_fence() {
    sleep(1, Handshake::prepare, || loom::sync::atomic::fence(Ordering::AcqRel));
}
