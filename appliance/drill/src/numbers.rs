//! The numbers of socket options by which scripts ask and command, and their names.

use fanblade_abi::lane::Reason;

/// The level of our options (the second argument of `getsockopt`).
pub const LEVEL: i32 = 4_200;

/// What a script asks, by `getsockopt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Why the lane is raised: a [`Reason`], or 0.
    Raised,
    /// The first byte that is not acknowledged, counted from the blade's first number.
    SndUna,
    /// The next byte to send, counted likewise.
    SndNxt,
    /// The next byte of the client, counted from its first number.
    RcvNxt,
    /// The client's window in bytes.
    Window,
    /// The client's newest timestamp.
    TsRecent,
    /// TSecr of the newest packet that left: packetdrill does not compare it with the script's.
    Echoed,
    /// Bytes that are in flight and go with the lane to the socket: found in the history, without a gap.
    Unacknowledged,
    /// Packets that came since the lane was raised, that which raised it included: Linux gets them.
    Held,
    /// Duplicate acknowledgements in a row.
    Duplicates,
    /// The retransmission timeout in milliseconds.
    Timeout,
    /// Bytes of payload that the client sent and the application has not read.
    Readable,
    /// Packets with a wrong checksum: dropped.
    BadSums,
    /// Resets outside the window: dropped.
    ResetsOutside,
    /// Acknowledgements that are older than the largest window: dropped.
    TooOld,
    /// Packets without the flag ACK: dropped.
    WithoutAck,
}

impl Question {
    /// Each with its name in scripts.
    pub const ALL: [(&str, Question); 16] = [
        ("RAISED", Question::Raised),
        ("SND_UNA", Question::SndUna),
        ("SND_NXT", Question::SndNxt),
        ("RCV_NXT", Question::RcvNxt),
        ("SND_WND", Question::Window),
        ("TS_RECENT", Question::TsRecent),
        ("ECHOED", Question::Echoed),
        ("UNACKNOWLEDGED", Question::Unacknowledged),
        ("HELD", Question::Held),
        ("DUPLICATES_SEEN", Question::Duplicates),
        ("TIMEOUT_MS", Question::Timeout),
        ("READABLE", Question::Readable),
        ("BAD_SUMS", Question::BadSums),
        ("RESETS_OUTSIDE", Question::ResetsOutside),
        ("TOO_OLD", Question::TooOld),
        ("WITHOUT_ACK", Question::WithoutAck),
    ];

    /// The question of this number.
    #[must_use]
    pub fn of(number: i32) -> Option<Question> {
        usize::try_from(number).ok().and_then(|at| Question::ALL.get(at)).map(|(_, question)| *question)
    }
}

/// What a script commands, by `setsockopt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The blade's first sequence number, before the handshake.
    FirstNumber,
    /// Most bytes in flight, as if it were the congestion window that the kernel had.
    InFlightMax,
    /// Added to the clock of timestamps, before the handshake.
    TimestampOffset,
    /// The lane is as one whose socket did not tell the client's newest timestamp. The value means nothing.
    ForgetTimestamp,
    /// The next so many packets of the client come with a wrong checksum.
    BreakSums,
}

impl Command {
    /// Each with its name in scripts.
    pub const ALL: [(&str, Command); 5] = [
        ("FIRST_NUMBER", Command::FirstNumber),
        ("IN_FLIGHT_MAX", Command::InFlightMax),
        ("TS_OFFSET", Command::TimestampOffset),
        ("FORGET_TS_RECENT", Command::ForgetTimestamp),
        ("BREAK_SUMS", Command::BreakSums),
    ];

    /// The command of this number.
    #[must_use]
    pub fn of(number: i32) -> Option<Command> {
        usize::try_from(number).ok().and_then(|at| Command::ALL.get(at)).map(|(_, command)| *command)
    }
}

/// The reasons to raise, each with its name in scripts.
pub const REASONS: [(&str, Reason); 16] = [
    ("ASKED", Reason::Asked),
    ("FIN", Reason::Fin),
    ("RESET", Reason::Reset),
    ("SYN", Reason::Syn),
    ("URGENT", Reason::Urgent),
    ("CONGESTION", Reason::Congestion),
    ("DUPLICATES", Reason::Duplicates),
    ("SACK", Reason::Sack),
    ("ACK_OF_UNSENT", Reason::AckOfUnsent),
    ("OLD_TIMESTAMP", Reason::OldTimestamp),
    ("OPTIONS", Reason::Options),
    ("OUT_OF_ORDER", Reason::OutOfOrder),
    ("OVERLAP", Reason::Overlap),
    ("LONG_DATA", Reason::LongData),
    ("TIMEOUT", Reason::Timeout),
    ("WINDOW_SHUT", Reason::WindowShut),
];

/// Name and value of all that scripts may say, for packetdrill's `--define`.
#[must_use]
pub fn definitions() -> Vec<(&'static str, i32)> {
    let number = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
    let questions = Question::ALL.iter().enumerate().map(|(at, (name, _))| (*name, number(at)));
    let commands = Command::ALL.iter().enumerate().map(|(at, (name, _))| (*name, number(at)));
    let reasons = REASONS.iter().map(|(name, reason)| (*name, i32::from(*reason as u8)));
    let single = [("LANE", LEVEL), ("NOT", 0)];
    single.into_iter().chain(questions).chain(commands).chain(reasons).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::definitions;

    #[test]
    fn every_name_is_there_once() {
        let names: BTreeSet<&str> = definitions().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), definitions().len());
    }
}
