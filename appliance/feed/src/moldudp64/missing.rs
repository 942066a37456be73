//! Which numbers are missing: the holes between what was passed on or is held, and what is known to exist.

use std::collections::VecDeque;

use super::clock::Running;
use crate::limits::HOLES_MAX;

/// Holes in ascending order, none empty, none touching another's numbers. All numbers from the one that comes next up
/// to [`Missing::end`] are either in a hole or held in the window.
#[derive(Debug)]
pub(super) struct Missing {
    holes: VecDeque<Hole>,
    end: u64,
    /// Numbers from here on have never been asked for.
    asked_end: u64,
    reorder_ns: u64,
}

/// The numbers `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Numbers of the hole before this have been asked for.
    asked_to: u64,
    /// When it was found.
    pub(super) found_ns: Running,
}

impl Missing {
    /// A hole that is younger than `reorder_ns` may close by itself.
    pub(super) fn new(reorder_ns: u64) -> Self {
        Self { holes: VecDeque::with_capacity(HOLES_MAX), end: 0, asked_end: 0, reorder_ns }
    }

    /// Nothing is missing, and `end` comes next.
    pub(super) fn reset(&mut self, end: u64) {
        self.holes.clear();
        (self.end, self.asked_end) = (end, 0);
    }

    /// Numbers from here on are not known to exist.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn first(&self) -> Option<&Hole> {
        self.holes.front()
    }

    /// Is there room for what one packet can do: reveal one hole, and split another?
    pub(super) fn has_room(&self) -> bool {
        self.holes.len() + 2 <= HOLES_MAX
    }

    /// The numbers before `to` exist.
    pub(super) fn reveal(&mut self, to: u64, now_ns: Running) {
        if to <= self.end {
            return;
        }
        let (has_room, reorder_ns) = (self.has_room(), self.reorder_ns);
        // What is new to a young hole has its own time to close by itself.
        let joins = |last: &Hole| last.found_ns == now_ns || last.found_ns + reorder_ns <= now_ns || !has_room;
        match self.holes.back_mut() {
            Some(last) if last.to == self.end && joins(last) => last.to = to,
            _ => self.holes.push_back(Hole { from: self.end, to, asked_to: self.end, found_ns: now_ns }),
        }
        self.end = to;
    }

    /// From the first to the last number of `from..to` that is missing, or not known yet.
    pub(super) fn hull(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let at = self.holes.partition_point(|hole| hole.to <= from);
        let first = match self.holes.get(at) {
            Some(hole) if hole.from < to => from.max(hole.from),
            _ if to > self.end => from.max(self.end),
            _ => return None,
        };
        if to > self.end {
            return Some((first, to));
        }
        let after = self.holes.partition_point(|hole| hole.from < to);
        let last = self.holes.get(after.checked_sub(1)?)?;
        Some((first, to.min(last.to)))
    }

    /// The numbers `from..to` are there; `from` is not beyond the end. Returns how many of them were not.
    pub(super) fn fill(&mut self, from: u64, to: u64) -> u64 {
        let mut new = to.saturating_sub(self.end);
        self.end = self.end.max(to);
        let mut at = self.holes.partition_point(|hole| hole.to <= from);
        while let Some(hole) = self.holes.get_mut(at).filter(|hole| hole.from < to) {
            let before = *hole;
            new += before.to.min(to) - before.from.max(from);
            let rest = Hole { from: to, asked_to: before.asked_to.max(to), ..before };
            if before.from >= from && before.to <= to {
                self.holes.remove(at);
                continue;
            }
            if before.from >= from {
                *hole = rest;
                break;
            }
            hole.to = from;
            hole.asked_to = before.asked_to.min(from);
            at += 1;
            if before.to > to {
                self.holes.insert(at, rest);
                break;
            }
        }
        new
    }

    /// Numbers from `end` on, which is not below what comes next, are not known to exist after all.
    pub(super) fn retract(&mut self, end: u64) {
        if end >= self.end {
            return;
        }
        self.end = end;
        self.asked_end = self.asked_end.min(end);
        while let Some(hole) = self.holes.back_mut().filter(|hole| hole.to > end) {
            if hole.from < end {
                hole.to = end;
                hole.asked_to = hole.asked_to.min(end);
                return;
            }
            self.holes.pop_back();
        }
    }

    /// May a number have been asked for? Requests go upwards.
    pub(super) fn may_be_asked(&self, number: u64) -> bool {
        number < self.asked_end
    }

    /// Everything before `expected` has been passed on or given up.
    pub(super) fn advance(&mut self, expected: u64) {
        self.end = self.end.max(expected);
        while let Some(hole) = self.holes.front_mut().filter(|hole| hole.from < expected) {
            if hole.to > expected {
                hole.from = expected;
                hole.asked_to = hole.asked_to.max(expected);
                return;
            }
            self.holes.pop_front();
        }
    }

    /// The numbers `from..to` were held, and are missing again.
    pub(super) fn add(&mut self, from: u64, to: u64, now_ns: Running) {
        let at = self.holes.partition_point(|hole| hole.to <= from);
        if let Some(before) = at.checked_sub(1).and_then(|before| self.holes.get_mut(before))
            && before.to == from
        {
            before.to = to;
            return;
        }
        self.holes.insert(at, Hole { from, to, asked_to: from, found_ns: now_ns });
    }

    /// The first part of a hole that nobody has been asked for.
    pub(super) fn unasked(&self) -> Option<Hole> {
        // Of the holes that come before, each has been asked for to its end, and there are only as many requests under
        // way as are allowed at once: this looks at few.
        let hole = self.holes.iter().find(|hole| hole.asked_to < hole.to)?;
        Some(Hole { from: hole.asked_to, ..*hole })
    }

    /// The numbers up to `to` of what [`Missing::unasked`] named have been asked for.
    pub(super) fn mark_asked(&mut self, to: u64) {
        if let Some(hole) = self.holes.iter_mut().find(|hole| hole.asked_to < hole.to) {
            hole.asked_to = to.min(hole.to);
            self.asked_end = self.asked_end.max(hole.asked_to);
        }
    }

    /// The first number of `from..to` that is missing.
    pub(super) fn first_within(&self, from: u64, to: u64) -> Option<u64> {
        let at = self.holes.partition_point(|hole| hole.to <= from);
        self.holes.get(at).map(|hole| hole.from.max(from)).filter(|first| *first < to)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What can be done to it.
    #[derive(Debug, Clone)]
    enum Step {
        Reveal(u64),
        Fill(u64, u64),
        Advance(u64),
        Ask(u64),
        Retract(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = 1..60_u64;
        prop_oneof![
            number.clone().prop_map(Step::Reveal),
            (number.clone(), 1..12_u64).prop_map(|(from, len)| Step::Fill(from, from + len)),
            number.clone().prop_map(Step::Advance),
            (1..9_u64).prop_map(Step::Ask),
            number.prop_map(Step::Retract),
        ]
    }

    proptest! {
        /// It is a set of numbers, each of which is asked for once.
        #[test]
        fn holes_are_a_set(steps in prop::collection::vec(step(), 1..60)) {
            let mut missing = Missing::new(0);
            missing.reset(1);
            let (mut model, mut asked, mut end, mut asked_end) = (BTreeSet::new(), BTreeSet::new(), 1, 0);
            for step in steps {
                match step {
                    Step::Reveal(to) => {
                        missing.reveal(to, Running(0));
                        model.extend(end..to);
                        end = end.max(to);
                    }
                    Step::Fill(from, to) => {
                        let hull = missing.hull(from, to);
                        let wanted: Vec<u64> = (from..to).filter(|n| model.contains(n) || *n >= end).collect();
                        prop_assert_eq!(hull, wanted.first().map(|first| (*first, wanted[wanted.len() - 1] + 1)));
                        if from <= end {
                            prop_assert_eq!(missing.fill(from, to), wanted.len() as u64);
                            end = end.max(to);
                            model.retain(|n| !(from..to).contains(n));
                        }
                    }
                    Step::Advance(to) => {
                        missing.advance(to);
                        end = end.max(to);
                        model.retain(|n| *n >= to);
                    }
                    Step::Retract(to) => {
                        // Never below what was passed on or is held.
                        let to = to.max(model.first().copied().unwrap_or(end));
                        missing.retract(to);
                        end = end.min(to);
                        model.retain(|n| *n < to);
                        asked.retain(|n| *n < to);
                        asked_end = asked_end.min(to);
                    }
                    Step::Ask(len) => {
                        let unasked = model.difference(&asked).next().copied();
                        prop_assert_eq!(missing.unasked().map(|hole| hole.from), unasked);
                        if let Some(hole) = missing.unasked() {
                            let to = hole.to.min(hole.from + len);
                            missing.mark_asked(to);
                            asked_end = asked_end.max(to);
                            for n in hole.from..to {
                                prop_assert!(asked.insert(n), "{} is asked for twice", n);
                            }
                        }
                    }
                }
                let numbers: BTreeSet<u64> = missing.holes.iter().flat_map(|hole| hole.from..hole.to).collect();
                prop_assert_eq!(&numbers, &model);
                prop_assert_eq!(missing.end(), end);
                prop_assert!(missing.holes.iter().all(|hole| (hole.from..=hole.to).contains(&hole.asked_to)));
                for number in 1..60 {
                    prop_assert_eq!(missing.may_be_asked(number), number < asked_end);
                }
                let first = missing.first_within(20, 40);
                prop_assert_eq!(first, model.range(20..40).next().copied());
            }
        }
    }

    #[test]
    fn what_is_missing_again_joins_the_hole_before_it() {
        let mut missing = Missing::new(0);
        missing.reset(1);
        missing.reveal(5, Running(0));
        missing.fill(5, 9);
        missing.add(7, 9, Running(1));
        missing.add(5, 7, Running(2));
        let holes: Vec<(u64, u64)> = missing.holes.iter().map(|hole| (hole.from, hole.to)).collect();
        assert_eq!(holes, [(1, 7), (7, 9)]);
        assert_eq!((missing.hull(1, 9), missing.end()), (Some((1, 9)), 9));
    }
}
