//! Every bound of the upstream WebSocket feed, with its reason. Those that an operator may want to change are keys of
//! `[feed.websocket]`.

/// The most subjects whose numbers, books and duplicates are kept track of, as many as a ring has by default. Messages
/// of one more are dropped, and counted as the trouble `too_many_subjects`.
pub(super) const SUBJECTS_MAX: usize = 1 << 16;

/// Names that make no subject, each told once as the trouble `bad_name`; what further ones make is only counted as
/// malformed.
pub(super) const REFUSED_NAMES_MAX: usize = 1_024;

/// Bytes of such a name that are remembered, so that it is not told again. Longer ones that begin alike are told once.
pub(super) const REFUSED_NAME_LEN_MAX: usize = 1_024;

/// So many messages in a row with numbers that have been there are dropped as duplicates; with the next one the venue
/// is believed to have begun to count anew: the trouble `sequence_restart`, and a gap. Replays after a reconnection are
/// shorter: Kraken sends 50 trades.
pub(super) const OLD_MESSAGES_MAX: u32 = 1_000;

/// The most levels of all books together: some 150 MB. Coinbase's largest book has some 100,000. A book that needs more
/// is not shown: the trouble `book_too_long`.
pub(super) const BOOK_LEVELS_MAX: usize = 1 << 20;

/// Bytes of a venue's own words that go to the log. The rest is cut.
pub(super) const TEXT_LEN_MAX: usize = 300;

/// How long a send to the venue may take, in milliseconds, before the connection is given up: requests are short, and a
/// venue that does not take them does not read at all.
pub(super) const SEND_MS_MAX: u64 = 10_000;

/// How long a close may take, in milliseconds, before the connection is dropped without.
pub(super) const CLOSE_MS_MAX: u64 = 500;

/// The least time between two resubscriptions for the same subject, in milliseconds, so that a venue that we cannot
/// follow is not flooded: it would ban us. A gap in between is told and counted, and its resubscription waits.
pub(super) const RESUBSCRIBE_MS_MIN: u64 = 5_000;

/// Messages that are passed on before other tasks of the control thread get their turn.
pub(super) const MESSAGES_PER_TURN_MAX: u32 = 64;

/// Bytes of a price or quantity that are kept as the venue writes them. Longer ones are kept without needless zeros.
pub(super) const LEVEL_TEXT_LEN_MAX: usize = 64;

/// The longest wait between two resubscriptions or snapshots of the same subject, in milliseconds: each is twice as
/// long as the one before, as long as they do not help.
pub(super) const RESUBSCRIBE_MS_MAX: u64 = 300_000;

/// The least time between two fetches of the same subject's snapshot, in milliseconds.
pub(super) const SNAPSHOT_MS_MIN: u64 = 1_000;

/// Changes of one book that wait for a snapshot: at ten a second they are 17 minutes. The oldest are dropped, counted
/// as stale, and the snapshot has to be newer.
pub(super) const PENDING_CHANGES_MAX: usize = 10_000;

/// Bytes of all changes that wait.
pub(super) const PENDING_BYTES_MAX: usize = 16 << 20;

/// How long one fetch of a snapshot may take, in milliseconds, from the look-up of the name to the last byte.
pub(super) const FETCH_MS_MAX: u64 = 10_000;

/// Channels that a venue names by numbers, of one connection. Further ones are the trouble `too_many_channels`.
pub(super) const CHANNELS_MAX: usize = SUBJECTS_MAX;

/// Bytes of the message that announces such a channel.
pub(super) const CHANNEL_TEXT_LEN_MAX: usize = 4_096;

/// How long a server is left alone that wants it, in milliseconds, whatever it says: at least and at most.
pub(super) const FETCH_PAUSE_MS_MIN: u64 = 10_000;
pub(super) const FETCH_PAUSE_MS_MAX: u64 = 3_600_000;
