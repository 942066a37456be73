//! Every bound of the upstream WebSocket feed, with its reason. Those that an operator may want to change are keys of
//! `[feed.websocket]`.

/// How deep a message may be nested. Venues' messages are 5 deep; subscribers' parsers must survive what is passed on.
/// Deeper is counted as malformed.
pub(super) const MESSAGE_DEPTH_MAX: usize = 64;

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

/// The most levels of all books together: some 100 MB. Coinbase's largest book has some 100,000. A book that needs more
/// is not shown: the trouble `book_too_long`.
pub(super) const BOOK_LEVELS_MAX: usize = 1 << 20;

/// The most digits on either side of a price's decimal point: with them a price is exact in 128 bits. More is
/// malformed.
pub(super) const DECIMAL_DIGITS_MAX: usize = 18;

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
