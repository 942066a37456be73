//! From packets of several lines and of re-request servers to messages in order: arbitration, reordering, recovery.
//!
//! ```text
//! line A ─┐                       in order                 ┌───────────┐
//! line B ─┼─▶ Receiver ──────────────────────────────────▶ │ InOrder │ ─▶ messages, gaps
//! replies ┘      │   ▲                                     └───────────┘
//!                │   └─────────── Window, when the hole before it is closed, or given up
//!      ahead ────┴─▶ Window, Missing ─▶ Requester ─▶ requests
//! ```
//! What is in order passes through at once, without a copy; whichever line brings it first wins. What is ahead waits in
//! a window. A hole may close by itself for a little while (the other line, or a packet that was overtaken), then it is
//! asked for, and when nothing more comes of that it is given up: [`InOrder`] says which messages are missing, and
//! what was held goes on. It allocates nothing while it runs, and looks at no clock: times are the caller's, and
//! monotonic.

mod proof;

use std::net::SocketAddr;

use super::clock::Running;
use super::evidence::Evidence;
use super::lines::Lines;
use super::missing::Missing;
use super::recovered::Recovered;
use super::requester::{Manners, Requester};
use super::suspects::{Claim, Suspects};
use super::window::Window;
use super::{Arrived, HEADER_LEN, InOrder, Kind, Origin, Packet, Request, Start};
use crate::limits::{RELEASE_MESSAGES_MAX, SEQUENCE_JUMP_MAX};
use crate::{Condition, Event, FeedCounters, Line, Session, Stale, Trouble, UnixNs};

/// What a receiver is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// The only session that is taken; none: any.
    pub session: Option<Session>,
    /// Where the first session begins.
    pub start: Start,
    /// Names of the lines.
    pub lines: Vec<String>,
    /// For each line: are all of its packets one known sender's? Those need no proof.
    pub has_known_sender: Vec<bool>,
    /// A packet that is so much further ahead than all others needs a proof, in messages.
    pub jump_messages_max: u64,
    /// Several packets of another numbering are believed when the one under way has said nothing for this long.
    pub proof_ns: u64,
    /// Re-request servers; without any nothing is recovered, and a hole that does not close by itself is a gap.
    pub servers: Vec<SocketAddr>,
    /// How long a hole may close by itself before its messages are asked for.
    pub reorder_ns: u64,
    /// The longest wait for a reply before the next server is asked.
    pub request_timeout_ns: u64,
    /// Requests in a second.
    pub requests_per_s_max: u32,
    /// Messages that one request may ask for.
    pub request_messages_max: u16,
    /// Messages are given up after this long without progress.
    pub recovery_ns_max: u64,
    /// Memory for packets that wait for what comes before them.
    pub window_bytes: usize,
    /// The feed is silent after this long without any packet.
    pub stale_ns_max: u64,
    /// Is there a server that can say how the books are, and when is it asked?
    pub snapshots: SnapshotUse,
}

/// When a snapshot is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotUse {
    /// Never: there is nobody to ask.
    Never,
    /// When messages were given up.
    AfterLoss,
    /// Then, and when the first session is under way already.
    AtJoin,
}

/// Turns packets into messages in order.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    in_order: InOrder,
    missing: Missing,
    window: Window,
    requester: Requester,
    lines: Lines,
    /// An end of session that waits for the messages before it: its number and packet.
    end: Option<(u64, [u8; HEADER_LEN])>,
    /// The number after the highest that is known to exist; beyond [`Missing::end`] only while that has no room.
    seen: u64,
    /// When the next number last came, and not because those before it were given up.
    progress_ns: Running,
    /// When the session began. What was missing then must be caught up with.
    begun_ns: Running,
    /// Messages that may be released in this turn.
    release_left: usize,
    /// The last packet of any line; none before the first.
    packet_ns: Option<Running>,
    /// The last one that said something of the numbering under way that is not in the past.
    current_ns: Option<Running>,
    /// More than one packet has spoken for the numbering under way.
    is_confirmed: bool,
    /// That has been so for one of the numberings.
    has_begun: bool,
    /// Claims that are ahead of all others, and alone.
    evidence: Evidence,
    suspects: Suspects,
    /// What was proven, and is being passed on.
    proven: Option<Claim>,
    recovered: Recovered,
    started_ns: Option<Running>,
    /// All that was known to exist has been passed on, once in this session.
    is_current: bool,
    /// Messages of this session were given up, or those before it was joined are not known.
    is_incomplete: bool,
    /// Is nothing passed on until there is a snapshot?
    is_held: bool,
    wants_snapshot: bool,
    /// Messages passed on before this session.
    messages_before: u64,
    /// Counts of what [`InOrder`] never saw.
    counters: FeedCounters,
}

