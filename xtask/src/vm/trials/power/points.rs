//! Every point at which the power may fail, and the disk that it leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::state::{Checker, State};
use crate::image::DISK_LEN;
use crate::vm::writes::{Disk, Log};

/// A moment at which the power fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Point {
    /// The disk has kept the log's first entries, this many.
    After(usize),
    /// Of this window's writes, which were not flushed yet, it has kept some.
    Within(Range<usize>, u64),
}

impl Point {
    /// How many of the log's entries the machine had written, at least.
    fn entries(&self) -> usize {
        match self {
            Point::After(count) => *count,
            Point::Within(window, _) => window.start,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::After(count) => write!(f, "after {count} entries"),
            Point::Within(window, draw) => write!(f, "within entries {window:?}, draw {draw}"),
        }
    }
}

/// What was seen at all points.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) draws: usize,
    /// How often, and where first.
    states: BTreeMap<State, (usize, Option<Point>)>,
    /// By the number of entries, where it changes.
    changes: Vec<(usize, State)>,
}

impl Seen {
    /// Looks at the disk after each entry, and at some of the disks that each window may leave.
    pub(super) fn look(base: &File, log: &Log, checker: &mut Checker) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        let mut disk = Disk::new(base, log, DISK_LEN);
        let first = checker.check(&disk)?;
        seen.note(&first, Point::After(0));
        seen.changes.push((0, first));
        for window in log.windows() {
            let flushed = disk.clone();
            for index in window.clone() {
                disk.apply(&log.entries[index]);
                let state = checker.check(&disk)?;
                seen.note(&state, Point::After(index + 1));
                if seen.changes.last().is_none_or(|(_, last)| *last != state) {
                    seen.changes.push((index + 1, state));
                }
            }
            for draw in 0..DRAWS {
                let mut drawn = flushed.clone();
                keep_some(&mut drawn, log, &window, draw);
                seen.note(&checker.check(&drawn)?, Point::Within(window.clone(), draw));
                seen.draws += 1;
            }
        }
        Ok(seen)
    }

    fn note(&mut self, state: &State, point: Point) {
        let (count, first) = self.states.entry(state.clone()).or_default();
        *count += 1;
        first.get_or_insert(point);
    }

    /// After how many entries this is first so.
    pub(super) fn first(&self, is_so: impl Fn(&State) -> bool) -> Option<usize> {
        self.changes.iter().find(|(_, state)| is_so(state)).map(|(count, _)| *count)
    }

    /// After how many entries the state changed for the last time before `count`.
    pub(super) fn change_before(&self, count: usize) -> usize {
        self.changes.iter().rev().find(|(at, _)| *at < count).map_or(0, |(at, _)| *at)
    }

    /// What would keep the blade from coming back, and where that is so first.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults =
            self.states.iter().filter_map(|(state, (_, first))| Some((state.fault.as_ref()?, first.as_ref()?)));
        faults.map(|(fault, first)| format!("{fault} ({first})")).collect()
    }
}

/// A table: how often each state was seen, what it is, where it was seen first.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.states.iter().collect();
        rows.sort_by_key(|(_, (_, first))| first.as_ref().map(Point::entries));
        for (state, (count, first)) in rows {
            write!(f, "{count:>8}  {state}")?;
            if let Some(fault) = &state.fault {
                write!(f, "; FAULT: {fault}")?;
            }
            if let Some(first) = first {
                writeln!(f, "; first {first}")?;
            }
        }
        Ok(())
    }
}

/// The disk that is left if the power fails at this point.
pub(super) fn left<'a>(base: &'a File, log: &'a Log, point: &Point) -> Disk<'a> {
    let mut disk = Disk::new(base, log, DISK_LEN);
    log.entries[..point.entries()].iter().for_each(|entry| disk.apply(entry));
    if let Point::Within(window, draw) = point {
        keep_some(&mut disk, log, window, *draw);
    }
    disk
}

/// Applies some of a window's writes, in order: by chance any of them, all but one, or one alone. Every second draw
/// tears one of them. A draw's number gives the same disk each time.
fn keep_some(disk: &mut Disk<'_>, log: &Log, window: &Range<usize>, draw: u64) {
    let mut chance = ChaCha8Rng::seed_from_u64(window.start as u64 * DRAWS + draw);
    let is_open = |index: &usize| !log.entries[*index].is_durable && !log.entries[*index].range.is_empty();
    let open: Vec<usize> = window.clone().filter(is_open).collect();
    if open.is_empty() {
        return window.clone().for_each(|index| disk.apply(&log.entries[index]));
    }
    let one = open[chance.random_range(0..open.len())];
    let torn = (draw % 2 == 1).then(|| if draw % 3 == 2 { one } else { open[chance.random_range(0..open.len())] });
    for index in window.clone() {
        let entry = &log.entries[index];
        let is_kept = match draw % 3 {
            0 => chance.random(),
            1 => index != one,
            _ => index == one,
        };
        if torn == Some(index) {
            disk.tear(entry, || chance.random());
        } else if is_kept || entry.is_durable {
            disk.apply(entry);
        }
    }
}

/// Disks that a window may leave, of each window.
const DRAWS: u64 = 12;
