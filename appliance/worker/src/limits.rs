//! What a session, and a worker, may use. Every limit has a unit in its name, an effect and a counter.

use fanblade_net::IoSlices;

use crate::subject::SUBJECT_LEN_MAX;

/// Limits of one worker and of each of its sessions. The counters named here are fields of [`crate::WorkerStats`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of one worker. One more is answered 503 before any of its bytes are read; `refused_capacity`.
    pub sessions_max: u32,
    /// Payload of one request; at least [`request_len`] of `subscriptions_max`. A longer one is dropped as it comes,
    /// and refused with `too_long`; `requests_too_long`. Beyond [`REQUEST_SKIPPED_LEN_MAX`]: 1009; `protocol_errors`.
    pub message_len_max: usize,
    /// Frames that one request may be fragmented into. More close the session with 1008; `temper_closed`.
    pub fragments_max: u32,
    /// Filters (subjects and patterns) of one session. More are refused with `too_many_subscriptions`;
    /// `requests_refused`.
    pub subscriptions_max: u32,
    /// Patterns, and subjects that are not there, that all sessions of one worker may ask for, each counted once. A
    /// request for more is refused with `too_many_filters`; `filters`, `filters_refused`.
    pub filters_max: u32,
    /// Steps of work that one pass does for requests (`steps`): a millisecond or so, one half for what waits from
    /// passes before, the other for what comes. A request that needs more goes on in the next pass, and its session's
    /// other requests wait for it; `requests_waited`, `request_steps_max`. As many for subjects that are new: the
    /// rest, and the frames behind the first of it, are for the next pass. Half as many for patterns that nobody has
    /// any more.
    pub pass_steps_max: u64,
    /// Requests, pings and pongs of one session in a second; twice that closes the session with 4029; `temper_closed`.
    pub requests_per_s_max: u16,
    /// Pieces in which one session's bytes come in a second: each receive is one, or several if it is longer than
    /// [`PIECE_LEN`]. One more closes the session with 4029, or ends it if it is about to close; `pieces_closed`.
    pub pieces_per_s_max: u16,
    /// Requests that wait while their session is behind; one more closes it with 4029; `deferred_closed`. So does more
    /// than twice `subscriptions_max` of subjects in all of them: what a session may have, to be taken back and asked
    /// for again.
    pub requests_deferred_max: usize,
    /// Memory of the requests that wait, each with its subjects and texts; at least [`deferred_bytes`] of
    /// `subscriptions_max`. One that does not fit closes its session with 4029; `deferred_closed`.
    pub deferred_bytes_max: usize,
    /// From accept to a whole upgrade request. Then the socket is closed; `handshake_timeouts`.
    pub handshake_ms_max: u32,
    /// From the upgrade to the first subscription. Then 1008; `subscribe_timeouts`. 0: for ever.
    pub subscribe_ms_max: u32,
    /// Silence after which a session is pinged at the latest; some are after three quarters of it, so that those who
    /// came together are not pinged together for ever.
    pub ping_interval_ms: u32,
    /// From a ping to the next byte of the peer. Then the socket is closed; `pong_timeouts`.
    pub pong_ms_max: u32,
    /// From our Close frame to the peer's. Then the socket is closed.
    pub close_ms_max: u32,
    /// How long a session may stay behind without taking one byte. Then 4008; `slow_evicted`.
    pub lag_ms_max: u32,
    /// How long a client that has ended its own side (FIN) may take for what it has asked for before that. Then 4008;
    /// `slow_evicted`.
    pub half_closed_ms_max: u32,
    /// Replies, notices and the rest of a torn frame that one session may be owed. More close it with 4008;
    /// `slow_evicted`.
    pub control_bytes_max: usize,
    /// User memory that hangs off all sessions of a worker together, without the first 2 KiB of each: replies and
    /// notices that they are owed, requests that wait or are half here, answers under way. Beyond it those end that
    /// have taken nothing for the longest: 4008; `held_evicted`, `held_bytes`.
    pub held_bytes_max: usize,
    /// From this many sessions on, sessions with one set of subscriptions share it; before, each has a list of its own,
    /// which costs memory for each subscription. Those before stay as they are until they change.
    pub sharing_sessions_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 4_000_000,
            message_len_max: 160 * 1024,
            fragments_max: 64,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            filters_max: 100_000,
            pass_steps_max: 40_000,
            requests_per_s_max: 50,
            pieces_per_s_max: 10_000,
            requests_deferred_max: 64,
            deferred_bytes_max: DEFERRED_BYTES_MAX,
            handshake_ms_max: 5_000,
            subscribe_ms_max: 30_000,
            ping_interval_ms: 30_000,
            pong_ms_max: 20_000,
            close_ms_max: 2_000,
            lag_ms_max: 60_000,
            half_closed_ms_max: 30_000,
            control_bytes_max: 1024 * 1024,
            held_bytes_max: 512 * 1024 * 1024,
            sharing_sessions_min: 8,
        }
    }
}