impl Receiver {
    /// Makes a receiver that has seen nothing yet.
    pub fn new(config: ReceiverConfig) -> Self {
        let manners = Manners {
            reorder_ns: config.reorder_ns,
            timeout_ns: config.request_timeout_ns,
            requests_per_s_max: config.requests_per_s_max,
            messages_max: config.request_messages_max,
        };
        Self {
            in_order: InOrder::new(config.start),
            missing: Missing::new(config.reorder_ns),
            window: Window::new(config.window_bytes),
            requester: Requester::new(&config.servers, manners),
            lines: Lines::new(&config.lines, config.reorder_ns, config.stale_ns_max),
            end: None,
            seen: 0,
            progress_ns: Running::ZERO,
            begun_ns: Running::ZERO,
            release_left: RELEASE_MESSAGES_MAX,
            packet_ns: None,
            current_ns: None,
            is_confirmed: false,
            has_begun: false,
            evidence: Evidence::new(config.proof_ns),
            suspects: Suspects::new(
                config.window_bytes,
                config.jump_messages_max,
                config.proof_ns,
                config.stale_ns_max,
            ),
            proven: None,
            recovered: Recovered::new(),
            started_ns: None,
            is_current: false,
            is_incomplete: false,
            is_held: false,
            wants_snapshot: false,
            messages_before: 0,
            counters: FeedCounters::default(),
            config,
        }
    }

