//! What a worker still does after a panic: it tells sessions that are between two frames to come again.
//!
//! It believes nothing that the panic may have left half-done. A session is told only if it is owed nothing (no
//! [`Extra`](crate::extra::Extra)), none of its sends waits to be dealt with, and no sends are on their way. All others
//! just end: a frame on the wire is whole, or the connection is closed (I4).

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use fanblade_net::{Engine, Event, IoSlices};
use fanblade_wire::close;
use fanblade_wire::frame::{self, Opcode};

use crate::ids::SessionId;
use crate::limits::{LAST_WORDS_MS_MAX, LAST_WORDS_RECONNECT_MS_MAX, LAST_WORDS_STEPS};
use crate::protocol;
use crate::session::{Session, State};
use crate::slices::begin_with;
use crate::stats::NO_FRAME;
use crate::worker::Worker;

impl Worker {
    /// Counts how the open sessions end: who is between two frames is told 1012, the others hear nothing. It comes
    /// before the worker's end is known, since a successor then counts in the same words.
    pub(crate) fn count_last_words(&mut self) {
        let told = if self.is_sending { 0 } else { self.between_frames().len() };
        let is_open = |session: &Session| session.state == State::Open && !session.has_ended;
        let indices = self.sessions.indices();
        let open = indices.into_iter().filter(|&index| self.sessions.find(index).is_some_and(|it| is_open(it))).count();
        self.stats.closed_by_server.add(told as u64);
        self.stats.closes.count_ours(close::RESTART, told as u64);
        self.stats.closes.count_ours(NO_FRAME, open.saturating_sub(told) as u64);
    }

    /// Closes with 1012 the sessions that can be told, and waits a little for their ends. The counters are a
    /// successor's.
    pub(crate) fn say_last_words(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        if self.is_sending {
            // What is queued may point to memory that is gone: this engine must not be flushed any more.
            return Ok(());
        }
        engine.pause_accepting();
        let told = self.between_frames();
        let farewells: Vec<Vec<u8>> = (0..LAST_WORDS_STEPS).map(farewell).collect();
        // What it borrows lives until the flush.
        let mut slices = IoSlices::new();
        for (session, farewell) in told.iter().zip(farewells.iter().cycle()) {
            begin_with(&mut slices, farewell);
            engine.send(*session, &slices);
        }
        let mut waited_for: HashSet<SessionId> = told.iter().copied().collect();
        engine.flush(&mut |unsent| {
            waited_for.remove(&unsent.session);
        })?;
        waited_for.iter().for_each(|session| engine.shutdown_write(*session));
        let deadline = Instant::now() + Duration::from_millis(LAST_WORDS_MS_MAX);
        while !waited_for.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            engine.poll(Some(left), &mut |event| {
                if let Event::Closed { session, .. } = event {
                    waited_for.remove(&session);
                }
            })?;
        }
        Ok(())
    }

    /// Sessions whose frames the kernel has taken whole.
    fn between_frames(&mut self) -> Vec<SessionId> {
        let mut sessions = self.sessions.indices();
        sessions.retain(|&index| {
            let is_seen_to = self.unsent.iter().all(|unsent| unsent.session != index);
            let session = self.sessions.find(index);
            is_seen_to && session.is_some_and(|session| session.state == State::Open && session.extra.is_none())
        });
        sessions
    }
}

/// The notice of when to come again, and the Close frame.
fn farewell(step: u32) -> Vec<u8> {
    let (mut bytes, mut text) = (Vec::new(), String::new());
    protocol::write_restart(&mut text, LAST_WORDS_RECONNECT_MS_MAX / LAST_WORDS_STEPS * step);
    frame::write_frame(&mut bytes, Opcode::Text, text.as_bytes());
    frame::write_close(&mut bytes, close::RESTART, "this worker has failed; come again");
    bytes
}
