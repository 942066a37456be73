//! Detects gaps by the numbers that a venue gives its messages.

use super::limits::OLD_MESSAGES_MAX;

/// The numbers of one message: `first` to `last`, which are the same if a message has one number. `previous` is the
/// last number of the message before, if the venue says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) previous: Option<u64>,
}

/// What a message's numbers show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The message comes next.
    Next,
    /// The message comes next, but numbers are missing before it.
    Gap { from: u64, to: u64 },
    /// The message has come before.
    Old,
    /// The venue counts anew: the message comes next, and those before it were dropped as old.
    Restarted { from: u64, to: u64 },
}

/// A numbering without holes, and how far it has got.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    last: Option<u64>,
    /// Old messages in a row.
    old: u32,
    /// The newest number that the venue has claimed.
    claimed: u64,
}

impl Tracker {
    /// Takes the numbers of a message that has arrived.
    pub(super) fn take(&mut self, numbers: Numbers) -> Verdict {
        let Numbers { first, last: newest, previous } = numbers;
        let Some(last) = self.last else {
            self.last = Some(newest);
            return Verdict::Next;
        };
        if newest <= last {
            return self.old(newest);
        }
        self.old = 0;
        self.last = Some(newest);
        let missing_end = match previous {
            Some(previous) => previous.saturating_add(1),
            None => first,
        };
        match last + 1 {
            next if missing_end > next => Verdict::Gap { from: next, to: missing_end },
            _ => Verdict::Next,
        }
    }

    /// Takes a number that the venue claims to have reached. Its message may still be on its way; if it has not arrived
    /// by the venue's next claim, it is missing.
    pub(super) fn reach(&mut self, newest: u64) -> Verdict {
        let claimed = std::mem::replace(&mut self.claimed, newest);
        match self.last {
            Some(last) if claimed > last => {
                self.last = Some(claimed);
                Verdict::Gap { from: last + 1, to: claimed.saturating_add(1) }
            }
            // Before the first message there is nothing to miss.
            _ => Verdict::Next,
        }
    }

    fn old(&mut self, newest: u64) -> Verdict {
        self.old += 1;
        if self.old <= OLD_MESSAGES_MAX {
            return Verdict::Old;
        }
        let from = newest.saturating_sub(self.old.into());
        *self = Tracker { last: Some(newest), ..Tracker::default() };
        Verdict::Restarted { from, to: newest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: u64) -> Numbers {
        Numbers { first: number, last: number, previous: None }
    }

    #[test]
    fn single_numbers() {
        let mut tracker = Tracker::default();
        let verdicts = [5, 6, 6, 5, 9, 10].map(|number| tracker.take(one(number)));
        let gap = Verdict::Gap { from: 7, to: 9 };
        assert_eq!(verdicts, [Verdict::Next, Verdict::Next, Verdict::Old, Verdict::Old, gap, Verdict::Next]);
    }

    #[test]
    fn ranges_join_by_first_and_last() {
        let mut tracker = Tracker::default();
        let mut take = |first, last| tracker.take(Numbers { first, last, previous: None });
        assert_eq!(take(157, 160), Verdict::Next);
        assert_eq!(take(161, 165), Verdict::Next);
        assert_eq!(take(164, 170), Verdict::Next, "it overlaps: nothing is missing");
        assert_eq!(take(175, 180), Verdict::Gap { from: 171, to: 175 });
    }

    #[test]
    fn ranges_join_by_what_they_say_came_before() {
        let mut tracker = Tracker::default();
        let mut take = |first, last, previous| tracker.take(Numbers { first, last, previous: Some(previous) });
        assert_eq!(take(157, 160, 149), Verdict::Next);
        assert_eq!(take(190, 195, 160), Verdict::Next, "numbers that no message has are not missing");
        assert_eq!(take(250, 260, 220), Verdict::Gap { from: 196, to: 221 });
        assert_eq!(take(u64::MAX, u64::MAX, u64::MAX), Verdict::Gap { from: 261, to: u64::MAX });
        assert_eq!(take(u64::MAX, u64::MAX, u64::MAX), Verdict::Old);
    }

    #[test]
    fn a_heartbeat_tells_what_is_missing() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.reach(10), Verdict::Next, "nothing is known yet");
        assert_eq!(tracker.take(one(11)), Verdict::Next);
        assert_eq!(tracker.reach(11), Verdict::Next);
        assert_eq!(tracker.reach(13), Verdict::Next, "12 and 13 may be on their way");
        assert_eq!(tracker.take(one(12)), Verdict::Next);
        assert_eq!(tracker.reach(13), Verdict::Gap { from: 13, to: 14 }, "13 has had its time");
        assert_eq!(tracker.reach(13), Verdict::Next, "told once");
        assert_eq!(tracker.take(one(14)), Verdict::Next);
    }

    #[test]
    fn a_venue_that_counts_anew_is_believed_in_the_end() {
        let mut tracker = Tracker::default();
        tracker.take(one(1_000_000));
        for number in 1..=u64::from(OLD_MESSAGES_MAX) {
            assert_eq!(tracker.take(one(number)), Verdict::Old);
        }
        assert_eq!(tracker.take(one(1_001)), Verdict::Restarted { from: 0, to: 1_001 });
        assert_eq!(tracker.take(one(1_002)), Verdict::Next);
    }
}
