//! Every limit of the upstream WebSocket feed, with its reason. Limits that an operator may want to change are keys of
//! `[feed.websocket]` instead.

/// The most subjects whose numbers, books and duplicates are tracked, as many as a ring has by default. Messages of
/// further subjects are dropped, and counted as the trouble `too_many_subjects`.
pub(super) const SUBJECTS_MAX: usize = 1 << 16;

/// Names that make no valid subject, each reported once as the trouble `bad_name`; further names are only counted as
/// malformed.
pub(super) const REFUSED_NAMES_MAX: usize = 1_024;

/// Bytes of such a name that are remembered, so that it is reported once. Longer names that begin alike count as one.
pub(super) const REFUSED_NAME_LEN_MAX: usize = 1_024;

/// So many messages in a row with old numbers are dropped as duplicates. One more is taken as a sign that the venue has
/// begun to count anew: the trouble `sequence_restart`, and a gap. Replays after a reconnection are shorter: Kraken
/// sends 50 trades.
pub(super) const OLD_MESSAGES_MAX: u32 = 1_000;

/// The most levels of all books together: some 150 MB. Coinbase's largest book has some 100,000. A book that needs more
/// is not shown: the trouble `book_too_long`.
pub(super) const BOOK_LEVELS_MAX: usize = 1 << 20;

/// Bytes of a venue's own words that go to the log. The rest is cut.
pub(super) const TEXT_LEN_MAX: usize = 300;

/// How long a send to the venue may take, in milliseconds, before the connection is given up: requests are short, and a
/// venue that does not take them does not read at all.
pub(super) const SEND_MS_MAX: u64 = 10_000;

/// How long a close may take, in milliseconds, before the connection is dropped without one.
pub(super) const CLOSE_MS_MAX: u64 = 500;

/// The least time between two resubscriptions for the same subject, in milliseconds, so that a venue that we cannot
/// follow is not flooded: it would ban us. A gap in between is reported and counted, and its resubscription waits.
pub(super) const RESUBSCRIBE_MS_MIN: u64 = 5_000;

/// Messages that are passed on before other tasks of the control thread may run.
pub(super) const MESSAGES_PER_TURN_MAX: u32 = 64;

/// Bytes of a price or quantity that are kept as the venue writes them. Longer numbers lose needless zeros.
pub(super) const LEVEL_TEXT_LEN_MAX: usize = 64;

/// The longest wait between two resubscriptions or snapshots of the same subject, in milliseconds: each is twice as
/// long as the one before, while asking does not help.
pub(super) const RESUBSCRIBE_MS_MAX: u64 = 300_000;

/// The least time between two fetches of the same subject's snapshot, in milliseconds.
pub(super) const SNAPSHOT_MS_MIN: u64 = 1_000;

/// Changes of one book that wait for a snapshot: 17 minutes at ten changes a second. Beyond that, the oldest are
/// dropped and counted (`dropped`), and the snapshot must be newer.
pub(super) const PENDING_CHANGES_MAX: usize = 10_000;

/// Bytes of all changes that wait.
pub(super) const PENDING_BYTES_MAX: usize = 16 << 20;

/// How long one fetch of a snapshot may take, in milliseconds, from the look-up of the name to the last byte.
pub(super) const FETCH_MS_MAX: u64 = 10_000;

/// Channels that a venue names by numbers, on one connection. Further channels are the trouble `too_many_channels`.
pub(super) const CHANNELS_MAX: usize = SUBJECTS_MAX;

/// Bytes of the message that announces such a channel.
pub(super) const CHANNEL_TEXT_LEN_MAX: usize = 4_096;

/// How long we send no requests to a server that asks for a pause, in milliseconds: at least and at most, whatever it
/// says.
pub(super) const FETCH_PAUSE_MS_MIN: u64 = 10_000;
pub(super) const FETCH_PAUSE_MS_MAX: u64 = 3_600_000;