impl Limits {
    /// These limits, with those of `new` that can change while sessions are open: rates, deadlines, and amounts that
    /// are only compared. Those that size tables, or that a session already relies on, stay.
    #[must_use]
    pub fn taking(&self, new: &Limits) -> Limits {
        Limits {
            filters_max: new.filters_max,
            requests_per_s_max: new.requests_per_s_max,
            pieces_per_s_max: new.pieces_per_s_max,
            handshake_ms_max: new.handshake_ms_max,
            ping_interval_ms: new.ping_interval_ms,
            pong_ms_max: new.pong_ms_max,
            lag_ms_max: new.lag_ms_max,
            half_closed_ms_max: new.half_closed_ms_max,
            held_bytes_max: new.held_bytes_max,
            ..self.clone()
        }
    }
}

/// The longest request that `subscriptions` subjects need, each as long as it may be, in JSON as programs write it
/// (with a space after each comma; a few characters escaped), in bytes. `message_len_max` lies above, or a client that
/// may have so many could not ask for them.
pub const fn request_len(subscriptions: u64) -> u64 {
    REQUEST_FRAME_LEN + subscriptions * (SUBJECT_LEN_MAX as u64 + SUBJECT_MARKS_LEN)
}

/// Memory of requests that take `subscriptions` subjects back and ask for as many, each as long as it may be, in bytes.
pub const fn deferred_bytes(subscriptions: u64) -> u64 {
    2 * (REQUEST_FRAME_LEN + subscriptions * (SUBJECT_LEN_MAX + size_of::<String>()) as u64)
}

/// `message_len_max` of [`Limits::default`] holds `subscriptions_max` of it.
const _: () = assert!(request_len(SUBSCRIPTIONS_MAX as u64) <= 160 * 1024);

const _: () = assert!(deferred_bytes(SUBSCRIPTIONS_MAX as u64) <= DEFERRED_BYTES_MAX as u64);

/// Default of `deferred_bytes_max`.
const DEFERRED_BYTES_MAX: usize = 512 * 1024;
/// Default of `subscriptions_max`.
const SUBSCRIPTIONS_MAX: u32 = 1_000;
/// Of a request, without its subjects: names of fields, `id`, `resume` with an epoch.
const REQUEST_FRAME_LEN: u64 = 512;
/// Quotes, comma and space around a subject, and some backslashes within.
const SUBJECT_MARKS_LEN: u64 = 8;
/// A request that is too long is dropped and refused up to this length, in bytes. A longer one is no mistake of a
/// client that subscribes to much, and closes the session with 1009.
pub const REQUEST_SKIPPED_LEN_MAX: u64 = 16 * 1024 * 1024;
/// Bytes received that count as one piece. What is received costs by the piece, and so does what is shorter.
pub const PIECE_LEN: usize = 2_048;

