//! Sets against a model that keeps texts, and what they cost.

use std::collections::{BTreeMap, BTreeSet};

use fanblade_ring::{LANES, NewFrame, Reader, RingConfig, UnixNs, Writer};
use fanblade_testkit::allocations;

use super::*;
use crate::steps::Steps;

/// A ring, and a directory that has learned its subjects.
struct Bench {
    writer: Writer,
    reader: Reader,
    directory: Directory,
    random: Random,
}

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    /// Distinct numbers below `end`, those near 0 much more often.
    fn popular(&mut self, count: usize, end: usize) -> BTreeSet<usize> {
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            // The exponent of the power law is about one.
            let scale = 1 << self.below(end.ilog2() as usize + 1);
            chosen.insert(self.below(scale.min(end)));
        }
        chosen
    }
}

fn name(subject: usize) -> String {
    format!("/V/S{}/{}", subject / 3, ["bbo", "trade", "book"][subject % 3])
}

fn bench(subjects: usize, sharing_sessions_min: u32) -> Bench {
    let subjects_max = u32::try_from(subjects + 20).unwrap();
    let config = RingConfig { index_len: 1 << 15, lane_len: [1 << 21, 1 << 20, 0, 0], subjects_max, checksums: false };
    let mut bench = Bench {
        writer: Writer::create(&config, "test-1").unwrap(),
        reader: Writer::create(&config, "none").unwrap().open_reader().unwrap(),
        directory: Directory::new(Vec::new(), sharing_sessions_min),
        random: Random(1),
    };
    bench.reader = bench.writer.open_reader().unwrap();
    (0..subjects).for_each(|subject| bench.publish(&name(subject)));
    bench.learn();
    bench
}

impl Bench {
    fn publish(&mut self, subject: &str) {
        let subject = self.writer.subject(subject, 1).unwrap();
        let update = NewFrame { subject, channel: 1, seq: 1, ts_feed_ns: UnixNs(0), ts_publish_ns: UnixNs(0) };
        self.writer.publish(&update, &[&b"{}"[..]; LANES]).unwrap();
    }

    fn learn(&mut self) {
        assert!(self.directory.learn(&self.reader, &mut Steps::unlimited()));
    }

    /// As the worker does it.
    fn subscribe(&mut self, session: u32, set: &mut Set, filters: &[String], mode: Mode) -> Vec<u32> {
        let (grown, asked) = self.directory.with(SessionId(session), *set, Lane::Json, filters, mode);
        self.change(session, set, grown);
        asked.gained.iter().map(|subject| subject.0).collect()
    }

    fn unsubscribe(&mut self, session: u32, set: &mut Set, filters: &[String]) {
        let shrunk = self.directory.without(SessionId(session), *set, Lane::Json, filters);
        self.change(session, set, shrunk);
    }

    fn change(&mut self, session: u32, set: &mut Set, new: Set) {
        let old = std::mem::replace(set, new);
        if old != new {
            self.directory.acquire(new);
            self.directory.release(SessionId(session), old);
        }
    }
}

/// What a session should have.
type Model = BTreeMap<String, Mode>;

fn modelled(model: &Model, subjects: &[String]) -> BTreeMap<u32, Mode> {
    let mut wanted = BTreeMap::new();
    for (number, subject) in (0..).zip(subjects) {
        let modes = model.iter().filter(|(text, _)| crate::subject::matches(text, subject)).map(|(_, mode)| *mode);
        if let Some(mode) = modes.max() {
            wanted.insert(number, mode);
        }
    }
    wanted
}

