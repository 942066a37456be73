//! Which patterns select a new subject, and which subjects a new pattern selects.
//!
//! Neither question tries everything against everything. For a subject, the patterns that could select it are written
//! down and looked up: the [`Shapes`] of the patterns that are held say where stars may stand. They are usually a
//! handful, and at most 511 for a subject of eight segments. For a pattern, [`Names`] has a sorted list of subjects
//! for each segment at each place; what the pattern selects is what its lists have in common, found by leaps from one
//! list to the next. The search can stop and go on at any subject number, which is what a budget needs.

use std::collections::{BTreeMap, HashMap};

use crate::ids::SubjectId;
use crate::subject::SUBJECT_LEN_MAX;

/// The shapes of the patterns that a worker holds.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    /// How many patterns have the shape.
    held: BTreeMap<Shape, u32>,
}

/// A pattern without its literal segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    /// Segments, a last `**` not counted.
    len: u8,
    /// Bit n: segment n is `*`.
    stars: u8,
    /// It ends with `**`.
    has_rest: bool,
}

impl Shape {
    fn of(pattern: &str) -> Shape {
        let mut shape = Shape { len: 0, stars: 0, has_rest: false };
        for segment in segments(pattern) {
            match segment {
                "**" => shape.has_rest = true,
                _ => {
                    shape.stars |= u8::from(segment == "*").checked_shl(shape.len.into()).unwrap_or(0);
                    shape.len += 1;
                }
            }
        }
        shape
    }

    /// Can a pattern of this shape select a subject of `len` segments?
    fn fits(self, len: usize) -> bool {
        if self.has_rest { usize::from(self.len) < len } else { usize::from(self.len) == len }
    }
}

impl Shapes {
    /// Adds a pattern that is held.
    pub(crate) fn add(&mut self, pattern: &str) {
        *self.held.entry(Shape::of(pattern)).or_insert(0) += 1;
    }

    /// Takes a pattern out.
    pub(crate) fn remove(&mut self, pattern: &str) {
        let shape = Shape::of(pattern);
        if let Some(count) = self.held.get_mut(&shape) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&shape);
            }
        }
    }

    /// Calls `each` with the text of every pattern of a held shape that selects `subject`.
    pub(crate) fn selecting(&self, subject: &str, mut each: impl FnMut(&str)) {
        let mut places = [""; SEGMENTS_MAX];
        let mut len = 0;
        for segment in segments(subject) {
            if let Some(place) = places.get_mut(len) {
                *place = segment;
            }
            len += 1;
        }
        let mut text = String::with_capacity(SUBJECT_LEN_MAX + REST.len());
        for shape in self.held.keys().filter(|shape| shape.fits(len)) {
            text.clear();
            for (place, segment) in places.iter().enumerate().take(shape.len.into()) {
                text.push('/');
                text.push_str(if shape.stars >> place & 1 == 1 { "*" } else { segment });
            }
            if shape.has_rest {
                text.push_str(REST);
            }
            each(&text);
        }
    }
}

/// Subjects by their segments. Their numbers count up from 0.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// How many segments each subject has.
    lens: Vec<u8>,
    /// For each place: the subjects that have this segment there, sorted.
    places: [HashMap<Box<str>, Vec<u32>>; SEGMENTS_MAX],
}

