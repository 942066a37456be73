//! What each subscriber should have received, and has not, measured by what any subscriber of its subject has seen in
//! the window.

use fanblade_swarm_abi::Subscriber;

use crate::plan::{Habit, Subjects};
use crate::tally::Tally;

/// Calls `subscribers` twice; each time it must return all of them, in their order.
pub(super) fn count<I: Iterator<Item = Subscriber>>(
    subjects: &Subjects,
    is_sequenced: bool,
    subscribers: impl Fn() -> I,
    tally: &mut Tally,
) {
    // First and last number of each subject.
    let mut seen: Vec<Option<(u32, u32)>> = vec![None; subjects.count as usize];
    for (number, subscriber) in (0..).zip(subscribers()).filter(|(_, it)| it.messages > 0) {
        let place = &mut seen[subjects.of(number) as usize];
        let (first, newest) = place.get_or_insert((subscriber.first, subscriber.newest));
        if is_before(subscriber.first, *first) {
            *first = subscriber.first;
        }
        if is_before(*newest, subscriber.newest) {
            *newest = subscriber.newest;
        }
    }
    for (number, subscriber) in (0..).zip(subscribers()) {
        let span = seen[subjects.of(number) as usize].map_or(0, |(first, newest)| newest.wrapping_sub(first) + 1);
        let expected = if is_sequenced { span } else { subscriber.messages };
        tally.class(Habit::Reader).client(subscriber.messages, expected);
    }
}

/// Compares the low halves of two numbers, which wrap around.
fn is_before(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Assignment;

    #[test]
    fn what_one_subscriber_has_seen_another_should_have_got() {
        let subscriber = |first, newest, messages| Subscriber { first, newest, messages, ..Subscriber::default() };
        // Subjects 0 and 1 in turn; numbers of subject 0 go on behind the end.
        let all = [
            subscriber(u32::MAX, 1, 3),
            subscriber(5, 6, 2),
            subscriber(0, 2, 3),
            subscriber(0, 0, 0),
            subscriber(u32::MAX, 2, 4),
        ];
        let subjects = Subjects { count: 2, assignment: Assignment::InTurn, seed: 0 };
        let lost = |is_sequenced| {
            let mut tally = Tally::new();
            count(&subjects, is_sequenced, || all.into_iter(), &mut tally);
            let class = tally.class(Habit::Reader);
            (class.clients, class.lost, class.losers, class.lost_most)
        };
        assert_eq!(lost(true), (5, 4, 3, 2));
        assert_eq!(lost(false), (5, 0, 0, 0));
    }
}
