//! What requests cost a pass, and that they come to the same in however many passes.

use std::collections::BTreeSet;
use std::time::Duration;

use fanblade_ring::subject::matches;
use fanblade_ring::{Lane, Reader, RingConfig, Writer};
use nix::time::{ClockId, clock_gettime};

use super::super::Set;
use super::super::subject::NO_FILTER;
use super::*;
use crate::ids::{SessionId, SubjectId};
use crate::limits::Limits;
use crate::protocol::Mode;

struct Bench {
    writer: Writer,
    reader: Reader,
    directory: Directory,
    subjects: Vec<String>,
    /// The most steps, and the most CPU, that one pass has taken.
    steps_max: u64,
    cpu_max: Duration,
}

impl Bench {
    fn new(subjects: impl Iterator<Item = String>) -> Self {
        let config = RingConfig { index_len: 1 << 16, lane_len: [1 << 16; 4], subjects_max: 1 << 15, checksums: false };
        let writer = Writer::create(&config, "test-1").unwrap();
        let reader = writer.open_reader().unwrap();
        let directory = Directory::new(Vec::new(), 8);
        let mut bench = Self { writer, reader, directory, subjects: Vec::new(), steps_max: 0, cpu_max: Duration::ZERO };
        bench.create(subjects);
        assert!(bench.directory.learn(&bench.reader, &mut Steps::unlimited()));
        bench
    }

    fn create(&mut self, subjects: impl Iterator<Item = String>) {
        for subject in subjects {
            self.writer.subject(&subject, 1).unwrap();
            self.subjects.push(subject);
        }
    }

    /// Does something in passes of `count` steps until it is done; how many passes it took.
    fn passes(&mut self, count: u64, mut go_on: impl FnMut(&mut Self, &mut Steps) -> bool) -> u64 {
        let mut steps = Steps::new(0);
        for pass in 1.. {
            steps.begin(count);
            let begun = thread_cpu();
            let is_done = steps.are_used_up() || go_on(self, &mut steps);
            self.cpu_max = self.cpu_max.max(thread_cpu() - begun);
            self.steps_max = self.steps_max.max(steps.spent());
            if is_done && steps.spent() > 0 {
                return pass;
            }
        }
        0
    }

    /// As a worker does it; the session's set.
    fn subscribe(&mut self, session: u32, set: Set, filters: &[String], count: u64) -> (Set, Vec<u32>) {
        let mut preparation = Preparation::default();
        self.passes(count, |bench, steps| {
            bench.directory.prepare(filters, &mut preparation, usize::MAX, steps);
            preparation.state() == Prepared::Wholly
        });
        let (grown, gained) = self.directory.with(SessionId(session), set, Lane::Json, filters, Mode::All);
        self.change(session, set, grown);
        self.directory.end_preparation(preparation);
        (grown, gained.gained.iter().map(|subject| subject.0).collect())
    }

    fn change(&mut self, session: u32, old: Set, new: Set) {
        if old != new {
            self.directory.acquire(new);
            self.directory.release(SessionId(session), old);
        }
    }
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn market(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("/NASDAQ/S{}/{}", n / 5, ["bbo", "book", "trade", "status", "imbalance"][n % 5]))
}

/// Of eight segments, which most patterns can select.
fn deep(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("/plant/hall/line/cell/machine/axis/motor/value{n}"))
}

/// All patterns with stars in the places of some of these seven segments.
fn starred() -> Vec<String> {
    let segments = ["plant", "hall", "line", "cell", "machine", "axis", "motor"];
    let starred = |stars: usize, (place, segment): (usize, &'static str)| {
        if stars >> place & 1 == 1 { "/*".to_owned() } else { format!("/{segment}") }
    };
    let pattern = |stars: usize| -> String {
        segments.into_iter().enumerate().map(|segment| starred(stars, segment)).chain(["/*".to_owned()]).collect()
    };
    (0..1 << segments.len()).map(pattern).collect()
}

fn texts(count: usize, text: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(text).collect()
}

