//! How a session begins, falls behind, becomes current, and ends.

use std::io;
use std::net::SocketAddr;

use fanblade_net::{Engine, SessionId, Unsent};
use fanblade_wire::close;
use fanblade_wire::frame::{self, Opcode};
use fanblade_wire::handshake::Rejection;

use crate::closes::NO_FRAME;
use crate::directory::{Set, SetKind};
use crate::limits::TURN_SENDS;
use crate::protocol;
use crate::session::{Behind, Extra, IDLE, NOT_MEMBER, State};
use crate::slices::begin_with;
use crate::worker::{Action, Worker};

impl Worker {
    pub(crate) fn accepted(&mut self, index: u32, peer: SocketAddr) {
        self.stats.accepted.add(1);
        self.stats.sessions.add(1);
        let is_full = self.sessions.open() >= self.config.limits.sessions_max || self.draining.is_some();
        let session = self.sessions.begin(index, peer, self.now_ms);
        if self.config.proxy_protocol_from.contains(peer.ip()) {
            session.state = State::Preface;
        }
        if is_full {
            self.stats.refused_capacity.add(1);
            if let Some(draining) = &mut self.draining {
                draining.refused.insert(index);
            }
            self.end_with_bytes(index, crate::upgrade::AT_CAPACITY.as_bytes());
        } else {
            self.arm(index, self.now_ms + u64::from(self.config.limits.handshake_ms_max));
        }
    }

    pub(crate) fn received(&mut self, index: u32, bytes: &mut [u8]) {
        let (now_ms, pieces_max) = (self.now_ms, self.config.limits.pieces_per_s_max);
        let Some(session) = self.sessions.find(index) else { return };
        if session.count_pieces(now_ms, bytes.len()) > pieces_max {
            return self.too_many_pieces(index);
        }
        session.received_ms = now_ms;
        let was_pinged = std::mem::take(&mut session.pinged);
        let state = session.state;
        if was_pinged && state == State::Open && !session.is_behind() {
            // From the pong's deadline to the next ping.
            self.arm(index, now_ms + self.silence_ms_max(index));
        }
        match state {
            State::Preface => self.preface(index, bytes),
            State::Handshake => self.upgrade(index, bytes),
            State::Open => self.requests(index, bytes),
            State::Free | State::Closing | State::Lingering => {}
        }
        self.sessions.weigh(index);
    }

    /// Whoever makes us work for single bytes, or for more bytes than anybody has to say here, is let go.
    fn too_many_pieces(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        let state = session.state;
        // So many again until it is let go without ceremony: the close frame is to arrive.
        session.pieces = 0;
        self.stats.pieces_closed.add(1);
        match state {
            State::Handshake => self.reject(index, &Rejection::new(429, "The request comes in too many pieces.")),
            State::Open => self.begin_close(index, close::TOO_MANY_REQUESTS, "too many pieces in a second"),
            // It has been told to go and goes on sending; or it is a proxy, which would not understand.
            State::Free | State::Preface | State::Closing | State::Lingering => self.drop_session(index),
        }
    }

    pub(crate) fn writable(&mut self, index: u32) {
        if let Some(session) = self.sessions.find(index)
            && std::mem::take(&mut session.blocked)
        {
            self.make_ready(index);
        }
    }

    /// The peer has ended its side, or the connection `has_failed`.
    pub(crate) fn peer_closed(&mut self, index: u32, has_failed: bool) {
        let Some(session) = self.sessions.find(index) else { return };
        session.has_ended = true;
        let state = session.state;
        if state == State::Open {
            self.stats.closed_by_peer.add(1);
            self.stats.closes.count_peers(NO_FRAME);
        }
        match state {
            // The end of its input is not the end of our output: last bytes that are on their way still go.
            State::Closing if !has_failed => {}
            State::Open if !has_failed => self.finish(index),
            State::Handshake => {
                self.stats.left_without_request.add(1);
                self.drop_session(index);
            }
            _ => self.drop_session(index),
        }
    }

    /// Nothing more will be asked: the session is given what has been asked for (replies, snapshots, history), and ends
    /// as soon as it is current.
    fn finish(&mut self, index: u32) {
        self.step_out_of_batch(index);
        let now_ms = self.now_ms;
        let Some(session) = self.sessions.find(index) else { return };
        session.received_ms = now_ms;
        if !session.must_defer() {
            return self.begin_close(index, close::NORMAL, HAS_ENDED);
        }
        self.stats.half_closed.add(1);
        if let Some(extra) = self.sessions.extra(index) {
            extra.close_when_current.get_or_insert((close::NORMAL, HAS_ENDED));
        }
        self.arm_earlier(index, now_ms + u64::from(self.config.limits.half_closed_ms_max));
    }

