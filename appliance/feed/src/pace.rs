//! When a recorded message is due: at once, or by its own timestamp.

use zerocopy::FromBytes;

use crate::UnixNs;
use crate::itch;
use fanblade_wire::float::whole;

/// How fast a recording is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the caller takes it.
    Unpaced,
    /// By the messages' own timestamps: 1.0 as it happened, 10.0 ten times as fast. Must be finite and above zero.
    Factor(f64),
}

/// Turns exchange timestamps into due times. The first message is due at once and anchors all later ones, so that
/// rounding does not accumulate.
#[derive(Debug)]
pub(crate) struct Pacer {
    pace: Pace,
    anchor: Option<Anchor>,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    exchange_ns: u64,
    due_ns: UnixNs,
}

impl Pacer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, anchor: None }
    }

    /// When `message` is due, on the clock of `now_ns`. A message without a readable timestamp is due now: whoever
    /// parses it will complain. A timestamp before the first one is due when the first one was.
    pub(crate) fn due_ns(&mut self, message: &[u8], now_ns: UnixNs) -> UnixNs {
        let Ok((header, _)) = itch::Header::ref_from_prefix(message) else { return now_ns };
        self.due_ns_at(header.timestamp.get(), now_ns)
    }

    /// The same for what happened at this time on the exchange's clock.
    pub(crate) fn due_ns_at(&mut self, exchange_ns: u64, now_ns: UnixNs) -> UnixNs {
        let Pace::Factor(factor) = self.pace else { return now_ns };
        let anchor = *self.anchor.get_or_insert(Anchor { exchange_ns, due_ns: now_ns });
        let elapsed_ns = exchange_ns.saturating_sub(anchor.exchange_ns) as f64 / factor;
        // 2^48 / factor may be large.
        anchor.due_ns.plus(whole(elapsed_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_at(ns: u64) -> Vec<u8> {
        let mut bytes = vec![b'S', 0, 0, 0, 0];
        bytes.extend_from_slice(&ns.to_be_bytes()[2..]);
        bytes.push(b'O');
        bytes
    }

    #[test]
    fn unpaced_is_always_due() {
        let mut pacer = Pacer::new(Pace::Unpaced);
        assert_eq!(pacer.due_ns(&message_at(1 << 40), UnixNs(7)), UnixNs(7));
        assert_eq!(pacer.due_ns(&message_at(1 << 47), UnixNs(8)), UnixNs(8));
    }

    #[test]
    fn paced_by_the_messages_own_clock() {
        let mut pacer = Pacer::new(Pace::Factor(10.0));
        assert_eq!(pacer.due_ns(&message_at(5_000), UnixNs(1_000)), UnixNs(1_000));
        assert_eq!(pacer.due_ns(&message_at(6_000), UnixNs(1_000)), UnixNs(1_100));
        assert_eq!(
            pacer.due_ns(&message_at(6_000), UnixNs(9_999)),
            UnixNs(1_100),
            "the caller being late moves nothing"
        );
        assert_eq!(
            pacer.due_ns(&message_at(4_000), UnixNs(9_999)),
            UnixNs(1_000),
            "clocks that run backwards do not hold the feed up"
        );
        assert_eq!(pacer.due_ns(&[b'S', 0, 0], UnixNs(42)), UnixNs(42), "too short for a timestamp");
    }

    #[test]
    fn slow_factors_saturate() {
        let mut pacer = Pacer::new(Pace::Factor(1e-300));
        assert_eq!(pacer.due_ns(&message_at(0), UnixNs(5)), UnixNs(5));
        assert_eq!(pacer.due_ns(&message_at(1), UnixNs(5)), UnixNs::NEVER);
    }
}