#[test]
fn sets_are_what_was_asked_for_alone_and_shared() {
    for sharing_sessions_min in [1, 3, 8, u32::MAX] {
        let mut bench = bench(60, sharing_sessions_min);
        let mut subjects: Vec<String> = (0..60).map(name).collect();
        let mut sessions: Vec<(Set, Model)> = (0..40).map(|_| (Set::NONE, Model::new())).collect();
        let patterns = ["/V/**", "/V/*/bbo", "/V/S1/*", "/**", "/*/S2/book", "/V/S70/*", "/V/*/nothing"];
        let mut shared = 0;
        for round in 0..3_000 {
            let at = bench.random.below(sessions.len());
            let (mut set, mut model) = std::mem::replace(&mut sessions[at], (Set::NONE, Model::new()));
            let session = u32::try_from(at).unwrap() * 7;
            let mode = [Mode::Conflate, Mode::All][bench.random.below(2)];
            let count = 1 + bench.random.below(6);
            match bench.random.below(8) {
                // Few names, so that sets meet; some of subjects that do not exist yet.
                0..4 => {
                    let filters: Vec<String> = (0..count)
                        .map(|_| match bench.random.below(6) {
                            0 => patterns[bench.random.below(patterns.len())].to_owned(),
                            _ => name(bench.random.below(70)),
                        })
                        .collect();
                    let before = modelled(&model, &subjects);
                    let gained = bench.subscribe(session, &mut set, &filters, mode);
                    model.extend(filters.into_iter().map(|text| (text, mode)));
                    let after = modelled(&model, &subjects);
                    let expected: Vec<u32> =
                        after.into_keys().filter(|subject| !before.contains_key(subject)).collect();
                    assert_eq!(gained, expected, "round {round}");
                }
                // A set that others come to, too.
                4 => {
                    let all: Vec<String> = model.keys().cloned().collect();
                    bench.unsubscribe(session, &mut set, &all);
                    let filters = [name(1), name(2), patterns[bench.random.below(2)].to_owned()];
                    bench.subscribe(session, &mut set, &filters, Mode::All);
                    model = filters.into_iter().map(|text| (text, Mode::All)).collect();
                }
                5..7 => {
                    let filters: Vec<String> = model.keys().take(count).cloned().collect();
                    bench.unsubscribe(session, &mut set, &filters);
                    model.retain(|text, _| !filters.contains(text));
                }
                _ if subjects.len() < 75 && round % 5 == 0 => {
                    subjects.push(name(subjects.len()));
                    bench.publish(&name(subjects.len() - 1));
                    bench.learn();
                }
                _ => {
                    bench.change(session, &mut set, Set::NONE);
                    model.clear();
                }
            }
            sessions[at] = (set, model);
            if round % 50 == 0 {
                check(&bench, &sessions, &subjects);
            }
            shared += u32::from(bench.directory.group_of(sessions[at].0).is_some());
        }
        assert_eq!(shared > 0, sharing_sessions_min < u32::MAX, "{shared} shared");
        for (at, (mut set, _)) in (0..).zip(sessions) {
            bench.change(at * 7, &mut set, Set::NONE);
        }
        bench.directory.sweep();
        bench.directory.let_leave(&mut Steps::unlimited());
        assert_eq!(bench.directory.filters_counted(), 0);
        assert_eq!((bench.directory.filter_ids.len(), bench.directory.own_lists()), (0, (0, 0)));
        assert!(bench.directory.lists.counts.is_empty() && bench.directory.group_ids.is_empty());
        assert!(bench.directory.subjects.iter().all(|entry| entry.exact == NO_FILTER && entry.patterns.is_empty()));
    }
}