    /// A deadline of this session has passed: which one follows from its state.
    pub(crate) fn on_deadline(&mut self, index: u32) {
        let now_ms = self.now_ms;
        let silence_ms_max = self.silence_ms_max(index);
        let (pong_ms_max, lag_ms_max, subscribe_ms_max) = {
            let limits = &self.config.limits;
            (u64::from(limits.pong_ms_max), u64::from(limits.lag_ms_max), u64::from(limits.subscribe_ms_max))
        };
        let half_closed_ms_max = u64::from(self.config.limits.half_closed_ms_max);
        let Some(session) = self.sessions.find(index) else { return };
        // From the end of its input on, if that has come.
        let finish_ms = session.received_ms + half_closed_ms_max;
        let has_ended = session.has_ended;
        match session.state {
            State::Free => return,
            State::Preface | State::Handshake => {
                self.stats.handshake_timeouts.add(1);
                return self.drop_session(index);
            }
            State::Closing | State::Lingering => return self.drop_session(index),
            State::Open => {}
        }
        if has_ended && now_ms >= finish_ms {
            self.stats.slow_evicted.add(1);
            return self.begin_close(index, close::TOO_SLOW, "did not take in time what it had asked for");
        }
        if let Some(behind) = session.extra.as_ref().and_then(|extra| extra.behind.as_ref())
            && session.blocked
        {
            // Its socket is full: pings would wait in the queue with everything else. Taking bytes is its sign of life.
            let deadline = behind.progress_ms + lag_ms_max;
            if now_ms >= deadline {
                self.stats.slow_evicted.add(1);
                return self.begin_close(index, close::TOO_SLOW, "too slow");
            }
            return self.arm(index, if has_ended { deadline.min(finish_ms) } else { deadline });
        }
        if has_ended {
            // It cannot answer a ping.
            return self.arm(index, finish_ms);
        }
        if !session.subscribed_once && subscribe_ms_max > 0 {
            // Armed at the upgrade for exactly this.
            self.stats.subscribe_timeouts.add(1);
            return self.begin_close(index, close::POLICY, "subscribed to nothing in time");
        }
        if session.pinged {
            self.stats.pong_timeouts.add(1);
            return self.drop_session(index);
        }
        let silent_until = session.received_ms + silence_ms_max;
        if now_ms < silent_until {
            return self.arm(index, silent_until);
        }
        session.pinged = true;
        self.stats.pings.add(1);
        if session.owes_nothing() {
            self.pinged.push(index);
        } else {
            self.say(index, |out| out.extend_from_slice(PING));
        }
        self.arm(index, now_ms + pong_ms_max);
    }

    /// After how much silence this session is pinged. Less than the configured interval, by up to a quarter of it and
    /// for each session by as much every time: those who came at once are soon not pinged at once any more.
    pub(crate) fn silence_ms_max(&self, index: u32) -> u64 {
        silence_ms(index, self.config.limits.ping_interval_ms).into()
    }

    /// Lets `write` add bytes to what the session is owed before any further frame.
    pub(crate) fn say(&mut self, index: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let control_bytes_max = self.config.limits.control_bytes_max;
        let Some(extra) = self.sessions.extra(index) else { return };
        write(&mut extra.out);
        if extra.owed().len() > control_bytes_max {
            self.stats.slow_evicted.add(1);
            return self.drop_session(index);
        }
        self.sessions.weigh(index);
        self.make_ready(index);
    }

    /// Sends a text message.
    pub(crate) fn say_text(&mut self, index: u32, text: &str) {
        self.say(index, |out| frame::write_frame(out, Opcode::Text, text.as_bytes()));
    }

