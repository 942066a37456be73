//! What to ask of a server, and which of its messages are new: the part of the feed that knows no socket.

use super::{LoginAccepted, PacketError, PacketFault};
use crate::limits::SEQUENCE_JUMP_MAX;
use crate::moldudp64::Start;
use crate::{Event, FeedCounters, Session, Trouble, UnixNs};

/// Puts out every message at most once and in order, over any number of connections, and says what is missing.
#[derive(Debug)]
pub(super) struct Numbering {
    /// The one session that is wanted. None: the current one, and those that follow it.
    wanted: Option<Session>,
    start: Start,
    ask: Ask,
    current: Option<Current>,
    /// The number of the next message of the connection at hand.
    next_seq: u64,
    pub(super) counters: FeedCounters,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub(super) session: Session,
    /// The number that comes next.
    pub(super) expected: u64,
    pub(super) is_ended: bool,
    /// Messages were lost for good.
    pub(super) is_incomplete: bool,
}

/// What a login asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// The wanted session, as at the very start.
    Anew,
    /// The rest of the session under way.
    Resume,
    /// The session that follows the one that has ended. The number is still that one's, so that a server which is
    /// still in it has nothing to repeat.
    Next,
}

/// Why a login that was accepted is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The server is in another session than the one that is wanted.
    OtherSession { session: Session, expected: Session },
    /// It has shown that the next login has to ask for something else.
    AskAgain,
    /// It names a number that cannot be.
    Implausible(PacketError),
}

impl Numbering {
    pub(super) fn new(wanted: Option<Session>, start: Start) -> Self {
        Self { wanted, start, ask: Ask::Anew, current: None, next_seq: 1, counters: FeedCounters::default() }
    }

    /// The session under way, or the last.
    pub(super) fn current(&self) -> Option<Current> {
        self.current
    }

    /// Session and number that the next login has to ask for.
    pub(super) fn request(&self) -> (Session, u64) {
        let wanted = self.wanted.unwrap_or(WHATEVER_IS_CURRENT);
        match (self.ask, self.current) {
            (Ask::Resume, Some(current)) => (current.session, current.expected),
            (Ask::Next, Some(current)) => (wanted, current.expected),
            _ => (wanted, if self.start == Start::Live { 0 } else { 1 }),
        }
    }

    /// A server has let us in; what it says, at `offset` of the connection, is compared with what was asked for and
    /// what is here already.
    pub(super) fn accept(
        &mut self,
        accepted: &LoginAccepted,
        offset: u64,
        address: &str,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Unfit> {
        let LoginAccepted { session, sequence } = *accepted;
        if let Some(expected) = self.wanted.filter(|wanted| *wanted != session) {
            return Err(Unfit::OtherSession { session, expected });
        }
        let known = self.current.filter(|current| current.session == session);
        if known.is_none() && self.current.is_some() && self.ask != Ask::Anew {
            // The number that was asked for was another session's: this one's beginning may have been skipped.
            self.ask = Ask::Anew;
            return Err(Unfit::AskAgain);
        }
        let from = known.map_or(1, |current| current.expected);
        if sequence == 0 || sequence.saturating_sub(from) > SEQUENCE_JUMP_MAX {
            let fault = PacketFault::SequenceJump { sequence, expected: from };
            return Err(Unfit::Implausible(PacketError { offset: offset + SEQUENCE_OFFSET, fault }));
        }
        if known.is_some() && self.ask == Ask::Anew && sequence > from {
            // It was taken for over, and is not: what lies between may still be had.
            self.ask = Ask::Resume;
            return Err(Unfit::AskAgain);
        }
        let mut current = known.unwrap_or_else(|| {
            self.counters.sessions += 1;
            sink(Event::SessionStart { session });
            let expected = if self.start == Start::Live { sequence } else { 1 };
            Current { session, expected, is_ended: false, is_incomplete: false }
        });
        if sequence < current.expected && self.ask != Ask::Anew {
            sink(Event::Trouble(Trouble::SequenceBack { address, sequence, expected: current.expected }));
        }
        if sequence > current.expected {
            self.counters.gaps += 1;
            self.counters.gap_messages += sequence - current.expected;
            sink(Event::Gap { from: current.expected, to: sequence });
            current.expected = sequence;
            current.is_incomplete = true;
        }
        self.current = Some(current);
        self.next_seq = sequence;
        self.ask = Ask::Resume;
        Ok(())
    }

    /// The next message of the connection. Says whether it was new.
    pub(super) fn message(
        &mut self,
        bytes: &[u8],
        offset: u64,
        received_ns: UnixNs,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let seq = self.next_seq;
        // Far from its end: a number that is not was not believed.
        self.next_seq = seq.saturating_add(1);
        let Some(current) = self.current.as_mut().filter(|current| seq >= current.expected) else {
            self.counters.duplicates += 1;
            return false;
        };
        current.expected = self.next_seq;
        current.is_ended = false;
        self.counters.messages += 1;
        sink(Event::Message { seq, bytes, offset, received_ns });
        true
    }

    /// The server says that the session is over. Says whether another may follow.
    pub(super) fn end_of_session(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        self.ask = Ask::Next;
        if let Some(current) = &mut self.current
            && !std::mem::replace(&mut current.is_ended, true)
        {
            sink(Event::EndOfSession { seq: current.expected });
        }
        self.wanted.is_none()
    }

    /// The server does not have the session that was asked for. Says whether there is something else to ask for.
    pub(super) fn unavailable(&mut self) -> bool {
        let is_known = self.current.is_some();
        match self.ask {
            // No other session is wanted.
            _ if self.wanted.is_some() => return false,
            Ask::Resume => self.ask = Ask::Next,
            Ask::Next => self.ask = Ask::Anew,
            Ask::Anew => {
                // It has none at all. When it has one again, that may be the one under way.
                self.ask = if is_known { Ask::Next } else { Ask::Anew };
                return false;
            }
        }
        true
    }
}

/// The session in a login request that asks for the current one.
const WHATEVER_IS_CURRENT: Session = [b' '; 10];
/// Where in a packet its sequence number is, behind framing and session.
const SEQUENCE_OFFSET: u64 = 13;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Session = *b"ONE       ";
    const TWO: Session = *b"TWO       ";