fn check(bench: &Bench, sessions: &[(Set, Model)], subjects: &[String]) {
    let directory = &bench.directory;
    let mut holders: Vec<BTreeMap<u32, Mode>> = vec![BTreeMap::new(); subjects.len()];
    let (mut lists, mut subscriptions) = (0, 0);
    for (at, (set, model)) in (0..).zip(sessions) {
        let texts: Model = directory.filter_texts(*set).map(|(text, mode)| (text.to_owned(), mode)).collect();
        assert_eq!(&texts, model);
        assert_eq!(directory.filter_count(*set), model.len());
        assert_eq!(*set == Set::NONE, model.is_empty());
        let wanted = modelled(model, subjects);
        let found: BTreeSet<u32> = directory.subjects_of(*set).map(|subject| subject.0).collect();
        assert!(found.iter().eq(wanted.keys()));
        assert!(directory.subject_count(*set) >= found.len());
        for subject in 0..u32::try_from(subjects.len()).unwrap() {
            assert_eq!(
                directory.mode_in(*set, SubjectId(subject)),
                wanted.get(&subject).copied(),
                "{}",
                subjects[subject as usize]
            );
        }
        if let SetKind::Own(_) = set.kind() {
            assert_eq!(directory.is_conflating(*set), model.values().all(|mode| *mode == Mode::Conflate));
            lists += 1;
            subscriptions += model.len() as u64;
            for (subject, mode) in wanted {
                holders[subject as usize].insert(at * 7, mode);
            }
        }
    }
    assert_eq!(directory.own_lists(), (lists, subscriptions));
    for (entry, expected) in directory.subjects.iter().zip(holders) {
        let mut found = BTreeMap::new();
        for (session, mode) in directory.holders_of(entry).flat_map(Holders::iter) {
            let known = found.entry(session.0).or_insert(mode);
            *known = mode.max(*known);
        }
        assert_eq!(found, expected);
    }
}

/// Lists at random by popularity, as people have them.
fn fill(bench: &mut Bench, sessions: u32, count: usize, subjects: usize) -> Vec<Set> {
    let mut sets = vec![Set::NONE; sessions as usize];
    for (session, set) in (0..).zip(&mut sets) {
        let filters: Vec<String> = bench.random.popular(count, subjects).into_iter().map(name).collect();
        bench.subscribe(session, set, &filters, Mode::Conflate);
    }
    sets
}

#[test]
fn a_subscription_takes_sixteen_bytes_at_most_and_gives_them_back() {
    for (sessions, count, subjects) in [(5_000, 50, 2_000), (5_000, 200, 2_000), (10_000, 50, 8_000)] {
        let mut bench = bench(subjects, 8);
        let base = allocations::bytes_held();
        let mut sets = fill(&mut bench, sessions, count, subjects);
        let held = |sets: &Vec<Set>| {
            usize::try_from(allocations::bytes_held() - base).unwrap() - sets.capacity() * size_of::<Set>()
        };
        let subscriptions = sessions as usize * count;
        let full = held(&sets);
        println!("{sessions} x {count} of {subjects}: {:.2} bytes a subscription", full as f64 / subscriptions as f64);
        assert!(full <= 16 * subscriptions, "{full} bytes for {subscriptions}");
        let predicted = bytes_of_own_lists(sessions as usize, subscriptions, subjects);
        assert!(full <= predicted && predicted <= full * 3, "{full} bytes, {predicted} predicted");
        // Half of each list goes; then a change at a time, for as many times as there are subscriptions.
        for (session, set) in (0..).zip(&mut sets) {
            let texts: Vec<String> = bench.directory.filter_texts(*set).map(|(text, _)| text.to_owned()).collect();
            bench.unsubscribe(session, set, &texts[count / 2..]);
        }
        let predicted = bytes_of_own_lists(sessions as usize, subscriptions / 2, subjects);
        assert!(held(&sets) <= predicted.min(full * 3 / 4), "{} of {full} bytes", held(&sets));
        for _ in 0..subscriptions {
            let session = bench.random.below(sets.len());
            let index = u32::try_from(session).unwrap();
            let first = bench.directory.filter_texts(sets[session]).next().unwrap().0.to_owned();
            bench.unsubscribe(index, &mut sets[session], &[first]);
            let filters = [name(bench.random.below(subjects))];
            bench.subscribe(index, &mut sets[session], &filters, Mode::All);
        }
        assert!(held(&sets) <= predicted, "{} bytes, {predicted} predicted", held(&sets));
        for (session, mut set) in (0..).zip(sets) {
            bench.change(session, &mut set, Set::NONE);
        }
        let left = allocations::bytes_held() - base;
        assert!(left < 10_000, "{left} bytes are left of {full}");
    }
}