    /// Sends a text message to every session that has subscriptions and is current; where `behind_too`, those who are
    /// behind get it after what they are owed.
    pub(crate) fn tell_all(&mut self, engine: &mut dyn Engine, text: &str, behind_too: bool) -> io::Result<()> {
        // What waits goes before it.
        self.send_due(engine, true)?;
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, Opcode::Text, text.as_bytes());
        let mut current = self.sessions.indices();
        current.retain(|&index| {
            let Some(session) = self.sessions.find(index) else { return false };
            if session.state != State::Open || session.set == Set::NONE {
                return false;
            }
            let is_current = session.member != NOT_MEMBER;
            let owes_nothing = session.owes_nothing();
            if !owes_nothing && (is_current || behind_too) {
                self.say_text(index, text);
            }
            owes_nothing
        });
        self.say_same(engine, &current, &bytes)
    }

    /// Sends the same frame to sessions that owe nothing, from the same bytes, as the fan-out does: a buffer for each
    /// of a million sessions would be memory that the allocator does not give back.
    pub(crate) fn say_same(&mut self, engine: &mut dyn Engine, sessions: &[u32], bytes: &[u8]) -> io::Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        begin_with(&mut self.slices, bytes);
        self.is_sending = true;
        for part in sessions.chunks(TURN_SENDS) {
            part.iter().for_each(|index| engine.send(SessionId(*index), &self.slices));
            self.stats.turns.add(1);
        }
        let unsent = &mut self.unsent;
        engine.flush(&mut |it| unsent.push(it))?;
        self.is_sending = false;
        while let Some(it) = self.unsent.last().copied() {
            self.said_in_part(it, bytes);
            self.unsent.pop();
        }
        Ok(())
    }

    /// A session's socket did not take the whole of `bytes`, a frame: it owes the rest, and is behind from here on.
    fn said_in_part(&mut self, unsent: Unsent, bytes: &[u8]) {
        let index = unsent.session.0;
        self.stats.unsent.add(1);
        if unsent.error.is_some() {
            return self.drop_session(index);
        }
        let Some(session) = self.sessions.find(index) else { return };
        session.blocked = true;
        self.fall_behind_here(index);
        self.note_slow(index);
        if let Some(extra) = self.sessions.extra(index) {
            extra.owe_rest(bytes.get(unsent.sent..).unwrap_or_default());
        }
        self.sessions.weigh(index);
        self.actions.push(Action::WantWritable(unsent.session));
    }

    fn tell_epoch(&mut self, index: u32) {
        let mut text = std::mem::take(&mut self.text);
        protocol::write_epoch(&mut text, &self.epoch);
        self.say_text(index, &text);
        self.text = text;
    }

    /// Puts the session among those that `serve` looks at, once.
    pub(crate) fn make_ready(&mut self, index: u32) {
        if let Some(session) = self.sessions.find(index)
            && !session.blocked
            && !std::mem::replace(&mut session.dirty, true)
        {
            self.ready.push_back(index);
        }
    }

    /// From here on the session gets nothing from the fan-out until it has caught up. `behind` says where it stands.
    pub(crate) fn fall_behind(&mut self, index: u32, behind: Behind) {
        let now_ms = self.now_ms;
        let lag_ms_max = u64::from(self.config.limits.lag_ms_max);
        let generation = self.epoch_generation;
        self.leave_members(index);
        let Some(extra) = self.sessions.extra(index) else { return };
        if extra.behind.is_some() {
            return;
        }
        extra.behind = Some(Behind { generation, progress_ms: now_ms, ..behind });
        self.stats.sessions_behind.add(1);
        if self.sessions.find(index).is_some_and(|session| session.subscribed_once) {
            self.arm_earlier(index, now_ms + lag_ms_max);
        }
    }

    /// The kernel did not take all that the session was owed.
    pub(crate) fn note_slow(&mut self, index: u32) {
        if let Some(behind) = self.sessions.extra(index).and_then(|extra| extra.behind.as_mut()) {
            behind.is_slow = true;
        }
    }

    /// Everything up to the cursor has been given to it: the fan-out takes it from here.
    pub(crate) fn become_current(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        if let Some(extra) = &mut session.extra
            && let Some(behind) = extra.behind.take()
        {
            self.stats.sessions_behind.sub(1);
            self.stats.caught_up.add(u64::from(behind.is_slow));
            if behind.dropped > 0 {
                self.stats.frames_conflated.add(behind.dropped);
                let mut text = std::mem::take(&mut self.text);
                protocol::write_lagging(&mut text, behind.dropped);
                self.say_text(index, &text);
                self.text = text;
            }
            if behind.generation != self.epoch_generation {
                self.tell_epoch(index);
            }
        }
        self.serve_deferred(index);
        self.join_when_nothing_is_owed(index);
    }

    /// A session that owes bytes of its own is no member: the fan-out would put a frame, or the half of one, before or
    /// into them. It stays behind, with nothing missing, until they are out.
    fn join_when_nothing_is_owed(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.state != State::Open || session.is_behind() {
            return;
        }
        if session.extra.as_ref().is_some_and(|extra| extra.close_when_current.is_some()) {
            // It is about to end, and gets no more than it is owed.
            self.make_ready(index);
        } else if session.extra.as_ref().is_none_or(|extra| extra.owed().is_empty()) {
            self.join_members(index);
            self.sessions.tidy(index);
        } else if session.set != Set::NONE {
            self.fall_behind_here(index);
        }
    }

    /// Moves a session to another set of subscriptions.
    pub(crate) fn change_set(&mut self, index: u32, set: Set) {
        let Some(session) = self.sessions.find(index) else { return };
        let old = session.set;
        let was_member = session.member != NOT_MEMBER;
        if old == set {
            // A list of its own has changed in itself.
            return self.note_sets();
        }
        // Taken before the old one is let go, so that a sweep in between cannot meet it without sessions.
        self.directory.acquire(set);
        if set == Set::NONE {
            self.stats.sessions_subscribed.sub(1);
        }
        self.leave_members(index);
        if old == Set::NONE {
            self.stats.sessions_subscribed.add(1);
        }
        self.directory.release(index, old);
        if let Some(session) = self.sessions.find(index) {
            session.set = set;
        }
        if was_member || old == Set::NONE {
            self.join_members(index);
        }
        self.note_sets();
    }

    fn note_sets(&self) {
        let (lists, subscriptions) = self.directory.own_lists();
        self.stats.own_lists_bytes.set(self.directory.own_lists_bytes() as u64);
        self.stats.groups.set(self.directory.groups_live() as u64);
        self.stats.filters.set(self.directory.filters_counted() as u64);
        self.stats.own_lists.set(lists);
        self.stats.own_subscriptions.set(subscriptions);
    }

    /// Sends Close and ends the session once everything that it is owed before that has gone out (RFC 6455, 7.1.2).
    pub(crate) fn begin_close(&mut self, index: u32, code: u16, reason: &str) {
        let has_ended = self.sessions.find(index).is_some_and(|session| session.has_ended);
        if !has_ended {
            self.stats.closed_by_server.add(1);
            self.stats.closes.count_ours(code);
        }
        let mut frame = Vec::new();
        frame::write_close(&mut frame, code, reason);
        self.end_with_bytes(index, &frame);
    }

    /// The last bytes of a session.
    pub(crate) fn end_with_bytes(&mut self, index: u32, bytes: &[u8]) {
        self.leave_group(index);
        let deadline_ms = self.now_ms + u64::from(self.config.limits.close_ms_max);
        let Some(session) = self.sessions.find(index) else { return };
        session.state = State::Closing;
        let Some(extra) = self.sessions.extra(index) else { return };
        extra.head = Vec::new();
        extra.out.extend_from_slice(bytes);
        self.sessions.weigh(index);
        self.make_ready(index);
        self.arm(index, deadline_ms);
    }

    /// Its last bytes are out: our side of the connection ends, and the peer's is awaited, unless it has ended already.
    pub(crate) fn linger(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.has_ended {
            return self.drop_session(index);
        }
        session.state = State::Lingering;
        self.actions.push(Action::ShutdownWrite(SessionId(index)));
    }

    /// Ends a session at once.
    pub(crate) fn drop_session(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.state == State::Open && !session.has_ended {
            self.stats.closes.count_ours(NO_FRAME);
        }
        self.leave_group(index);
        self.wheel.disarm(&mut self.sessions, index);
        self.sessions.end(index);
        if let Some(draining) = &mut self.draining {
            draining.refused.remove(&index);
        }
        self.stats.sessions.sub(1);
        self.actions.push(Action::Close(SessionId(index)));
    }

    /// Tells every session that the blade stops: those who are current now, the others when they are.
    pub(crate) fn announce_drain(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        draining.announced = true;
        let (code, reconnect_ms_max) = (draining.close_code, draining.reconnect_ms_max);
        for index in self.sessions.indices() {
            let Some(session) = self.sessions.find(index) else { continue };
            match session.state {
                State::Preface | State::Handshake => self.drop_session(index),
                State::Open => {
                    if code == close::RESTART {
                        let reconnect_in_ms = spread(index, self.epoch_generation, reconnect_ms_max);
                        let mut text = std::mem::take(&mut self.text);
                        protocol::write_restart(&mut text, reconnect_in_ms);
                        self.say_text(index, &text);
                        self.text = text;
                    }
                    let Some(session) = self.sessions.find(index) else { continue };
                    if session.is_behind()
                        && let Some(extra) = self.sessions.extra(index)
                    {
                        extra.close_when_current = Some((code, drain_reason(code)));
                    } else {
                        self.begin_close(index, code, drain_reason(code));
                    }
                }
                State::Free | State::Closing | State::Lingering => {}
            }
        }
    }

    pub(crate) fn arm(&mut self, index: u32, deadline_ms: u64) {
        self.wheel.arm(&mut self.sessions, index, deadline_ms);
    }

    pub(crate) fn arm_earlier(&mut self, index: u32, deadline_ms: u64) {
        if self.sessions.find(index).is_some_and(|session| deadline_ms < session.links.deadline_ms) {
            self.arm(index, deadline_ms);
        }
    }

    fn leave_group(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        if let Some(extra) = &mut session.extra {
            if extra.behind.take().is_some() {
                self.stats.sessions_behind.sub(1);
            }
            extra.forget_requests();
            extra.is_waiting = false;
            extra.close_when_current = None;
            if let Some(preparation) = extra.preparation.take() {
                self.directory.end_preparation(preparation);
            }
        }
        self.change_set(index, Set::NONE);
    }

    /// While its group waits for more, the session cannot: it has what the others have not yet.
    fn join_members(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.member != NOT_MEMBER {
            return;
        }
        let group = match session.set.kind() {
            SetKind::None => return,
            SetKind::Own(_) => {
                session.member = IDLE;
                return;
            }
            SetKind::Group(number) => &mut self.directory.groups[number as usize],
        };
        if !group.owed.is_empty() {
            group.joiners.push(index);
            return self.fall_behind_here(index);
        }
        let members = &mut group.members;
        session.member = u32::try_from(members.len()).unwrap_or(NOT_MEMBER);
        members.push(index);
    }

    fn leave_members(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        let slot = session.slot();
        let place = std::mem::replace(&mut session.member, NOT_MEMBER);
        if place == NOT_MEMBER {
            return;
        }
        if let Some(slot) = slot {
            return self.arena.leave(slot);
        }
        let SetKind::Group(number) = session.set.kind() else { return };
        let members = &mut self.directory.groups[number as usize].members;
        members.swap_remove(place as usize);
        if let Some(moved) = members.get(place as usize).copied()
            && let Some(session) = self.sessions.find(moved)
        {
            session.member = place;
        }
    }
}

