//! Every bound of this crate, with its reason.

/// The largest packet that a builder makes, in bytes of UDP payload: Nassau's figure, which leaves room below a
/// 1,500-byte MTU for IP options and tunnels. Packets that are parsed may be as long as UDP allows.
pub const PACKET_LEN_MAX: usize = 1_400;

/// The most messages that one re-request may ask for: 0xFFFF is taken, as it marks the end of a session in a packet.
/// A longer gap takes several requests.
pub const REQUEST_MESSAGES_MAX: u64 = 0xFFFE;

/// How far a packet of a line may be ahead of all that is known, in messages, and be believed at once (configurable):
/// a tenth of a second of the busiest feed. One that is further must be proven.
pub const JUMP_MESSAGES_MAX: u64 = 100_000;

/// So many packets that say the same are a proof, where the numbering under way says nothing else (counter:
/// `suspected`).
pub const PROOF_PACKETS: u32 = 3;

/// The most packets that are ahead and alone which are told apart. Beyond that, the furthest speaks for those that it
/// is beyond.
pub const LONES_MAX: usize = 8;

/// How long such packets, on one line and below [`JUMP_MESSAGES_MAX`], must go on without one that contradicts them, in
/// nanoseconds: what comes in one burst is said by one.
pub const LONE_NS_MIN: u64 = 10_000_000;

/// How far a packet may be from the others that say the same, in messages, to count as a proof: further than lines
/// are apart, and nearer than what comes of itself of somebody who makes numbers up.
pub const PROOF_MESSAGES_MAX: u64 = 10_000;

/// How long the numbering under way must say nothing, in nanoseconds (configurable), before several packets of
/// another are believed: one and a half of the heartbeats that come every second.
pub const PROOF_NS: u64 = 1_500_000_000;

/// The most sessions and positions that are held at once until they are proven. A further one takes the place of one
/// that nobody has repeated, or is dropped (`suspected`, `stale`).
pub const CLAIMS_MAX: usize = 16;

/// Cells that count how often what finds no place comes again. Whoever does so is no part of a flood, and gets one.
pub const CLAIM_CELLS_LEN: usize = 4_096;

/// How old such a one must be to give way, in nanoseconds: a real one has been repeated by then.
pub const CLAIM_AGE_NS_MIN: u64 = 250_000_000;

/// Messages from re-request servers that are remembered, to be compared with what a line brings later. 24 bytes each.
pub const RECOVERED_LEN: usize = 4_096;

/// The longest gap that is believed, in messages: ten times and more what a whole day of Nasdaq has. A packet beyond it
/// is malformed, since to believe one wrong number would make duplicates of all that follow.
pub const SEQUENCE_JUMP_MAX: u64 = 1 << 34;

/// So many packets of the session before, with none of the current one between them, are dropped as `stale`; the next
/// switches back. Far more than a slower line has on its way when a session changes.
pub const STALE_PACKETS_MAX: u32 = 1_000;

/// The most holes that are kept account of, between what was passed on and what is held: some seconds' worth of a feed
/// that loses every hundredth packet on both lines. A packet that would make another is dropped (`dropped`), and
/// asked for later. 32 bytes each.
pub const HOLES_MAX: usize = 4_096;

/// Requests that are under way at once. With replies of some 36 messages that is two million messages a second at a
/// millisecond there and back, and no more than 90 KB of replies on their way.
pub const REQUESTS_UNDER_WAY_MAX: usize = 64;

/// The most messages of the window that are passed on in one turn, so that the sequencer thread gets to do its other
/// work; the next turn goes on. Twice and more what a turn takes in, so that the window empties.
pub const RELEASE_MESSAGES_MAX: usize = 2_048;

/// Packets whose arrival is remembered, to know by how much a line leads: some milliseconds of a fast feed. A power of
/// two, 24 bytes each. A line that is later than that has no say.
pub const ARRIVALS_LEN: usize = 4_096;

/// The longest snapshot that is kept until it is complete, in bytes: five times and more what a day's busiest moment of
/// Nasdaq needs. A longer one is given up (`snapshot_failed`).
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// How far a snapshot may be ahead of the lines, in messages: what they have on their way is far less. One that is
/// further is of another session, and given up (`snapshot_failed`).
pub const SNAPSHOT_AHEAD_MESSAGES_MAX: u64 = 1_000_000;

