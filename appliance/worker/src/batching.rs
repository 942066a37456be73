//! Windows: frames of some subjects may wait for more of their group, so that one send takes them all.
//!
//! A packet costs the same with one frame as with eight. If subjects move fifty times a second and clients look less
//! often, a window of 100 ms saves four sends of five.

use crate::clock::RunningUs;
use crate::subject;

/// How long frames of some subjects may wait in the ring before they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batching {
    /// A subject or pattern, as in a subscription.
    pub subjects: String,
    /// From the moment that the worker sees a group's first frame until the group is sent all that has come, at most:
    /// windows follow each other without a gap.
    pub ms_max: u32,
    /// Bytes for one session; with so many, the group is sent them at once; `batches_filled`.
    pub bytes_max: u32,
}

impl Batching {
    /// The default of `bytes_max`.
    pub const BYTES_MAX: u32 = 64 * 1024;
}

/// What a subject's frames may wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    ms_max: u32,
    bytes_max: u32,
}

impl Window {
    /// The window of the first entry that selects the subject; without one, its frames do not wait.
    pub(crate) fn of(batching: &[Batching], name: &str) -> Window {
        let found = batching.iter().find(|it| subject::matches(&it.subjects, name));
        found.map_or(Window::default(), |it| Window { ms_max: it.ms_max, bytes_max: it.bytes_max })
    }

    /// How long a frame that comes now for this group may wait. A group's windows follow each other. The windows of all
    /// groups end in turns, so that no burst of sends holds everything up and no group wakes the worker by itself.
    /// Sessions with lists of their own are spread likewise, by their own numbers.
    pub(crate) fn end_us(self, now_us: RunningUs, group: u32) -> RunningUs {
        if !self.is_open() {
            return now_us;
        }
        let len = u64::from(self.ms_max) * 1_000;
        let next = now_us.0 + len;
        RunningUs(next - (next - len * turn(group) as u64 / TURNS as u64) % len)
    }

    /// Is there one?
    pub(crate) fn is_open(self) -> bool {
        self.ms_max > 0
    }

    /// Are so many bytes enough for a send?
    pub(crate) fn is_filled_by(self, bytes: u64) -> bool {
        self.is_open() && bytes >= self.bytes_max.into()
    }
}

/// Which of the ends in each length of a window is this group's, or this session's.
pub(crate) fn turn(number: u32) -> usize {
    // Fibonacci hashing: neighbours lie far apart.
    (number.wrapping_mul(0x9E37_79B9) >> (u32::BITS - TURNS.ilog2())) as usize
}

/// Ends in each length of a window, over all groups.
pub(crate) const TURNS: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn windows_of_a_group_follow_each_other_and_groups_take_turns() {
        let window = Window { ms_max: 100, bytes_max: 1 };
        let ends = |group| {
            let ends: Vec<u64> =
                (5_000_000..5_300_000).step_by(777).map(|now| window.end_us(RunningUs(now), group).0).collect();
            assert!((5_000_000..).step_by(777).zip(&ends).all(|(now, end)| now < *end && *end <= now + 100_000));
            BTreeSet::from_iter(ends).into_iter().collect::<Vec<u64>>()
        };
        let first: Vec<Vec<u64>> = (0..1_000).map(ends).collect();
        assert!(first.iter().all(|ends| ends.windows(2).all(|pair| pair[1] - pair[0] == 100_000)));
        let turns = BTreeSet::from_iter(first.iter().map(|ends| ends[0]));
        assert_eq!(turns.len(), 16);
        for turn in turns {
            let in_turn = first.iter().filter(|ends| ends[0] == turn).count();
            assert!((50..80).contains(&in_turn), "{in_turn} of a thousand groups in one of sixteen turns");
        }
        assert_eq!(Window::default().end_us(RunningUs(5), 1), RunningUs(5), "no window, no waiting");
    }
}