impl Extra {
    /// The kernel has taken `sent` bytes of what was owed first; returns how many of them went beyond it.
    pub(crate) fn take_owed(&mut self, sent: usize) -> usize {
        let owed = self.owed().len();
        self.out_sent += sent.min(owed);
        if self.out_sent == self.out.len() {
            self.out.clear();
            (self.out_sent, self.out_whole) = (0, 0);
        }
        sent.saturating_sub(owed)
    }
}

const HAS_ENDED: &str = "the client has ended its side";

fn drain_reason(code: u16) -> &'static str {
    if code == close::RESTART { "the blade restarts" } else { "the blade stops" }
}

fn silence_ms(index: u32, ping_interval_ms: u32) -> u32 {
    ping_interval_ms - spread(index, 0, ping_interval_ms / 4)
}

/// A number up to `max`, different for neighbours (Fibonacci hashing).
fn spread(index: u32, salt: u32, max: u32) -> u32 {
    let hashed = (index ^ salt.rotate_left(16)).wrapping_mul(0x9E37_79B9);
    u32::try_from((u64::from(hashed) * u64::from(max)) >> 32).unwrap_or(max)
}

/// An empty ping (RFC 6455, 5.5.2).
pub(crate) const PING: &[u8] = &[0x89, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_spread_over_a_quarter_of_their_interval() {
        let mut sorted: Vec<u32> = (70_000..80_000).map(|index| silence_ms(index, 30_000)).collect();
        sorted.sort_unstable();
        assert!(sorted[0] >= 22_500 && sorted[9_999] <= 30_000, "{} to {}", sorted[0], sorted[9_999]);
        // Evenly: 10,000 in 7.5 s are 67 in any 50 ms.
        let most = sorted.windows(100).map(|some| some[99] - some[0]).min();
        assert!(most >= Some(50), "a hundred within {most:?} ms");
    }
}
