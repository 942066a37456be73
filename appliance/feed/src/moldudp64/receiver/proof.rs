//! What is not believed at once: what needs a proof, and what proves it.

use super::super::suspects::{Current, Holding, Kind as Doubt};
use super::super::{Arrived, Kind, Origin, Packet};
use super::{Receiver, SnapshotUse, count};
use crate::limits::SEQUENCE_JUMP_MAX;
use crate::moldudp64::clock::Running;
use crate::{Event, Trouble};

impl Receiver {
    /// Why a packet of a line is not believed at once, if it is not.
    pub(super) fn doubt(&self, packet: &Packet<'_>, line: usize, now_ns: Running) -> Option<Doubt> {
        // The first of all begins: there is nothing that it contradicts.
        let (session, expected) = (self.in_order.session()?, self.in_order.expected()?);
        let is_known = self.config.has_known_sender.get(line) == Some(&true);
        if packet.session() != session {
            return (!is_known && self.in_order.would_begin(packet)).then_some(Doubt::Session);
        }
        let from = packet.sequence();
        let ahead = from.saturating_sub(self.seen.max(expected));
        if ahead > self.config.jump_messages_max {
            // [`InOrder`] refuses what is beyond all belief.
            return (!is_known && from.saturating_sub(expected) <= SEQUENCE_JUMP_MAX).then_some(Doubt::Ahead);
        }
        // What is in order, or ahead, is not looked at more closely.
        let to = if from < expected { from + count(packet) } else { from };
        let is_far = !self.is_confirmed && expected.saturating_sub(to) > self.config.jump_messages_max;
        let is_late = self.current_ns.is_some_and(|current_ns| now_ns.since(current_ns) > BACK_NS_MIN);
        (to < expected && (is_far || is_late)).then_some(Doubt::Back)
    }

    /// Holds a packet that is not believed.
    pub(super) fn suspect(
        &mut self,
        doubt: Doubt,
        arrived: &Arrived<'_>,
        packet: &Packet<'_>,
        now_ns: Running,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let messages = count(packet);
        let is_ended = self.in_order.is_ended();
        let (holding, forgotten) = self.suspects.hold(doubt, packet, messages, arrived, is_ended, now_ns);
        self.counters.suspected += 1;
        self.counters.stale += forgotten;
        match holding {
            Holding::Held => {}
            Holding::Dropped => self.counters.stale += messages,
            Holding::First => {
                if let (Origin::Line(line), Some(current)) = (arrived.origin, self.in_order.session()) {
                    sink(Event::Trouble(Trouble::Suspected {
                        line: self.config.lines.get(line).map_or("", String::as_str),
                        source_address: arrived.source,
                        session: packet.session(),
                        sequence: packet.sequence(),
                        current,
                        expected: self.expected().unwrap_or(1),
                    }));
                }
            }
        }
    }

    /// Goes over to what is proven by now, if something is.
    pub(super) fn prove(&mut self, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        if self.suspects.is_empty() || self.proven.is_some() {
            return;
        }
        let current = Current {
            is_confirmed: self.is_confirmed,
            is_ended: self.in_order.is_ended(),
            silent_ns: self.current_ns.map_or(0, |current_ns| now_ns.since(current_ns)),
        };
        let Some(claim) = self.suspects.proven(current) else { return };
        // Nobody has ever confirmed the numbering under way: what is proven is the first.
        let is_first = !self.has_begun && self.in_order.starts_live();
        if let (Doubt::Back, Some(session)) = (claim.kind, self.in_order.session()) {
            self.finish_session(sink);
            self.in_order.restart(if is_first { claim.first } else { 1 }, &mut *sink);
            self.begin_session(session, now_ns);
        } else if claim.kind == Doubt::Session && is_first {
            self.finish_session(sink);
            self.in_order.forget();
        }
        self.proven = Some(claim);
        self.pass_on(now_ns, sink);
        (self.is_confirmed, self.has_begun) = (true, true);
    }

    /// Passes on what was proven, as far as this turn permits.
    pub(super) fn pass_on(&mut self, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(mut proven) = self.proven.take() else { return };
        while self.release_left > 0 {
            let Some((arrived, is_proven)) = proven.next() else { return };
            let (Ok(packet), Origin::Line(line)) = (Packet::parse(arrived.bytes), arrived.origin) else { continue };
            let messages = usize::try_from(count(&packet)).unwrap_or(usize::MAX);
            match self.doubt(&packet, line, now_ns).filter(|_| !is_proven) {
                Some(doubt) => self.suspect(doubt, &arrived, &packet, now_ns, sink),
                None => self.admit(&arrived, &packet, now_ns, sink),
            }
            self.release_left = self.release_left.saturating_sub(messages.max(1));
        }
        self.proven = Some(proven);
    }

