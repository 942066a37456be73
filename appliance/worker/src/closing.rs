//! How a session ends: after its last bytes, after what it asked for, or at once; and how all of them are told that the
//! blade stops.

use fanblade_wire::{close, frame};

use crate::deadlines::spread;
use crate::directory::Set;
use crate::ids::SessionId;
use crate::protocol;
use crate::session::State;
use crate::stats::NO_FRAME;
use crate::worker::{Action, Worker};

impl Worker {
    /// Sends Close, behind everything that the session is owed, and ends the session then (RFC 6455, 7.1.2).
    pub(crate) fn begin_close(&mut self, index: SessionId, code: u16, reason: &str) {
        let has_ended = self.sessions.find(index).is_some_and(|session| session.has_ended);
        if !has_ended {
            self.stats.closed_by_server.add(1);
            self.stats.closes.count_ours(code, 1);
        }
        let mut frame = Vec::new();
        frame::write_close(&mut frame, code, reason);
        self.end_with_bytes(index, &frame);
    }

    /// Sends the last bytes of a session: it has no subscriptions any more, and nothing that it says is read.
    pub(crate) fn end_with_bytes(&mut self, index: SessionId, bytes: &[u8]) {
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

    /// The last bytes are out: ends our side of the connection, and waits for the peer's, unless that has ended.
    pub(crate) fn linger(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.has_ended {
            return self.drop_session(index);
        }
        session.state = State::Lingering;
        self.actions.push(Action::ShutdownWrite(index));
    }

    /// Ends a session at once.
    pub(crate) fn drop_session(&mut self, index: SessionId) {
        let Some(session) = self.sessions.find(index) else { return };
        if session.state == State::Open && !session.has_ended {
            self.stats.closes.count_ours(NO_FRAME, 1);
        }
        self.leave_group(index);
        self.wheel.disarm(&mut self.sessions, index);
        self.sessions.end(index);
        if let Some(draining) = &mut self.draining {
            draining.refused.remove(&index);
        }
        self.stats.sessions.sub(1);
        self.actions.push(Action::Close(index));
    }

    /// The client has ended its side: the session is given what it has asked for (replies, snapshots, history), and
    /// ends once it is current.
    pub(crate) fn finish(&mut self, index: SessionId) {
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

    /// Tells every session that the blade stops, and closes it: those that are current now, the others once they are.
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

    /// Lets go of everything that the session was to be given.
    fn leave_group(&mut self, index: SessionId) {
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
}

const HAS_ENDED: &str = "the client has ended its side";

fn drain_reason(code: u16) -> &'static str {
    if code == close::RESTART { "the blade restarts" } else { "the blade stops" }
}
