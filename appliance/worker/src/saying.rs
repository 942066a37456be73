//! What sessions are told beside the ring's frames: one of them, or all.

use std::io;

use fanblade_net::{Engine, Unsent};
use fanblade_wire::frame::{self, Opcode};

use crate::directory::Set;
use crate::ids::SessionId;
use crate::limits::TURN_SENDS;
use crate::protocol;
use crate::session::{NOT_MEMBER, State};
use crate::slices::begin_with;
use crate::worker::{Action, Worker};

impl Worker {
    /// Adds what `write` writes to what the session is owed before any further frame of the ring.
    pub(crate) fn say(&mut self, index: SessionId, write: impl FnOnce(&mut Vec<u8>)) {
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
    pub(crate) fn say_text(&mut self, index: SessionId, text: &str) {
        self.say(index, |out| frame::write_frame(out, Opcode::Text, text.as_bytes()));
    }

    /// Lists the session, once, among those that `serve` looks at.
    pub(crate) fn make_ready(&mut self, index: SessionId) {
        if let Some(session) = self.sessions.find(index)
            && !session.blocked
            && !std::mem::replace(&mut session.dirty, true)
        {
            self.ready.push_back(index);
        }
    }

    /// Tells the session the name of the present numbering.
    pub(crate) fn tell_epoch(&mut self, index: SessionId) {
        let mut text = std::mem::take(&mut self.text);
        protocol::write_epoch(&mut text, &self.epoch);
        self.say_text(index, &text);
        self.text = text;
    }

    /// Sends a text message to every session that has subscriptions and is current; if `behind_too`, also to those
    /// behind, after what they are owed.
    pub(crate) fn tell_all(&mut self, engine: &mut dyn Engine, text: &str, behind_too: bool) -> io::Result<()> {
        // The message goes behind the frames that wait for others.
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

    /// Sends one frame to sessions that are owed nothing, all from the same bytes, as the fan-out does: a buffer for
    /// each of a million sessions would be memory that the allocator does not give back.
    pub(crate) fn say_same(&mut self, engine: &mut dyn Engine, sessions: &[SessionId], bytes: &[u8]) -> io::Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        begin_with(&mut self.slices, bytes);
        self.is_sending = true;
        for part in sessions.chunks(TURN_SENDS) {
            part.iter().for_each(|index| engine.send(*index, &self.slices));
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

    /// A session's socket did not take all of `bytes`, a frame: the session is owed the rest, and falls behind.
    fn said_in_part(&mut self, unsent: Unsent, bytes: &[u8]) {
        let index = unsent.session;
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
}
