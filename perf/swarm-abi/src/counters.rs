//! What the program counts.

/// Value of `COUNTERS` (one entry per CPU).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments with data, of any connection that stands.
    pub segments: u64,
    /// Their bytes, each once.
    pub bytes: u64,
    /// Segments whose bytes had all been received: sent again by the server.
    pub again: u64,
    /// Segments before which some are missing: lost, or overtaken. They are not kept; the server sends them again.
    pub ahead: u64,
    /// Segments of either side that the program dropped because it was told to.
    pub dropped: u64,
    /// Packets for no subscriber, or none that has a connection.
    pub strays: u64,
    /// Packets that could not be made into an answer.
    pub unanswered: u64,
    /// Messages of the window, each once.
    pub messages: u64,
    /// Messages published before the window or after it.
    pub outside: u64,
    /// Messages without a timestamp.
    pub others: u64,
    /// Numbers left out between two messages of a subscriber.
    pub missing: u64,
    /// Places where numbers were left out.
    pub gaps: u64,
    /// Messages that came again, or behind a later one.
    pub repeated: u64,
    /// Pings.
    pub pings: u64,
    /// Pings that were answered: the last one of a segment (RFC 6455, 5.5.3).
    pub pongs: u64,
    /// Pongs that were sent again, because the server had not acknowledged them.
    pub pongs_again: u64,
    /// Connections that the server has ended without a close frame.
    pub ended: u64,
    /// Connections that it has reset.
    pub resets: u64,
    /// Streams that are no WebSocket.
    pub torn: u64,
    /// Streams that were given up because `HEADS` was full.
    pub heads_lost: u64,
    /// The longest latency of the window.
    pub latency_max_ns: u64,
    /// Close frames by code: 1000 to 1014, and all others.
    pub closes: [u64; CLOSES],
}

impl Counters {
    /// The sum with the counters of another CPU.
    #[must_use]
    pub fn plus(&self, other: &Counters) -> Counters {
        let latency_max_ns = self.latency_max_ns.max(other.latency_max_ns);
        Counters { latency_max_ns, ..self.with(other, u64::wrapping_add) }
    }

    /// What has been counted since `before`. The longest latency is that of all time.
    #[must_use]
    pub fn since(&self, before: &Counters) -> Counters {
        Counters { latency_max_ns: self.latency_max_ns, ..self.with(before, u64::wrapping_sub) }
    }

    fn with(&self, other: &Counters, operation: fn(u64, u64) -> u64) -> Counters {
        let mut closes = [0; CLOSES];
        for (at, count) in closes.iter_mut().enumerate() {
            *count = operation(self.closes[at], other.closes[at]);
        }
        Counters {
            segments: operation(self.segments, other.segments),
            bytes: operation(self.bytes, other.bytes),
            again: operation(self.again, other.again),
            ahead: operation(self.ahead, other.ahead),
            dropped: operation(self.dropped, other.dropped),
            strays: operation(self.strays, other.strays),
            unanswered: operation(self.unanswered, other.unanswered),
            messages: operation(self.messages, other.messages),
            outside: operation(self.outside, other.outside),
            others: operation(self.others, other.others),
            missing: operation(self.missing, other.missing),
            gaps: operation(self.gaps, other.gaps),
            repeated: operation(self.repeated, other.repeated),
            pings: operation(self.pings, other.pings),
            pongs: operation(self.pongs, other.pongs),
            pongs_again: operation(self.pongs_again, other.pongs_again),
            ended: operation(self.ended, other.ended),
            resets: operation(self.resets, other.resets),
            torn: operation(self.torn, other.torn),
            heads_lost: operation(self.heads_lost, other.heads_lost),
            latency_max_ns: 0,
            closes,
        }
    }
}

/// Places of [`Counters::closes`].
pub const CLOSES: usize = 16;

const _: () = assert!(size_of::<Counters>() == (21 + CLOSES) * 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_subtract_and_the_longest_latency_stays() {
        let one = Counters { segments: 3, closes: [1; CLOSES], latency_max_ns: 5, ..Counters::default() };
        let sum = one.plus(&Counters { segments: 4, latency_max_ns: 9, ..Counters::default() });
        assert_eq!((sum.segments, sum.closes, sum.latency_max_ns), (7, [1; CLOSES], 9));
        let since = sum.since(&one);
        assert_eq!((since.segments, since.closes, since.latency_max_ns), (4, [0; CLOSES], 9));
    }
}