/// What a subscriber has been seen to do to a worker, and worse: none of it takes more than a pass has, but for what
/// cannot be left in the midst, and that is paid for.
#[test]
fn no_request_takes_more_than_a_pass_has() {
    let long = "x".repeat(100);
    let variants: [(&str, Vec<String>, Vec<String>); 6] = [
        ("new patterns of a market", market(10_000).collect(), texts(850, |n| format!("/NASDAQ/*/new{n}"))),
        (
            "wide ones",
            market(10_000).collect(),
            texts(13, |n| {
                format!("/{}", ["*", "NASDAQ"][n % 2])
                    + ["/**", "/*/bbo", "/*/*", "/S7/*", "/S8/bbo", "/*/trade", "/*/book"][n / 2]
            }),
        ),
        ("many stars", deep(5_000).collect(), starred()),
        ("long segments", market(10_000).collect(), texts(900, |n| format!("/*/{long}{n}/*"))),
        ("subjects that are not there", market(10_000).collect(), texts(1_000, |n| format!("/NASDAQ/NOBODY{n}/bbo"))),
        ("subjects that are there", market(10_000).collect(), market(1_000).collect()),
    ];
    let count = Limits::default().pass_steps_max;
    for (name, subjects, filters) in variants {
        let mut bench = Bench::new(subjects.into_iter());
        let (set, gained) = bench.subscribe(1, Set::NONE, &filters, count);
        let selects = |subject: &String| filters.iter().any(|filter| matches(filter, subject));
        let expected = bench.subjects.iter().filter(|subject| selects(subject)).count();
        assert_eq!(gained.len(), expected, "{name}");
        // Nobody has them any more.
        bench.change(1, set, Set::NONE);
        bench.passes(count, |bench, steps| {
            steps.take(1);
            bench.directory.let_leave(steps);
            !bench.directory.is_leaving()
        });
        assert!(bench.directory.filter_ids.is_empty() && bench.directory.filters_counted() == 0, "{name}");
        assert!(bench.directory.subjects.iter().all(|entry| entry.patterns.is_empty() && entry.exact == NO_FILTER));
        println!("{name}: at most {} steps and {:?} of CPU in a pass", bench.steps_max, bench.cpu_max);
        // A look, and an entry for what it finds.
        assert!(bench.steps_max <= 2 * count + FILTER_STEPS, "{name}: {} steps", bench.steps_max);
        // Tests are built for people who wait for them. Released, this is a fifth.
        assert!(bench.cpu_max < Duration::from_millis(25), "{name}: {:?}", bench.cpu_max);
    }
}

#[test]
fn new_subjects_are_learned_in_parts_however_many_patterns_are_held() {
    let mut bench = Bench::new(market(10));
    let held = texts(99_000, |n| format!("/NASDAQ/*/held{n}"));
    let mut set = Set::NONE;
    for (session, filters) in (0..).zip(held.chunks(1_000)) {
        (set, _) = bench.subscribe(session, Set::NONE, filters, 1 << 20);
    }
    let (wide, _) = bench.subscribe(200, Set::NONE, &[starred(), vec!["/NASDAQ/**".to_owned()]].concat(), 1 << 20);
    (bench.steps_max, bench.cpu_max) = (0, Duration::ZERO);
    bench.create(deep(2_000));
    bench.create((0..2_000).map(|n| format!("/NASDAQ/N{n}/held{n}")));
    let count = Limits::default().pass_steps_max;
    let passes = bench.passes(count, |bench, steps| {
        let Bench { directory, reader, .. } = bench;
        directory.learn(reader, steps)
    });
    println!("{passes} passes of at most {} steps and {:?} of CPU", bench.steps_max, bench.cpu_max);
    assert_eq!(bench.directory.subjects.len(), 4_010);
    assert_eq!(bench.directory.subject_count(wide), 128 * 2_000 + 10 + 2_000);
    assert_eq!(bench.directory.subject_count(set), 0, "of the last thousand");
    assert!(passes > 2 && bench.steps_max <= count + 512 * LOOK_STEPS, "{} steps", bench.steps_max);
    assert!(bench.cpu_max < Duration::from_millis(25), "{:?}", bench.cpu_max);
}