    /// A login that is answered so, then so many messages: what was asked, and all that was said.
    fn connection(numbering: &mut Numbering, session: Session, sequence: u64, messages: u64) -> (String, Vec<String>) {
        let (asked, from) = numbering.request();
        let asked = format!("{} {from}", String::from_utf8_lossy(&asked).trim_end());
        let mut words = Vec::new();
        let mut sink = |event: Event<'_>| {
            words.push(match event {
                Event::SessionStart { session } => format!("session {}", String::from_utf8_lossy(&session).trim_end()),
                Event::Message { seq, .. } => format!("{seq}"),
                Event::Gap { from, to } => format!("gap {from}..{to}"),
                Event::EndOfSession { seq } => format!("end {seq}"),
                Event::Trouble(trouble) => trouble.to_string(),
                other => panic!("{other:?}"),
            });
        };
        let accepted = LoginAccepted { session, sequence };
        match numbering.accept(&accepted, 0, "server", &mut sink) {
            Ok(()) => (0..messages).for_each(|_| {
                numbering.message(b"", 0, UnixNs(0), &mut sink);
            }),
            Err(unfit) => words.push(format!("{unfit:?}")),
        }
        (asked, words)
    }

    fn said(asked: &str, words: &[&str]) -> (String, Vec<String>) {
        (asked.to_owned(), words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn resumes_where_it_was_cut() {
        let mut numbering = Numbering::new(None, Start::Beginning);
        assert_eq!(connection(&mut numbering, ONE, 1, 2), said(" 1", &["session ONE", "1", "2"]));
        assert_eq!(connection(&mut numbering, ONE, 3, 1), said("ONE 3", &["3"]));
        assert_eq!(connection(&mut numbering, ONE, 4, 0), said("ONE 4", &[]));
        assert_eq!(numbering.counters.sessions, 1);
    }

    #[test]
    fn a_server_that_begins_elsewhere() {
        let mut numbering = Numbering::new(None, Start::Beginning);
        assert_eq!(connection(&mut numbering, ONE, 4, 2), said(" 1", &["session ONE", "gap 1..4", "4", "5"]));
        let back = "server: it sends from message 3 on, where 6 was asked for; what was here before is dropped";
        assert_eq!(connection(&mut numbering, ONE, 3, 4), said("ONE 6", &[back, "6"]));
        assert_eq!(connection(&mut numbering, ONE, 9, 1), said("ONE 7", &["gap 7..9", "9"]));
        assert!(numbering.current().unwrap().is_incomplete);
        let counters = numbering.counters;
        assert_eq!((counters.messages, counters.duplicates, counters.gaps, counters.gap_messages), (4, 3, 2, 5));
    }

    #[test]
    fn from_now_on() {
        let mut numbering = Numbering::new(None, Start::Live);
        assert_eq!(connection(&mut numbering, ONE, 4, 1), said(" 0", &["session ONE", "4"]));
        assert_eq!(connection(&mut numbering, ONE, 6, 1), said("ONE 5", &["gap 5..6", "6"]));
        assert_eq!(numbering.counters.gap_messages, 1, "what came before the start is no gap");
    }

    #[test]
    fn another_session_is_had_from_its_beginning() {
        let mut numbering = Numbering::new(None, Start::Beginning);
        connection(&mut numbering, ONE, 1, 2);
        // Asked for the rest of the old one, the server is in another, and would begin in its middle.
        assert_eq!(connection(&mut numbering, TWO, 3, 9), said("ONE 3", &["AskAgain"]));
        assert_eq!(connection(&mut numbering, TWO, 1, 1), said(" 1", &["session TWO", "1"]));
        // It does not have the old one any more, nor a current one with so many messages.
        assert!(numbering.unavailable() && numbering.unavailable());
        assert_eq!(connection(&mut numbering, ONE, 1, 1), said(" 1", &["session ONE", "1"]));
        assert!(numbering.unavailable() && numbering.unavailable());
        assert!(!numbering.unavailable(), "there is nothing else to ask for");
    }

    #[test]
    fn a_session_that_was_not_available_and_is_again() {
        for start in [Start::Beginning, Start::Live] {
            let mut numbering = Numbering::new(None, start);
            connection(&mut numbering, ONE, 1, 4);
            assert!(numbering.unavailable());
            assert_eq!(connection(&mut numbering, ONE, 5, 1), said(" 5", &["5"]));
            // Asked for as if it were another.
            assert!(numbering.unavailable() && numbering.unavailable());
            if start == Start::Live {
                assert_eq!(connection(&mut numbering, ONE, 8, 0), said(" 0", &["AskAgain"]), "6 and 7 may be had");
                assert_eq!(connection(&mut numbering, ONE, 6, 2), said("ONE 6", &["6", "7"]));
            } else {
                assert_eq!(
                    connection(&mut numbering, ONE, 1, 7),
                    said(" 1", &["6", "7"]),
                    "no trouble: it was asked for"
                );
            }
            assert_eq!(numbering.counters.gaps, 0);
            // It had none at all for a while.
            assert!(numbering.unavailable() && numbering.unavailable() && !numbering.unavailable());
            assert_eq!(connection(&mut numbering, ONE, 8, 1), said(" 8", &["8"]));
        }
    }

    #[test]
    fn what_follows_an_end() {
        let mut numbering = Numbering::new(None, Start::Beginning);
        connection(&mut numbering, ONE, 1, 2);
        let mut ends = 0;
        assert!(numbering.end_of_session(&mut |event| {
            assert_eq!(event, Event::EndOfSession { seq: 3 });
            ends += 1;
        }));
        assert_eq!(connection(&mut numbering, ONE, 3, 0), said(" 3", &[]), "still the old one");
        assert!(numbering.end_of_session(&mut |event| panic!("{event:?}")), "told once");
        assert_eq!(connection(&mut numbering, TWO, 3, 0), said(" 3", &["AskAgain"]));
        assert_eq!(connection(&mut numbering, TWO, 1, 1), said(" 1", &["session TWO", "1"]));
        assert_eq!(ends, 1);
    }

    #[test]
    fn the_one_session_that_is_wanted() {
        let mut numbering = Numbering::new(Some(ONE), Start::Beginning);
        let other = Unfit::OtherSession { session: TWO, expected: ONE };
        assert_eq!(connection(&mut numbering, TWO, 1, 5), said("ONE 1", &[&format!("{other:?}")]));
        assert_eq!(connection(&mut numbering, ONE, 1, 1), said("ONE 1", &["session ONE", "1"]));
        assert!(!numbering.unavailable());
        assert_eq!(connection(&mut numbering, ONE, 2, 1), said("ONE 2", &["2"]), "it may be had again");
        assert!(!numbering.end_of_session(&mut |_| {}), "nothing follows it");
    }

    #[test]
    fn numbers_that_cannot_be() {
        for start in [Start::Beginning, Start::Live] {
            let mut numbering = Numbering::new(None, start);
            for sequence in [0, u64::MAX, SEQUENCE_JUMP_MAX + 2] {
                let fault = PacketFault::SequenceJump { sequence, expected: 1 };
                let fault = Unfit::Implausible(PacketError { offset: 13, fault });
                assert_eq!(connection(&mut numbering, ONE, sequence, 1).1, [format!("{fault:?}")]);
            }
            assert_eq!(connection(&mut numbering, ONE, SEQUENCE_JUMP_MAX + 1, 1).1[0], "session ONE");
        }
    }

    proptest! {
        /// Whatever servers answer, messages and gaps partition the numbers of each session: nothing is missing in
        /// silence, nothing comes twice.
        #[test]
        fn messages_and_gaps_partition_the_numbers(
            live in any::<bool>(),
            connections in prop::collection::vec((any::<bool>(), 0_u64..30, 0_u64..20, 0_u8..4), 0..30),
        ) {
            let mut numbering = Numbering::new(None, if live { Start::Live } else { Start::Beginning });
            let mut next = None;
            for (is_two, sequence, messages, then) in connections {
                let session = if is_two { TWO } else { ONE };
                let mut sink = |event: Event<'_>| match event {
                    Event::SessionStart { .. } => next = if live { None } else { Some(1) },
                    Event::Message { seq, .. } => {
                        assert_eq!(next.unwrap_or(seq), seq);
                        next = Some(seq + 1);
                    }
                    Event::Gap { from, to } => {
                        assert_eq!(next.unwrap_or(from), from);
                        assert!(to > from);
                        next = Some(to);
                    }
                    _ => {}
                };
                if numbering.accept(&LoginAccepted { session, sequence }, 0, "", &mut sink).is_ok() {
                    for _ in 0..messages {
                        numbering.message(b"", 0, UnixNs(0), &mut sink);
                    }
                    match then {
                        0 => drop(numbering.end_of_session(&mut sink)),
                        1 => drop(numbering.unavailable()),
                        _ => {}
                    }
                }
            }
        }
    }
}