impl Names {
    /// How many subjects there are.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.lens.len()).unwrap_or(u32::MAX)
    }

    /// Adds the next subject.
    pub(crate) fn push(&mut self, subject: &str) {
        let number = self.len();
        let mut len = 0_u8;
        for segment in segments(subject) {
            if let Some(place) = self.places.get_mut(usize::from(len)) {
                match place.get_mut(segment) {
                    Some(listed) => listed.push(number),
                    None => drop(place.insert(segment.into(), vec![number])),
                }
            }
            len = len.saturating_add(1);
        }
        self.lens.push(len);
    }

    /// Goes on with the search for subjects that `pattern` selects, from number `from` on, and adds them to `found` in
    /// order. Every look at a subject takes one of `steps`. `true`: the search has seen all subjects, and `from` is the
    /// number that the next new subject will have.
    pub(crate) fn select(&self, pattern: &str, from: &mut u32, steps: &mut u64, found: &mut Vec<SubjectId>) -> bool {
        let mut lists: [&[u32]; SEGMENTS_MAX] = [&[]; SEGMENTS_MAX];
        let mut count = 0;
        let shape = Shape::of(pattern);
        for (place, segment) in segments(pattern).enumerate().take(shape.len.into()) {
            if segment == "*" {
                continue;
            }
            let Some(list) = self.places.get(place).and_then(|segments| segments.get(segment)) else {
                *from = self.len();
                return true;
            };
            (lists[count], count) = (list, count + 1);
        }
        let lists = &mut lists[..count];
        lists.sort_unstable_by_key(|list| list.len());
        let mut number = *from;
        while number < self.len() {
            if *steps == 0 {
                *from = number;
                return false;
            }
            match leap(lists, number, steps) {
                // One of the lists has ended.
                None => break,
                Some(next) if next > number => number = next,
                Some(_) => {
                    if shape.fits(self.lens[number as usize].into()) {
                        found.push(SubjectId(number));
                    }
                    number += 1;
                }
            }
        }
        *from = self.len();
        true
    }
}

/// The least number from `number` on that a list without it allows; `number` itself where all have it. `None` at the
/// end of a list. What lies before it is cut off the lists.
fn leap(lists: &mut [&[u32]], number: u32, steps: &mut u64) -> Option<u32> {
    *steps = steps.saturating_sub(1);
    for list in lists {
        *list = &list[gallop(list, number)..];
        let first = *list.first()?;
        if first > number {
            return Some(first);
        }
    }
    Some(number)
}

/// The first place in a sorted list that is not below `number`; found fast if it is near.
fn gallop(list: &[u32], number: u32) -> usize {
    let mut reach = 1;
    while list.get(reach - 1).is_some_and(|listed| *listed < number) {
        reach *= 2;
    }
    let (low, high) = (reach / 2, reach.min(list.len()));
    low + list[low..high].partition_point(|listed| *listed < number)
}

fn segments(text: &str) -> impl Iterator<Item = &str> {
    text.split('/').skip(1)
}

