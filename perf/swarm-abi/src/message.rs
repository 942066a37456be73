//! What a subscriber makes of a message.

use crate::counters::Counters;
use crate::settings::Settings;
use crate::subscriber::{FOLLOWS, READY, Subscriber};

/// A message, as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reception {
    /// `CLOCK_REALTIME`.
    pub now_ns: u64,
    /// When it was published, if it says so.
    pub timestamp_ns: Option<u64>,
    /// Its number among those of its subject, if it has one.
    pub number: Option<u64>,
}

impl Subscriber {
    /// Counts a message; its latency, if it is one of the window.
    #[inline(always)]
    pub fn receive(&mut self, message: &Reception, settings: &Settings, counters: &mut Counters) -> Option<u64> {
        if self.flags & READY == 0 {
            self.heard = self.heard.wrapping_add(1);
            if u32::from(self.heard) >= settings.preamble {
                self.flags |= READY;
            }
        }
        let Some(timestamp_ns) = message.timestamp_ns else {
            counters.others += 1;
            return None;
        };
        // The low half is enough to tell a step from a repetition.
        let number = message.number.map_or(0, |number| (number & 0xffff_ffff) as u32);
        if message.number.is_some() {
            if self.flags & FOLLOWS != 0 {
                let step = number.wrapping_sub(self.last);
                if step == 0 || step >= 1 << 31 {
                    counters.repeated += 1;
                    return None;
                }
                if step > 1 {
                    counters.gaps += 1;
                    counters.missing += u64::from(step - 1);
                }
            }
            self.last = number;
            self.flags |= FOLLOWS;
        }
        if timestamp_ns < settings.from_ns || timestamp_ns >= settings.to_ns {
            counters.outside += 1;
            return None;
        }
        if self.messages == 0 {
            self.first = number;
        }
        self.newest = number;
        self.messages = self.messages.wrapping_add(1);
        counters.messages += 1;
        let latency_ns = message.now_ns.saturating_sub(timestamp_ns);
        if latency_ns > counters.latency_max_ns {
            counters.latency_max_ns = latency_ns;
        }
        Some(latency_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_repetitions_and_the_window_are_counted() {
        let settings = Settings { from_ns: 1_000, to_ns: 2_000, preamble: 1, ..Settings::default() };
        let (mut subscriber, mut counters) = (Subscriber::default(), Counters::default());
        let mut receive = |timestamp_ns, number| {
            let message = Reception { now_ns: 2_500, timestamp_ns, number };
            subscriber.receive(&message, &settings, &mut counters)
        };
        assert_eq!(receive(None, None), None);
        assert_eq!(receive(Some(999), Some(6)), None);
        assert_eq!(receive(Some(1_000), Some(7)), Some(1_500));
        assert_eq!(receive(Some(1_000), Some(7)), None);
        assert_eq!(receive(Some(1_000), Some(6)), None);
        assert_eq!(receive(Some(1_999), Some(10)), Some(501));
        assert_eq!(receive(Some(2_000), Some(11)), None);
        let expected = Counters {
            messages: 2,
            outside: 2,
            others: 1,
            missing: 2,
            gaps: 1,
            repeated: 2,
            latency_max_ns: 1_500,
            ..Counters::default()
        };
        assert_eq!(counters, expected);
        assert_eq!((subscriber.first, subscriber.newest, subscriber.messages), (7, 10, 2));
        assert_eq!((subscriber.flags, subscriber.heard), (READY | FOLLOWS, 1));
    }

    #[test]
    fn numbers_go_on_behind_the_end_of_their_low_half() {
        let settings = Settings { to_ns: 10, ..Settings::default() };
        let (mut subscriber, mut counters) = (Subscriber::default(), Counters::default());
        for number in [0xffff_ffff, 0x1_0000_0000, 0x1_0000_0002] {
            let message = Reception { now_ns: 5, timestamp_ns: Some(1), number: Some(number) };
            subscriber.receive(&message, &settings, &mut counters);
        }
        assert_eq!((counters.repeated, counters.gaps, counters.missing), (0, 1, 1));
    }
}