/// How many bytes of a file are read (or inflated) at once. Must hold the longest message that the framing can
/// express, 2 + 65,535 bytes; large enough that system calls do not show, small enough that one inflation takes no
/// more than a millisecond.
pub const FILE_BUFFER_LEN: usize = 256 << 10;

/// The most zeros behind a gzip member that are passed over as padding, in bytes: far more than tapes and block devices
/// pad with. What follows is ignored, and told (`gzip_tail`).
pub const GZIP_PADDING_LEN_MAX: u64 = 16 << 20;

/// The most messages that one `poll` of a feed passes on before it returns `Busy`, so that the sequencer thread gets
/// to look at its clock, its wakers and its orders to stop. 256 messages are some 100 µs of work downstream.
pub const POLL_MESSAGES_MAX: usize = 256;

/// How far a live simulator may fall behind the clock, in nanoseconds, before it skips the time that it missed instead
/// of making up for it (a suspended laptop, a stopped process). Counted as `clock_skips`.
pub const SIMULATOR_LAG_NS_MAX: u64 = 5_000_000_000;

/// When a simulated day closes at the latest, in nanoseconds since its midnight: ITCH timestamps are 48 bits wide,
/// 78 hours. A live feed goes on with another session.
pub const SIMULATOR_DAY_NS_MAX: u64 = 72 * 3_600_000_000_000;

/// The most instruments that a simulator makes: the size of Nasdaq's own directory. Each costs some 2.2 KB.
pub const SIMULATOR_SYMBOLS_MAX: usize = 8_000;

/// The highest mean rate that a simulator can be asked for, in messages per second. Unpaced it makes what it can.
pub const SIMULATOR_MESSAGES_PER_S_MAX: u32 = 10_000_000;

/// The highest factor by which bursts may be busier than the calm between them.
pub const SIMULATOR_BURST_FACTOR_MAX: u32 = 100;

/// The most live orders on one side of a simulated book: an add to a full side becomes a delete. Bounds the
/// simulator's memory whatever its rate and however long its day.
pub const SIMULATOR_ORDERS_PER_SIDE_MAX: usize = 64;

/// The most halts that a simulator has in force at once; a halt beyond is not begun.
pub const SIMULATOR_HALTS_MAX: usize = 16;

/// How many bytes of a SoupBinTCP connection are held at once. Must hold the longest packet, 2 + 65,535 bytes; twice
/// that, so that a read is long even while the beginning of a long packet waits for its end. What does not fit stays
/// with the kernel, and the server feels it.
pub const SOUPBINTCP_BUFFER_LEN: usize = 128 << 10;

/// The most records that wait for the sequencer between its polls: some tens of milliseconds of its work. A sender of
/// more waits for room, and its peer with it. There are two batches of that size, the one being filled and the one
/// being passed on.
pub const QUEUE_RECORDS_MAX: usize = 32_768;

/// The same in bytes of subjects and values. A longer record goes alone.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// How many UDP packets of a capture are looked at, to find the destination that most messages go to.
pub const CAPTURE_SCAN_PACKETS_MAX: u64 = 10_000;

/// The most destinations that are told apart in doing so; packets to others are not considered.
pub const CAPTURE_FLOWS_MAX: usize = 256;

/// The most of them that a message names.
pub const CAPTURE_FLOWS_SHOWN_MAX: usize = 8;

/// How much of one packet of a capture is kept, in bytes: four times what UDP allows. A longer one is no UDP, and is
/// taken as cut.
pub const CAPTURE_PACKET_LEN_MAX: usize = 256 << 10;

/// The longest packet or block of a capture that is believed, in bytes: as much as any writer permits. A longer one is
/// malformed, since to believe one wrong length would be to skip all that follows.
pub const CAPTURE_BLOCK_LEN_MAX: u32 = 128 << 20;

/// The most interfaces of one section of a capture. With one more it is malformed.
pub const CAPTURE_INTERFACES_MAX: usize = 4_096;

/// The most link types that are told apart when a capture cannot be used.
pub const CAPTURE_LINKS_MAX: usize = 8;

/// The longest name that a publisher may give itself, in bytes: it labels metrics. Longer: the hello is refused.
pub const PUBLISHER_NAME_LEN_MAX: usize = 32;

/// The longest token that a publisher may show, in bytes: far more than a secret needs. Longer: the hello is refused.
pub const PUBLISHER_TOKEN_LEN_MAX: usize = 512;