const REST: &str = "/**";
/// The most segments that a subject may have.
const SEGMENTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::subject::{check, is_pattern, matches};

    /// Few segments, so that much is selected; some are others' beginnings, or sort before `/`.
    fn segment() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "aa", "a-b", "a b"])
    }

    fn subject() -> impl Strategy<Value = String> {
        prop::collection::vec(segment(), 2..=8).prop_map(|segments| format!("/{}", segments.join("/")))
    }

    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![segment(), Just("*")];
        (prop::collection::vec(segment, 1..=7), any::<bool>())
            .prop_map(|(segments, has_rest)| {
                let rest = if has_rest || segments.len() < 2 { REST } else { "" };
                format!("/{}{rest}", segments.join("/"))
            })
            .prop_filter("a pattern", |text| is_pattern(text) && check(text).is_ok())
    }

    fn patterns(count: usize) -> impl Strategy<Value = BTreeSet<String>> {
        prop::collection::btree_set(prop_oneof![9 => pattern(), 1 => Just("/**".to_owned())], 0..count)
    }

    /// All at once.
    fn select(names: &Names, pattern: &str) -> Vec<SubjectId> {
        let (mut from, mut steps, mut found) = (0, u64::MAX, Vec::new());
        assert!(names.select(pattern, &mut from, &mut steps, &mut found));
        assert_eq!(from, names.len());
        found
    }

    fn naive(subjects: &[String], pattern: &str) -> Vec<SubjectId> {
        let numbered = (0..).map(SubjectId).zip(subjects);
        numbered.filter(|(_, subject)| matches(pattern, subject)).map(|(number, _)| number).collect()
    }

    proptest! {
        #[test]
        fn the_patterns_of_a_subject_are_those_that_select_it(
            held in patterns(40), gone in patterns(20), subjects in prop::collection::vec(subject(), 1..20),
        ) {
            let mut shapes = Shapes::default();
            held.iter().chain(&gone).for_each(|pattern| shapes.add(pattern));
            gone.iter().for_each(|pattern| shapes.remove(pattern));
            for subject in &subjects {
                let mut found = BTreeSet::new();
                shapes.selecting(subject, |text| {
                    if let Some(pattern) = held.get(text) {
                        assert!(found.insert(pattern.clone()), "{pattern} twice");
                    }
                });
                let expected = held.iter().filter(|pattern| matches(pattern, subject)).cloned().collect();
                prop_assert_eq!(found, expected, "{}", subject);
            }
            held.iter().for_each(|pattern| shapes.remove(pattern));
            prop_assert!(shapes.held.is_empty());
        }

        #[test]
        fn the_subjects_of_a_pattern_are_those_that_it_selects(
            subjects in prop::collection::vec(subject(), 0..200), patterns in patterns(40),
        ) {
            let mut names = Names::default();
            subjects.iter().for_each(|subject| names.push(subject));
            for pattern in &patterns {
                prop_assert_eq!(select(&names, pattern), naive(&subjects, pattern), "{}", pattern);
            }
        }

        /// In pieces, with subjects that come in between.
        #[test]
        fn a_search_goes_on_where_it_was_left(
            subjects in prop::collection::vec(subject(), 1..200), pattern in pattern(),
            pieces in prop::collection::vec((0..20_usize, 0..5_u64), 1..100),
        ) {
            let mut names = Names::default();
            let mut coming = subjects.iter();
            let (mut from, mut found) = (0, Vec::new());
            for (news, budget) in pieces {
                coming.by_ref().take(news).for_each(|subject| names.push(subject));
                let mut steps = budget;
                if names.select(&pattern, &mut from, &mut steps, &mut found) {
                    prop_assert_eq!(from, names.len());
                }
            }
            coming.for_each(|subject| names.push(subject));
            prop_assert!(names.select(&pattern, &mut from, &mut u64::MAX.clone(), &mut found));
            prop_assert_eq!(found, naive(&subjects, &pattern));
        }
    }

    #[test]
    fn a_search_looks_only_where_its_pattern_can_go() {
        let mut names = Names::default();
        for site in 0..20 {
            for line in 0..20 {
                for sensor in 0..20 {
                    names.push(&format!("/site{site}/line{line}/sensor{sensor}"));
                }
            }
        }
        for (pattern, matches, steps_max) in [
            ("/site3/line7/*", 20, 50),
            ("/site3/line7/**", 20, 50),
            ("/*/line7/sensor3", 20, 200),
            ("/site3/*/sensor3", 20, 100),
            ("/site3/**", 400, 500),
            ("/site3/*", 0, 500),
            ("/site3/*/nothing", 0, 0),
            ("/nothing/**", 0, 0),
            ("/site3/line7/*/sensor3", 0, 0),
            ("/**", 8_000, 8_000),
        ] {
            let (mut steps, mut found) = (1_000_000, Vec::new());
            assert!(names.select(pattern, &mut 0, &mut steps, &mut found));
            assert_eq!(found.len(), matches, "{pattern}");
            assert!(1_000_000 - steps <= steps_max, "{pattern}: {} steps", 1_000_000 - steps);
        }
    }

    #[test]
    fn very_many_patterns_are_few_looks_for_a_subject() {
        let mut shapes = Shapes::default();
        for number in 0..99_000 {
            shapes.add(&format!("/NASDAQ/*/x{number}"));
            shapes.add(&format!("/V{number}/**"));
        }
        let mut looks = Vec::new();
        shapes.selecting("/NASDAQ/AAPL/bbo", |text| looks.push(text.to_owned()));
        assert_eq!(looks, ["/NASDAQ/**", "/NASDAQ/*/bbo"]);
        // However they are made, a subject of eight segments has so many ways to be selected.
        let mut shapes = Shapes::default();
        let text = |stars: u32, len: u32| -> String {
            (0..len).map(|place| if stars >> place & 1 == 1 { "/*" } else { "/a" }).collect()
        };
        for len in 1..=8 {
            for stars in 0..1 << len {
                shapes.add(&text(stars, len));
                if len < 8 {
                    shapes.add(&format!("{}/**", text(stars, len)));
                }
            }
        }
        shapes.add("/**");
        let mut count = 0;
        shapes.selecting("/a/a/a/a/a/a/a/a", |_| count += 1);
        assert_eq!(count, 511);
    }
}
