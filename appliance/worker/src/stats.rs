//! What a worker counts. One writer (the worker), any number of readers; the words are independent of each other, so
//! every access is relaxed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::closes::Closes;

/// Is a figure a count since the start, or a level that goes up and down?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A word that its worker alone writes: a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets it: a level that somebody else knows.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Takes `n` away.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! worker_stats {
    ($($name:ident: $kind:ident, $help:literal;)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub struct WorkerStats {
            $(#[doc = $help] pub $name: Word,)*
            /// How sessions ended.
            pub closes: Closes,
            /// Nanoseconds from the frame's publication to the return of the send that carried it, one sample a pass
            /// (its oldest frame, after its last send: the worst of the pass).
            pub latency: LatencyHistogram,
        }

        impl WorkerStats {
            /// Calls `each` with the name, help text, kind and value of every counter.
            pub fn for_each(&self, each: &mut dyn FnMut(&'static str, &'static str, Kind, u64)) {
                $(each(stringify!($name), $help, Kind::$kind, self.$name.value());)*
            }

            /// Levels are of a worker that has ended; counts are of its place, and stay.
            pub(crate) fn forget_levels(&self) {
                $(if Kind::$kind == Kind::Gauge {
                    self.$name.0.store(0, Relaxed);
                })*
            }
        }
    };
}

worker_stats! {
    sessions: Gauge, "Sessions now, in any state.";
    sessions_subscribed: Gauge, "Sessions with at least one subscription.";
    sessions_behind: Gauge, "Sessions that owe their client something the kernel would not take yet.";
    groups: Gauge, "Sets of subscriptions that several sessions share.";
    own_lists: Gauge, "Sessions with a list of subscriptions of their own.";
    own_subscriptions: Gauge, "Subscriptions in lists of one session alone.";
    own_lists_bytes: Gauge, "User memory that such lists take at most, as predicted.";
    accepted: Counter, "Connections accepted.";
    accept_parked: Counter, "Times that accepting was parked: out of descriptors or socket memory.";
    accepting_parked: Gauge, "1: connections wait, for want of descriptors or socket memory.";
    accept_failed: Counter, "Connections that failed before they could be accepted.";
    upgraded: Counter, "Connections that became WebSocket sessions.";
    refused_capacity: Counter, "Connections answered 503: sessions_max.";
    handshake_rejected: Counter, "Upgrade requests refused, plain HTTP included.";
    left_without_request: Counter, "Connections ended by the client before an upgrade request was whole.";
    health_checks: Counter, "Requests for /healthz or /readyz on the data port.";
    proxied: Counter, "Connections whose PROXY header named the client.";
    proxy_header_errors: Counter, "Connections refused for the lack of a right PROXY header.";
    forwarded_unclear: Counter, "Upgrades whose Forwarded or X-Forwarded-For could not be read or contradict each other.";
    handshake_timeouts: Counter, "Connections closed at handshake_ms_max.";
    origin_refused: Counter, "Upgrade requests answered 403: Origin not allowed.";
    subscribe_timeouts: Counter, "Sessions closed at subscribe_ms_max.";
    pong_timeouts: Counter, "Sessions closed at pong_ms_max.";
    pings: Counter, "Pings sent.";
    requests: Counter, "Requests received.";
    requests_refused: Counter, "Requests answered with an error.";
    requests_waited: Counter, "Requests that waited for a later pass, as one had done enough work for requests.";
    request_steps_max: Gauge, "The most steps of work for requests that a pass has taken.";
    filters: Gauge, "Distinct patterns, and subjects that are not there, that sessions have asked for.";
    filters_refused: Counter, "Requests refused with too_many_filters: filters_max.";
    requests_too_long: Counter, "Requests dropped unread: message_len_max.";
    temper_closed: Counter, "Sessions closed for too many requests, pings, pongs or fragments.";
    deferred_closed: Counter, "Sessions closed with 4029: requests_deferred_max or deferred_bytes_max.";
    held_bytes: Gauge, "User memory that hangs off sessions, without the first 2 KiB of each.";
    held_evicted: Counter, "Sessions ended because all together held too much and they took nothing: held_bytes_max.";
    pieces_closed: Counter, "Sessions closed because their bytes came in too many pieces a second.";
    resumes_outrun: Counter, "Sessions closed with 4008: their history left the ring before it was sent.";
    protocol_errors: Counter, "Sessions closed for breaking RFC 6455.";
    slow_evicted: Counter, "Sessions closed with 4008: lag_ms_max or control_bytes_max.";
    closed_by_server: Counter, "Close frames sent first by this side.";
    closed_by_peer: Counter, "Sessions ended by the client, with or without a Close frame.";
    half_closed: Counter, "Clients that ended their side and were still owed what they had asked for.";
    turns: Counter, "Turns of the worker's loop, and parts of a long one: it grows as long as the worker moves.";
    passes: Counter, "Fan-out passes that sent something.";
    passes_cut: Counter, "Fan-out passes that ended early: as much was due to sessions with lists of their own as one pass holds.";
    descriptors: Counter, "Updates read from the ring.";
    frames_delivered: Counter, "Frames handed whole to the kernel, all sessions.";
    bytes_delivered: Counter, "Bytes of frames handed to the kernel, all sessions.";
    sends: Counter, "Sends of frames queued to the kernel.";
    batches: Counter, "Sends of frames that may wait for each other (batching windows).";
    batches_filled: Counter, "Those of them that were due at bytes_max.";
    unsent: Counter, "Sends that the kernel did not take whole.";
    caught_up: Counter, "Times that a session that was behind became current again.";
    catchup_descriptors: Counter, "Updates looked at for sessions that are behind and get every one.";
    frames_conflated: Counter, "Frames replaced by a newer one of their subject, told in a lagging notice.";
    gap_notices: Counter, "Gap notices sent: frames that had left the ring's history.";
    refusals_told: Counter, "Sessions told that updates which they want were refused by the ring.";
    lapped: Counter, "Times that the publisher overtook this worker.";
    lapped_closed: Counter, "Sessions closed because a frame may have been overwritten while it was sent.";
    snapshots: Counter, "Snapshot frames sent.";
    panics: Counter, "Times that a worker in this place panicked.";
    restarts: Counter, "Times that a new worker took the place of one that had panicked or failed.";
    receive_requeued: Counter, "Times that a session had more to say than its share of a look at the sockets.";
    receive_starved: Counter, "Times that a receive found no buffer and was started again (io_uring).";
    polls_cut: Counter, "Looks at the sockets that ended at their limit of bytes or events, with more to be received.";
    stalls: Counter, "Times that the worker itself stood still for longer than 500 ms.";
}