/// Searches that are left in the midst, subjects that come meanwhile, requests that meet at one pattern, sessions that
/// go before theirs is done: who stays has what it asked for.
#[test]
fn what_is_done_in_parts_is_what_would_be_done_at_once() {
    let mut bench = Bench::new(market(500));
    let filters: Vec<String> =
        ["/NASDAQ/**", "/*/*/bbo", "/NASDAQ/S7/*", "/NASDAQ/S120/bbo", "/X/**", "/NASDAQ/*/status"]
            .map(Into::into)
            .into();
    let mut preparations: [Preparation; 3] = Default::default();
    let mut steps = Steps::new(0);
    let mut is_given_up = false;
    for round in 0.. {
        bench.create((0..2).map(|n| format!("/NASDAQ/S{}/bbo", 110 + round * 2 + n)));
        steps.begin(7);
        assert!(bench.directory.learn(&bench.reader, &mut Steps::unlimited()));
        let at = round % preparations.len();
        bench.directory.prepare(&filters, &mut preparations[at], usize::MAX, &mut steps);
        if round == 20 {
            is_given_up = true;
            bench.directory.end_preparation(std::mem::take(&mut preparations[2]));
        }
        if preparations[..2].iter().all(|preparation| preparation.state() == Prepared::Wholly) {
            assert!(is_given_up && round > 50, "{round}");
            break;
        }
        bench.directory.let_leave(&mut Steps::new(3));
    }
    let (set, gained) = bench.directory.with(SessionId(1), Set::NONE, Lane::Json, &filters, Mode::All);
    bench.directory.acquire(set);
    preparations.into_iter().for_each(|preparation| bench.directory.end_preparation(preparation));
    bench.create((0..3).map(|n| format!("/X/{n}/bbo")));
    assert!(bench.directory.learn(&bench.reader, &mut Steps::unlimited()));
    let expected: BTreeSet<u32> = (0..)
        .zip(&bench.subjects)
        .filter_map(|(number, subject)| filters.iter().any(|filter| matches(filter, subject)).then_some(number))
        .collect();
    assert_eq!(bench.directory.subjects_of(set).map(|subject| subject.0).collect::<BTreeSet<u32>>(), expected);
    assert_eq!(gained.gained.iter().count() + 3, expected.len());
    assert!(expected.iter().all(|subject| bench.directory.mode_in(set, SubjectId(*subject)) == Some(Mode::All)));
    bench.directory.release(SessionId(1), set);
    bench.directory.let_leave(&mut Steps::unlimited());
    assert!(bench.directory.filter_ids.is_empty() && bench.directory.filters.is_empty());
}

#[test]
fn patterns_and_subjects_that_are_not_there_are_counted_and_have_a_limit() {
    let mut bench = Bench::new(market(10));
    let mut held = Preparation::default();
    let prepare = |bench: &mut Bench, texts: &[&str], it: &mut Preparation| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        bench.directory.prepare(&texts, it, 2, &mut Steps::unlimited());
        it.state()
    };
    // What is there does not count; what comes later counts until then.
    let texts = ["/NASDAQ/S0/bbo", "/NASDAQ/S1/bbo", "/NASDAQ/*/bbo", "/NASDAQ/S7/bbo", "/NASDAQ/S0/book"];
    assert_eq!(prepare(&mut bench, &texts, &mut held), Prepared::Wholly);
    assert_eq!(bench.directory.filters_counted(), 2);
    let mut more = Preparation::default();
    assert_eq!(prepare(&mut bench, &["/NASDAQ/*/bbo", "/NASDAQ/S1/book", "/NASDAQ/S8/bbo"], &mut more), Prepared::Full);
    bench.directory.end_preparation(more);
    bench.create(["/NASDAQ/S7/bbo".to_owned()].into_iter());
    assert!(bench.directory.learn(&bench.reader, &mut Steps::unlimited()));
    assert_eq!(bench.directory.filters_counted(), 1);
    let mut more = Preparation::default();
    assert_eq!(prepare(&mut bench, &["/NASDAQ/S8/bbo"], &mut more), Prepared::Wholly);
    bench.directory.end_preparation(more);
    bench.directory.end_preparation(held);
    assert_eq!(bench.directory.filters_counted(), 0);
    assert!(bench.directory.filter_ids.is_empty());
}
