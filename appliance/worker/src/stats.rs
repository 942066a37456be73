//! What a worker counts. One writer (the worker), any number of readers; the words are independent of each other, so
//! every access is relaxed.

mod closes;
mod latency;
mod word;

pub use closes::Closes;
pub(crate) use closes::{NO_CODE, NO_FRAME};
pub use latency::{LatencyHistogram, LatencySnapshot};
pub use word::Word;

/// Is a figure a count since the start, or a level that goes up and down?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
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

            /// Levels end with their worker; counts belong to its place, and stay.
            pub(crate) fn forget_levels(&self) {
                $(if Kind::$kind == Kind::Gauge {
                    self.$name.set(0);
                })*
            }
        }
    };
}

worker_stats! {
    sessions: Gauge, "Sessions now, in any state.";
    sessions_subscribed: Gauge, "Sessions with at least one subscription.";
    sessions_behind: Gauge, "Sessions that owe their client bytes which the kernel would not take yet.";
    sessions_max: Gauge, "Sessions that the worker takes at most (sessions_max).";
    groups: Gauge, "Sets of subscriptions that several sessions share.";
    own_lists: Gauge, "Sessions with a list of subscriptions of their own.";
    own_subscriptions: Gauge, "Subscriptions in lists of one session alone.";
    own_lists_bytes: Gauge, "User memory that lists of one session alone take at most, as predicted.";
    accepted: Counter, "Connections accepted.";
    accept_parked: Counter, "Times that accepting was parked: out of descriptors or socket memory.";
    accepting_parked: Gauge, "1: connections wait, for want of descriptors or socket memory.";
    accept_failed: Counter, "Connections that failed before they could be accepted.";
    accepts_renewed: Counter, "Times that accepts were begun anew: connections waited although accepts were under way.";
    upgraded: Counter, "Connections that became WebSocket sessions.";
    refused_capacity: Counter, "Connections answered 503 because of sessions_max.";
    handshake_rejected: Counter, "Upgrade requests refused, plain HTTP included.";
    left_without_request: Counter, "Connections ended by the client before an upgrade request was whole.";
    health_checks: Counter, "Requests for /healthz or /readyz on the data port.";
    proxied: Counter, "Connections whose PROXY header named the client.";
    proxy_header_errors: Counter, "Connections refused because their PROXY header was missing or wrong.";
    forwarded_unclear: Counter, "Upgrades whose Forwarded or X-Forwarded-For could not be read or contradict each other.";
    handshake_timeouts: Counter, "Connections closed at handshake_ms_max.";
    origin_refused: Counter, "Upgrade requests answered 403: Origin not allowed.";
    subscribe_timeouts: Counter, "Sessions closed at subscribe_ms_max.";
    pong_timeouts: Counter, "Sessions closed at pong_ms_max.";
    pings: Counter, "Pings sent.";
    requests: Counter, "Requests received.";
    requests_refused: Counter, "Requests answered with an error.";
    requests_waited: Counter, "Requests that waited for a later pass, because a pass had done enough work for requests.";
    request_steps_max: Gauge, "The most steps of work for requests that a pass has taken.";
    filters: Gauge, "Distinct patterns, and subjects without a value yet, that sessions have subscribed to.";
    filters_max: Gauge, "Such patterns and subjects that the worker takes at most (filters_max).";
    filters_refused: Counter, "Requests refused with too_many_filters because of filters_max.";
    requests_too_long: Counter, "Requests dropped unread because they were longer than message_len_max.";
    temper_closed: Counter, "Sessions closed for too many requests, pings, pongs or fragments.";
    deferred_closed: Counter, "Sessions closed with 4029 because of requests_deferred_max or deferred_bytes_max.";
    held_bytes: Gauge, "User memory that sessions hold, without the first 2 KiB of each.";
    held_bytes_max: Gauge, "User memory that sessions may hold: this worker's share of held_bytes_max.";
    held_evicted: Counter, "Sessions ended because all sessions held more than held_bytes_max and these took nothing.";
    pieces_closed: Counter, "Sessions closed because their bytes came in too many pieces a second.";
    resumes_outrun: Counter, "Sessions closed with 4008 because their history left the ring before it was sent.";
    protocol_errors: Counter, "Sessions closed for breaking RFC 6455.";
    slow_evicted: Counter, "Sessions closed with 4008 because of lag_ms_max or control_bytes_max.";
    closed_by_server: Counter, "Close frames that the blade sent first.";
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
    batches_filled: Counter, "Sends in a batching window that were due at bytes_max.";
    unsent: Counter, "Sends that the kernel did not take whole.";
    caught_up: Counter, "Times that a session that was behind became current again.";
    catchup_descriptors: Counter, "Updates looked at for sessions that are behind and get every one.";
    frames_conflated: Counter, "Frames that a newer frame of their subject replaced, told in a lagging notice.";
    gap_notices: Counter, "Gap notices sent: frames that had left the ring's history.";
    refusals_told: Counter, "Sessions told that the ring refused updates which they want.";
    lapped: Counter, "Times that the publisher overtook this worker.";
    lapped_closed: Counter, "Sessions closed because a frame may have been overwritten while it was sent.";
    snapshots: Counter, "Snapshot frames sent.";
    panics: Counter, "Times that a worker in this place panicked.";
    restarts: Counter, "Times that a new worker took the place of one that had panicked or failed.";
    receive_requeued: Counter, "Times that a session had sent more than its share of one poll of the sockets.";
    receive_starved: Counter, "Times that a receive found no buffer and was started again (io_uring).";
    polls_cut: Counter, "Polls of the sockets that ended at their limit of bytes or events, with more to receive.";
    stalls: Counter, "Times that the worker itself stood still for longer than 500 ms.";
}