    /// What a packet of a line says of the numbers: whether it confirms those ahead of it.
    pub(super) fn weigh(&mut self, packet: &Packet<'_>, line: usize, is_new: bool, now_ns: Running) {
        let (from, expected) = (packet.sequence(), self.in_order.expected().unwrap_or(1));
        if from == expected && self.evidence.is_empty() && self.is_confirmed {
            // It is in order, as nearly all are.
            self.current_ns = Some(now_ns);
            return;
        }
        let to = from + count(packet);
        if to >= expected {
            self.current_ns = Some(now_ns);
        }
        let is_known = self.config.has_known_sender.get(line) == Some(&true);
        self.is_confirmed |= is_known || !is_new && to >= expected;
        self.has_begun |= self.is_confirmed;
        if is_known {
            self.evidence.vouch(to, now_ns);
        } else {
            self.evidence.weigh((from, to), line, (self.seen.max(expected), expected), now_ns);
        }
    }

    /// Takes back what one packet alone said, and the feed has contradicted since.
    pub(super) fn take_back(&mut self, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        self.evidence.settle(now_ns);
        while let Some((at, last)) = self.evidence.take_refuted(now_ns) {
            // It ends nothing, even where others still claim what is beyond it.
            self.end = self.end.filter(|(sequence, _)| !(at..=last).contains(sequence));
            let end = self.evidence.end().max(self.expected().unwrap_or(1));
            if end >= self.seen {
                continue;
            }
            self.counters.suspected += 1;
            self.counters.stale += self.window.retract(end);
            self.missing.retract(end);
            self.lines.retract(end);
            let seen = std::mem::replace(&mut self.seen, end);
            self.end = self.end.filter(|(sequence, _)| *sequence <= end);
            sink(Event::Trouble(Trouble::TakenBack { from: end, to: seen }));
        }
    }

    /// Takes what a server has sent: messages that it was asked for, and nothing else.
    pub(super) fn reply(
        &mut self,
        arrived: &Arrived<'_>,
        packet: &Packet<'_>,
        server: usize,
        now_ns: Running,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let (from, messages) = (packet.sequence(), count(packet));
        let to = from + messages;
        let unasked = self.missing.first_within(from, to).filter(|first| !self.missing.may_be_asked(*first));
        let what = if self.in_order.session() != Some(packet.session()) {
            // What was asked for in the session before may come late.
            let is_late = !self.in_order.would_begin(packet) || self.in_order.session().is_none();
            (!is_late).then(|| "messages of another session".to_owned())
        } else if !matches!(packet.kind(), Kind::Messages(_)) {
            None
        } else if to > self.seen {
            Some(format!("message {}, which no line has named", to - 1))
        } else if let Some(unasked) = unasked {
            Some(format!("message {unasked}, which it was not asked for"))
        } else {
            self.evidence.answered(to, now_ns);
            if self.missing.first_within(from, to).is_some() {
                self.recovered.note(server, packet);
            }
            return self.admit(arrived, packet, now_ns, sink);
        };
        self.requester.heard(server, sink);
        self.counters.stale += messages;
        if let (Some(what), Some(server_address)) = (what, self.requester.address(server)) {
            self.requester.distrust(server);
            sink(Event::Trouble(Trouble::ServerContradicts { server: server_address, what: &what }));
        }
    }

    /// Compares what a line brings with what a server had before it.
    pub(super) fn compare(&mut self, packet: &Packet<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some((sequence, server)) = self.recovered.contradicted(packet) else { return };
        let Some(address) = self.requester.address(server) else { return };
        // What was passed on cannot be called back: a snapshot makes the books whole.
        self.is_incomplete = true;
        self.wants_snapshot = self.config.snapshots != SnapshotUse::Never;
        self.requester.distrust(server);
        let what = &format!("message {sequence} with other contents than a line");
        sink(Event::Trouble(Trouble::ServerContradicts { server: address, what }));
    }
}

/// What is below the next number so long after the last that was not is not late: it went back.
const BACK_NS_MIN: u64 = 100_000_000;