/// Power-of-two histogram with four buckets to the octave (at most 19 % wide): fixed size, written by one thread.
#[derive(Debug)]
pub struct LatencyHistogram {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl LatencyHistogram {
    /// Counts one value, in nanoseconds. One thread only.
    pub fn record(&self, value_ns: u64) {
        let bucket = &self.buckets[bucket_of(value_ns)];
        bucket.store(bucket.load(Relaxed) + 1, Relaxed);
    }

    /// The counts, to be subtracted from later ones for a window.
    pub fn snapshot(&self) -> LatencySnapshot {
        LatencySnapshot { counts: std::array::from_fn(|index| self.buckets[index].load(Relaxed)) }
    }
}

/// Counts of a [`LatencyHistogram`] at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencySnapshot {
    counts: [u64; BUCKETS],
}

impl Default for LatencySnapshot {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl LatencySnapshot {
    /// Adds another worker's counts.
    pub fn merge(&mut self, other: &LatencySnapshot) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &LatencySnapshot) -> LatencySnapshot {
        LatencySnapshot {
            counts: std::array::from_fn(|index| self.counts[index].saturating_sub(earlier.counts[index])),
        }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper edge, in nanoseconds, of the bucket that holds the quantile `q` (0 to 1); 0 when empty.
    pub fn quantile(&self, q: f64) -> u64 {
        let total = self.count();
        if total == 0 {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "q is 0 to 1, so the rank is at most total"
        )]
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge(index);
            }
        }
        upper_edge(BUCKETS - 1)
    }

    /// `(upper edge in ns, values up to it)` for each non-empty bucket, cumulative.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = 0;
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(index, count)| {
            seen += count;
            (upper_edge(index), seen)
        })
    }
}

fn bucket_of(value: u64) -> usize {
    if value < 4 {
        return usize::try_from(value).unwrap_or(0);
    }
    let octave = 63 - value.leading_zeros();
    let quarter = (value >> (octave - 2)) & 3;
    (octave as usize - 1) * 4 + usize::try_from(quarter).unwrap_or(0)
}

fn upper_edge(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    let octave = index / 4 + 1;
    let quarter = (index % 4) as u64;
    ((5 + quarter) << (octave - 2)) - 1
}

const BUCKETS: usize = 63 * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_the_numbers() {
        let mut previous = 0;
        for value in (0..10_000u64).chain((14..62).map(|shift| (1 << shift) + 12_345)) {
            let index = bucket_of(value);
            assert!(index >= previous || value >= 10_000);
            assert!(upper_edge(index) >= value, "{value} in {index}");
            assert!(index == 0 || upper_edge(index - 1) < value, "{value} in {index}");
            previous = index;
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let histogram = LatencyHistogram::default();
        for value in 1..=1_000 {
            histogram.record(value * 1_000);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 1_000);
        for (q, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let ratio = snapshot.quantile(q) as f64 / exact;
            assert!((1.0..1.26).contains(&ratio), "{q}: {ratio}");
        }
        histogram.record(5);
        assert_eq!(histogram.snapshot().since(&snapshot).count(), 1);
    }
}