/// Descriptors that one pass takes from the ring. A pass is at most one send for each session, however many there are;
/// but a worker that lags sends the less, the more of its backlog one pass joins. It must reach over several frames of
/// each of ten thousand subjects, or there is nothing to join, and the lag grows until the publisher overtakes the
/// worker.
pub(crate) const PASS_DESCRIPTORS_MAX: usize = 32_768;
/// Frames of one group in one pass: with every frame a slice of its own they just fit one send.
pub(crate) const PASS_FRAMES_MAX: usize = IoSlices::SLICES_MAX;
/// Pieces (frames and notices) that one catching-up session is sent in one pass. The slice that is left is for what it
/// owes from before: the rest of a cut frame, replies.
pub(crate) const PLAN_PIECES_MAX: usize = IoSlices::SLICES_MAX - 1;
/// Pieces that one update may bring: the notice of a new numbering, that of a gap, and the frame. A plan ends where
/// there is no room for so many, and what was left out is owed still.
pub(crate) const UPDATE_PIECES_MAX: usize = 3;
// A session's own bytes and its plan fit one send, and a plan holds at least one update beside a `lagging` notice.
const _: () = assert!(PLAN_PIECES_MAX < IoSlices::SLICES_MAX && UPDATE_PIECES_MAX < PLAN_PIECES_MAX);
const _: () = assert!(PASS_FRAMES_MAX <= IoSlices::SLICES_MAX);
/// Frames for sessions with lists of their own, each once for each of them, that may be under way (of this pass, or
/// waiting for more): a pass that comes to so many reads no further, and nothing waits any longer; `passes_cut`. 8
/// bytes each, so some 16 MiB, and what one frame more brings: as much again for two million sessions.
pub(crate) const DELIVERIES_MAX: usize = 1 << 21;
/// Distinct frames that are under way for them, 96 bytes each: more do not wait; `passes_cut`.
pub(crate) const DELIVERED_FRAMES_MAX: usize = 4 * PASS_DESCRIPTORS_MAX;
/// Deliveries for which memory is kept from one pass to the next, however few they are.
pub(crate) const DELIVERIES_KEPT: usize = 1 << 16;
/// A session that names at least one in this many of its subscriptions in a request may come to share its set; one that
/// names fewer keeps a list of its own, since moving between the two costs as much as the whole list.
pub(crate) const SHARING_PART: usize = 64;
/// Sends after which a pass shows that the worker moves (`turns`): a pass over a million sessions takes seconds.
pub(crate) const TURN_SENDS: usize = 4_096;
/// Sessions that one pass helps to catch up, so that sessions which are current do not wait for them.
pub(crate) const PASS_CATCHUPS_MAX: usize = 256;
/// Descriptors that one catching-up session may look at in one pass.
pub(crate) const CATCHUP_DESCRIPTORS_MAX: u64 = 4_096;
/// Steps for a filter that a request names: to find it, to make it, or to let it go.
pub(crate) const FILTER_STEPS: u64 = 16;
/// Steps to look a text up among the filters.
pub(crate) const LOOK_STEPS: u64 = 8;
/// Steps for a subject that a request selects: into the lists of its session and its answer.
pub(crate) const SELECTED_STEPS: u64 = 2;
/// Steps to take in a new subject, its filters apart.
pub(crate) const SUBJECT_STEPS: u64 = 16;
/// How many times over one session's filters may select all subjects: it bounds what a request, and a look at what the
/// session lacks, may cost. Refused with `too_many_subscriptions`; `requests_refused`.
pub(crate) const OVERLAP_MAX: usize = 16;
/// For that limit, at least this many subjects are counted.
pub(crate) const OVERLAP_SUBJECTS_MIN: usize = 4_096;
/// Subjects that one pass looks at for sessions that are behind; the others' turn comes in the next.
pub(crate) const PASS_LOOKS_MAX: usize = 128 * 1024;
/// What telling [`REPLY_SUBJECTS_MAX`] subjects with their frames costs, in such looks.
pub(crate) const REPLY_LOOKS: usize = 32 * REPLY_SUBJECTS_MAX;
/// Subjects told in one `subscribed` reply; the rest follow in further replies (`"more":true`).
pub(crate) const REPLY_SUBJECTS_MAX: usize = 64;
/// Bytes of frames that a replay copies out of the ring in one step, and one frame more: what a session holds that does
/// not read its answer.
pub(crate) const REPLAY_STEP_BYTES: usize = 16 * 1024;
/// Boxes for sessions that are owed something, kept for reuse so that falling behind allocates nothing.
/// At most some 2 MiB in all, with what they keep.
pub(crate) const EXTRAS_POOLED_MAX: usize = 1_024;
/// Bytes of capacity that such a box keeps for what its session owes, and for its upgrade request: the rest of a torn
/// frame, a few notices.
pub(crate) const EXTRA_BYTES_KEPT: usize = 1_024;
/// What each session may hold without being counted: what one needs that is merely behind, its box, the rest of a torn
/// frame and some notices. A million who are behind at once are no attack.
pub(crate) const HELD_BYTES_FREE: usize = 2_048;
/// When too much is held, sessions end until this part of the limit is left.
pub(crate) const HELD_PART_AFTER: (usize, usize) = (3, 4);
/// Groups without sessions, before they are swept out of the lists of subjects and filters that name them.
pub(crate) const GROUPS_DEAD_MAX: usize = 1_024;
/// The same, in entries of such lists: what a sweep looks at is in proportion to it.
pub(crate) const LISTED_DEAD_MAX: usize = 16_384;
/// How often subjects are looked over for updates that the ring has refused, at most: it costs a millisecond where
/// there are very many subjects.
pub(crate) const REFUSALS_LOOK_MS: u64 = 100;
/// Subjects that are told in one such look; the others follow in the next.
pub(crate) const REFUSALS_TOLD_MAX: usize = 1_024;
/// How long a worker that has panicked listens to the sessions that it has told, so that what they still send does not
/// have their connections reset before they have read that. Its successor serves meanwhile.
pub(crate) const LAST_WORDS_MS_MAX: u64 = 500;
/// The time over which their clients spread their return, in this many steps.
pub(crate) const LAST_WORDS_RECONNECT_MS_MAX: u32 = 1_000;
pub(crate) const LAST_WORDS_STEPS: u32 = 64;