#[test]
fn the_prediction_for_a_hundred_thousand_watchlists_is_within_sixteen_bytes() {
    let predicted = bytes_of_own_lists(100_000, 5_000_000, 8_000);
    assert!(predicted <= 16 * 5_000_000, "{:.2}", predicted as f64 / 5e6);
}

/// One in and one out touches two filters, whatever the list and however many sessions have them.
#[test]
fn a_change_costs_what_it_changes() {
    let mut bench = bench(1_000, u32::MAX);
    let mut sets = vec![Set::NONE; 100_000];
    // Everybody has three subjects, and each one something that few have.
    for (session, set) in (0..).zip(&mut sets) {
        let filters = [0, 1, 2, 10 + session as usize % 990].map(name);
        bench.subscribe(session, set, &filters, [Mode::All, Mode::Conflate][session as usize / 990 % 2]);
    }
    for len in [4, 50, 200, 1_000] {
        let mut set = Set::NONE;
        let filters: Vec<String> = (3..3 + len).map(|subject| name(subject % 1_000)).collect();
        bench.subscribe(200_000, &mut set, &filters[..len - 4], Mode::All);
        let (before, begun) = (TOUCHED.get(), std::time::Instant::now());
        for n in 0..100 {
            bench.subscribe(50_000 + n, &mut sets[50_000 + n as usize], &[name(5)], Mode::All);
            bench.unsubscribe(50_000 + n, &mut sets[50_000 + n as usize], &[name(0)]);
            bench.subscribe(50_000 + n, &mut sets[50_000 + n as usize], &[name(0)], Mode::All);
            bench.unsubscribe(50_000 + n, &mut sets[50_000 + n as usize], &[name(5)]);
            bench.subscribe(200_000, &mut set, &[name(0)], Mode::All);
            bench.unsubscribe(200_000, &mut set, &[name(0)]);
        }
        assert_eq!(TOUCHED.get() - before, 600, "a list of {len}");
        println!(
            "{len} in a list: {} ns a change, on a machine that does other things",
            begun.elapsed().as_nanos() / 600
        );
        bench.change(200_000, &mut set, Set::NONE);
    }
}

#[test]
fn the_eighth_who_asks_for_a_set_shares_it() {
    let mut bench = bench(300, 8);
    let filters: Vec<String> = (0..200).map(name).collect();
    let mut sets = vec![Set::NONE; 1_000];
    for (session, set) in (0..).zip(&mut sets) {
        bench.subscribe(session, set, &filters, Mode::All);
    }
    assert_eq!(bench.directory.own_lists(), (7, 7 * 200));
    assert_eq!(bench.directory.groups.iter().map(|group| group.sessions).sum::<u32>(), 993);
    // In the other mode, or over another lane, it is another set.
    let mut other = Set::NONE;
    bench.subscribe(5_000, &mut other, &filters, Mode::Conflate);
    let (binary, _) = bench.directory.with(SessionId(5_001), Set::NONE, Lane::Binary, &filters, Mode::All);
    assert!(matches!((other.kind(), binary.kind()), (SetKind::Own(_), SetKind::Own(_))));
    // Who takes one of so many out has a list from then on, and keeps it when the set is the same again; who names all
    // of them again comes back.
    let mut set = sets[999];
    bench.unsubscribe(999, &mut set, &filters[..1]);
    bench.subscribe(999, &mut set, &filters[..1], Mode::All);
    assert!(matches!(set.kind(), SetKind::Own(_)));
    bench.unsubscribe(999, &mut set, &filters[..100]);
    bench.subscribe(999, &mut set, &filters[..100], Mode::All);
    assert_eq!(set, sets[998]);
}