    /// Takes a packet.
    pub fn accept(&mut self, arrived: &Arrived<'_>, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        let Arrived { origin, source, bytes, .. } = *arrived;
        self.counters.packets += 1;
        self.counters.bytes += bytes.len() as u64;
        if let Origin::Line(line) = origin {
            self.lines.packet(line, bytes.len(), now_ns);
            self.packet_ns = Some(now_ns);
        }
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(error) => return self.malformed(error, sink),
        };
        let session = packet.session();
        if let Some(expected) = self.config.session.filter(|expected| *expected != session) {
            self.counters.stale += count(&packet);
            sink(Event::Trouble(Trouble::WrongSession { session, expected, source_address: source }));
            return;
        }
        let line = match origin {
            Origin::Server(server) => return self.reply(arrived, &packet, server, now_ns, sink),
            Origin::Line(line) => line,
        };
        // What was held comes before what comes now.
        if let Some(proven) = self.proven.as_mut().filter(|_| self.in_order.session() == Some(session)) {
            if !proven.follow(arrived, self.config.window_bytes) {
                self.drop_packet(count(&packet), sink);
            }
            return;
        }
        if let Some(doubt) = self.doubt(&packet, line, now_ns) {
            self.suspect(doubt, arrived, &packet, now_ns, sink);
            return self.prove(now_ns, sink);
        }
        self.admit(arrived, &packet, now_ns, sink);
    }

    /// Takes a packet that is believed.
    fn admit(&mut self, arrived: &Arrived<'_>, packet: &Packet<'_>, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        if self.in_order.would_begin(packet) {
            self.finish_session(sink);
        }
        let is_new = self.in_order.session() != Some(packet.session());
        if !self.in_order.enter(packet, &mut *sink) {
            return;
        }
        if is_new {
            self.begin_session(packet.session(), now_ns);
        }
        let ahead = packet.sequence().saturating_sub(self.in_order.expected().unwrap_or(1));
        if let Origin::Line(line) = arrived.origin
            && ahead <= SEQUENCE_JUMP_MAX
        {
            self.weigh(packet, line, is_new, now_ns);
            self.compare(packet, sink);
        }
        let before = self.in_order.expected();
        self.take(arrived, packet, now_ns, sink);
        self.release(sink);
        if self.in_order.expected() > before {
            self.progress_ns = now_ns;
        }
    }

    /// What time brings: holes that are given up, lines and servers that are silent. To be called once a turn, after
    /// the turn's packets; it also releases more of what is held.
    pub fn tick(&mut self, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        self.started_ns.get_or_insert(now_ns);
        self.release_left = RELEASE_MESSAGES_MAX;
        self.counters.stale += self.suspects.expire(now_ns);
        self.pass_on(now_ns, sink);
        self.prove(now_ns, sink);
        self.take_back(now_ns, sink);
        self.release(sink);
        if self.seen > self.missing.end() && self.missing.has_room() {
            self.missing.reveal(self.seen, now_ns);
        }
        while let Some(hole) = self.missing.first().filter(|_| !self.is_held && !self.is_backlogged()).copied()
            && now_ns >= self.give_up_ns(hole.found_ns)
            && !self.evidence.protects(hole.to)
        {
            self.give_up(hole.from, hole.to, sink);
            self.release(sink);
        }
        self.lines.check(now_ns, sink);
        self.requester.check(now_ns, sink);
        let is_young = |found_ns: Running| now_ns.since(found_ns) < EDGE_NS;
        let at_edge = self.missing.first().is_none_or(|hole| hole.found_ns > self.begun_ns && is_young(hole.found_ns));
        self.is_current |= at_edge && self.expected().is_some() && !self.is_held && !self.is_backlogged();
    }

    /// The next request to send, and to whom.
    pub fn request(&mut self, now_ns: Running) -> Option<(SocketAddr, Request)> {
        // What is held may have what is missing.
        let session = self.in_order.session().filter(|_| self.proven.is_none())?;
        self.requester.next(&mut self.missing, session, now_ns)
    }

    /// When to come back at the latest if no packet comes.
    pub fn due_ns(&self) -> Option<Running> {
        let hole = self.missing.first().filter(|hole| !self.is_held && !self.evidence.protects(hole.to));
        let hole = hole.map(|hole| self.give_up_ns(hole.found_ns));
        hole.into_iter().chain(self.requester.due_ns(&self.missing)).min()
    }

    /// Are held messages in order now, so that they wait for the next turn?
    pub fn is_backlogged(&self) -> bool {
        self.proven.is_some() || self.has_next()
    }

    /// Does the window hold what comes next?
    fn has_next(&self) -> bool {
        if self.is_held {
            return false;
        }
        let expected = self.expected().unwrap_or(0);
        self.window.first().is_some_and(|held| held.from <= expected)
    }

    /// The number that comes next; none before the first packet.
    pub fn expected(&self) -> Option<u64> {
        self.in_order.expected()
    }

    /// The session under way.
    pub fn session(&self) -> Option<Session> {
        self.in_order.session()
    }

    /// The number after the highest that is known to exist.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Are the books incomplete, so that a snapshot would make them whole?
    pub fn wants_snapshot(&self) -> bool {
        self.wants_snapshot
    }

    /// Has nothing of this session been passed on yet?
    pub fn is_joining(&self) -> bool {
        self.is_held && self.in_order.counters().messages == self.messages_before
    }

    /// Passes nothing on until there is a snapshot, or there will be none: what comes waits in the window.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Goes on from message `sequence`: those before it are in the snapshot that has been passed on.
    pub fn resume(&mut self, sequence: u64, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        let expected = self.expected().unwrap_or(sequence);
        self.in_order.rebase(sequence);
        if sequence < expected {
            // The lines were joined later than the snapshot was made.
            self.missing.add(sequence, expected, now_ns);
        } else {
            self.missing.advance(sequence);
        }
        self.seen = self.seen.max(sequence);
        self.progress_ns = now_ns;
        self.current_ns = Some(now_ns);
        (self.is_incomplete, self.wants_snapshot, self.is_held) = (false, false, false);
        self.release(sink);
    }

    /// Goes on with what comes, and with books that are incomplete.
    pub fn resume_without(&mut self) {
        self.is_incomplete |= self.is_joining();
        self.is_held = false;
    }

    /// Is what is passed on the present?
    pub fn condition(&self, now_ns: Running) -> Condition {
        let is_silent = |spoke_ns: Option<Running>| {
            now_ns.since(spoke_ns.or(self.started_ns).unwrap_or(now_ns)) > self.config.stale_ns_max
        };
        let is_doubtful = self.current_ns.is_some_and(|current_ns| now_ns.since(current_ns) > self.config.proof_ns);
        if is_silent(self.packet_ns) {
            Condition::Stale(Stale::Silent)
        } else if is_silent(self.current_ns) || !self.suspects.is_empty() && is_doubtful {
            Condition::Stale(Stale::Unproven)
        } else if !self.is_current {
            Condition::CatchingUp
        } else if self.is_incomplete {
            Condition::Stale(Stale::Incomplete)
        } else {
            Condition::Live
        }
    }

    /// What came, what went, what was missing.
    pub fn counters(&self) -> FeedCounters {
        let passed = self.in_order.counters();
        let own = &self.counters;
        FeedCounters {
            packets: own.packets,
            bytes: own.bytes,
            heartbeats: own.heartbeats + passed.heartbeats,
            duplicates: own.duplicates + passed.duplicates,
            stale: own.stale + passed.stale,
            malformed: own.malformed + passed.malformed,
            dropped: own.dropped,
            suspected: own.suspected,
            recovered: own.recovered,
            requests: self.requester.sent(),
            ..*passed
        }
    }

    /// The lines.
    pub fn lines(&self, now_ns: Running) -> Vec<Line> {
        self.lines.report(now_ns)
    }

    /// Takes over the kernel's count of packets that it has dropped on a line.
    pub fn set_kernel_drops(&mut self, line: usize, drops: u64) {
        self.lines.set_kernel_drops(line, drops);
    }

    /// The old session is over: what is missing of it will not come any more.
    fn finish_session(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.release_left = usize::MAX;
        self.is_held = false;
        self.release(sink);
        while let Some(hole) = self.missing.first().copied() {
            self.give_up(hole.from, hole.to, sink);
            self.release(sink);
        }
        if self.seen > self.missing.end() {
            self.give_up(self.missing.end(), self.seen, sink);
        }
        self.release(sink);
        self.release_left = RELEASE_MESSAGES_MAX;
    }

    fn begin_session(&mut self, session: Session, now_ns: Running) {
        let expected = self.in_order.expected().unwrap_or(1);
        self.counters.stale += self.suspects.renew(session);
        self.recovered.clear();
        self.evidence.clear();
        self.is_confirmed = false;
        self.current_ns = Some(now_ns);
        self.missing.reset(expected);
        self.window.clear();
        self.requester.reset();
        self.lines.reset();
        self.end = None;
        self.seen = expected;
        (self.progress_ns, self.begun_ns) = (now_ns, now_ns);
        self.is_current = false;
        self.is_incomplete = false;
        let is_late = !self.has_begun && expected > 1 && self.config.snapshots == SnapshotUse::AtJoin;
        (self.is_held, self.wants_snapshot) = (is_late, is_late);
        self.messages_before = self.in_order.counters().messages;
    }

    /// A packet of the session under way.
    fn take(&mut self, arrived: &Arrived<'_>, packet: &Packet<'_>, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        let Arrived { origin, bytes, received_ns, .. } = *arrived;
        let expected = self.in_order.expected().unwrap_or(1);
        let (from, to) = (packet.sequence(), packet.sequence() + count(packet));
        if from.saturating_sub(expected) > SEQUENCE_JUMP_MAX {
            // [`InOrder`] refuses it.
            return self.pass(bytes, received_ns, sink);
        }
        match origin {
            Origin::Line(line) => {
                // One packet that is ahead of all others does not say where a line is.
                let is_sure = self.evidence.is_empty();
                self.lines.position(line, (from, to), (expected, is_sure), now_ns, sink);
            }
            Origin::Server(server) => self.requester.reply(server, from, to, now_ns, sink),
        }
        self.seen = self.seen.max(to);
        let new = if from <= expected && !self.is_held {
            self.pass(bytes, received_ns, sink);
            self.in_order.expected().unwrap_or(0).saturating_sub(expected)
        } else {
            self.keep(arrived, packet, now_ns, sink)
        };
        match (origin, packet.kind()) {
            (Origin::Line(line), Kind::Messages(_)) if new > 0 => self.lines.won(line, from, received_ns),
            (Origin::Line(line), Kind::Messages(_)) => self.lines.lost(line, from, received_ns),
            (Origin::Server(_), _) => self.counters.recovered += new,
            _ => {}
        }
    }

    /// A packet that is ahead. How many messages it has that were not there.
    fn keep(
        &mut self,
        arrived: &Arrived<'_>,
        packet: &Packet<'_>,
        now_ns: Running,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> u64 {
        let Arrived { bytes, received_ns, .. } = *arrived;
        let (sequence, messages) = (packet.sequence(), count(packet));
        match packet.kind() {
            Kind::Messages(_) => {}
            kind => {
                if kind == Kind::Heartbeat {
                    self.counters.heartbeats += 1;
                } else if let Some(packet) = bytes.first_chunk() {
                    self.end = Some((sequence, *packet));
                }
                // Bytes behind the header, if there are any.
                packet.messages().filter_map(Result::err).for_each(|error| self.malformed(error, sink));
                return 0;
            }
        }
        if !self.missing.has_room() {
            self.drop_packet(messages, sink);
            return 0;
        }
        self.missing.reveal(sequence, now_ns);
        let Some((from, to)) = self.missing.hull(sequence, sequence + messages) else {
            self.counters.duplicates += messages;
            return 0;
        };
        // The messages that come sooner are worth more. Those that come later can be asked for once more.
        while !self.window.fits(bytes.len()) {
            let is_later = self.window.last().is_some_and(|last| last.from >= to) && self.missing.has_room();
            let Some(last) = is_later.then(|| self.window.pop_last()).flatten() else {
                self.missing.reveal(to, now_ns);
                self.drop_packet(messages, sink);
                return 0;
            };
            self.missing.add(last.from, last.to, now_ns);
            self.drop_packet(last.messages.into(), sink);
        }
        self.counters.duplicates += self.window.remove_within(from, to);
        self.window.insert((from, to), u16::try_from(messages).unwrap_or(u16::MAX), received_ns, bytes);
        self.missing.fill(from, to)
    }

    fn drop_packet(&mut self, messages: u64, sink: &mut dyn FnMut(Event<'_>)) {
        self.counters.dropped += messages;
        sink(Event::Trouble(Trouble::WindowFull { window_bytes: self.config.window_bytes }));
    }

    /// Passes on what is held and has become the next, as far as this turn permits.
    fn release(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while self.release_left > 0 && self.has_next() {
            let before = self.in_order.counters().messages;
            let Some((held, bytes)) = self.window.pop_first() else { return };
            self.in_order.accept(bytes, held.received_ns, &mut *sink);
            self.missing.advance(self.in_order.expected().unwrap_or(0));
            let messages = self.in_order.counters().messages - before;
            self.release_left =
                self.release_left.saturating_sub(usize::try_from(messages).unwrap_or(usize::MAX).max(1));
        }
        if let Some((sequence, packet)) = self.end.filter(|_| !self.is_held)
            && self.in_order.expected().is_some_and(|expected| expected >= sequence)
        {
            self.end = None;
            self.pass(&packet, UnixNs::default(), sink);
        }
    }

    fn give_up(&mut self, from: u64, to: u64, sink: &mut dyn FnMut(Event<'_>)) {
        self.is_incomplete = true;
        self.wants_snapshot = self.config.snapshots != SnapshotUse::Never;
        if self.requester.has_servers() {
            let waited_ms = self.config.recovery_ns_max / 1_000_000;
            sink(Event::Trouble(Trouble::GaveUp { from, to, waited_ms }));
        }
        self.in_order.give_up(to, &mut *sink);
        self.missing.advance(to);
    }

    /// When a hole that was found then is given up.
    fn give_up_ns(&self, found_ns: Running) -> Running {
        if self.requester.has_servers() {
            found_ns.max(self.progress_ns) + self.config.recovery_ns_max
        } else {
            found_ns + self.config.reorder_ns
        }
    }

    /// Hands a packet that is in order, or refused, to [`InOrder`].
    fn pass(&mut self, bytes: &[u8], received_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) {
        self.in_order.accept(bytes, received_ns, &mut *sink);
        self.missing.advance(self.in_order.expected().unwrap_or(0));
    }

    fn malformed(&mut self, error: super::PacketError, sink: &mut dyn FnMut(Event<'_>)) {
        self.counters.malformed += 1;
        sink(Event::Malformed { offset: error.offset as u64, reason: error.fault.into() });
    }
}

/// The messages of a packet that can be read.
fn count(packet: &Packet<'_>) -> u64 {
    packet.messages().filter(Result::is_ok).count() as u64
}

/// What has been missing for less is no sign of being behind.
const EDGE_NS: u64 = 100_000_000;
