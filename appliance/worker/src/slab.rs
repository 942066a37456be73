//! The slab of sessions: a session is an index.

use std::net::SocketAddr;

use fanblade_wire::Inbound;

use crate::clock::WorkerMs;
use crate::directory::Set;
use crate::extra::Extra;
use crate::ids::SessionId;
use crate::limits::{EXTRAS_POOLED_MAX, HELD_BYTES_FREE};
use crate::session::{Session, State};
use crate::timers::{Linked, Links};

/// All sessions of a worker, found by index; memory grows by chunks and is never moved.
#[derive(Default)]
pub(crate) struct Sessions {
    chunks: Vec<Option<Box<[Session]>>>,
    #[expect(
        clippy::vec_box,
        reason = "a box moves between the pool and its session; unboxing would copy and allocate"
    )]
    pool: Vec<Box<Extra>>,
    open: u32,
    /// Bytes that hang off all of them, without the first [`HELD_BYTES_FREE`] of each.
    held: usize,
}

impl Sessions {
    /// How many sessions there are.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// Bytes that hang off all of them, as far as they are beyond what is free.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The same of one.
    pub(crate) fn held_by(&mut self, index: SessionId) -> usize {
        let Some(session) = self.find(index) else { return 0 };
        excess(session.inbound.heap_bytes()) + session.extra.as_ref().map_or(0, |extra| extra.counted)
    }

    /// Brings the count of what a session holds up to date. Whoever may have changed that calls it.
    pub(crate) fn weigh(&mut self, index: SessionId) {
        let Some(extra) = self.find(index).and_then(|session| session.extra.as_deref_mut()) else { return };
        let now = excess(extra.bytes());
        let before = std::mem::replace(&mut extra.counted, now);
        self.held = self.held + now - before;
    }

    /// Lends what is half here of a session's requests.
    pub(crate) fn take_inbound(&mut self, index: SessionId) -> Inbound {
        let inbound = self.find(index).map(|session| std::mem::take(&mut session.inbound)).unwrap_or_default();
        self.held -= excess(inbound.heap_bytes());
        inbound
    }

    /// Gives it back, if the session is still there.
    pub(crate) fn put_inbound(&mut self, index: SessionId, inbound: Inbound) {
        let bytes = excess(inbound.heap_bytes());
        if let Some(session) = self.find(index) {
            session.inbound = inbound;
            self.held += bytes;
        }
    }

    /// Begins a session at the index that the engine chose.
    pub(crate) fn begin(&mut self, index: SessionId, peer: SocketAddr, now_ms: WorkerMs) -> &mut Session {
        let chunk = index.index() / CHUNK;
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let sessions =
            self.chunks[chunk].get_or_insert_with(|| (0..CHUNK).map(|_| Session::new()).collect::<Vec<_>>().into());
        let session = &mut sessions[index.index() % CHUNK];
        debug_assert_eq!(session.state, State::Free, "the engine gave an index that is in use");
        self.open += 1;
        session.state = State::Handshake;
        session.received_ms = now_ms;
        session.set_peer(peer);
        session
    }

    /// The session at `index`, if there is one.
    pub(crate) fn find(&mut self, index: SessionId) -> Option<&mut Session> {
        let session = self.chunks.get_mut(index.index() / CHUNK)?.as_mut()?.get_mut(index.index() % CHUNK)?;
        (session.state != State::Free).then_some(session)
    }

    /// Ends it. It must be out of its group and out of the wheel.
    pub(crate) fn end(&mut self, index: SessionId) {
        let Some(session) = self.find(index) else { return };
        debug_assert!(session.set == Set::NONE && session.links == Links::UNLINKED, "a session ended while listed");
        let Session { inbound, extra, .. } = std::mem::replace(session, Session::new());
        self.open -= 1;
        self.held -= excess(inbound.heap_bytes());
        if let Some(extra) = extra {
            self.recycle(extra);
        }
    }

    /// The session's extra, made if there is none.
    pub(crate) fn extra(&mut self, index: SessionId) -> Option<&mut Extra> {
        if self.find(index)?.extra.is_none() {
            let fresh = self.pool.pop().unwrap_or_default();
            self.find(index)?.extra = Some(fresh);
        }
        self.find(index)?.extra.as_deref_mut()
    }

    /// Takes the extra back if it holds nothing.
    pub(crate) fn tidy(&mut self, index: SessionId) {
        let Some(session) = self.find(index) else { return };
        if session.extra.as_ref().is_some_and(|extra| extra.is_idle())
            && let Some(extra) = session.extra.take()
        {
            self.recycle(extra);
        }
    }

    /// Indices of all sessions.
    pub(crate) fn indices(&self) -> Vec<SessionId> {
        let mut indices = Vec::with_capacity(self.open as usize);
        for (chunk, sessions) in self.chunks.iter().enumerate() {
            for (place, session) in sessions.iter().flatten().enumerate() {
                if session.state != State::Free {
                    indices.push(SessionId(u32::try_from(chunk * CHUNK + place).unwrap_or(u32::MAX)));
                }
            }
        }
        indices
    }

    fn recycle(&mut self, mut extra: Box<Extra>) {
        self.held -= extra.counted;
        if self.pool.len() < EXTRAS_POOLED_MAX {
            extra.clear();
            self.pool.push(extra);
        }
    }
}

impl Linked for Sessions {
    fn links(&mut self, index: SessionId) -> &mut Links {
        let session = self.chunks[index.index() / CHUNK].as_mut().map(|sessions| &mut sessions[index.index() % CHUNK]);
        &mut session.expect("the wheel holds sessions that exist").links
    }
}

/// What of it is not free.
fn excess(bytes: usize) -> usize {
    bytes.saturating_sub(HELD_BYTES_FREE)
}

/// Sessions in one chunk of the slab.
const CHUNK: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(5_000);

    #[test]
    fn extras_are_pooled() {
        let mut sessions = Sessions::default();
        sessions.begin(SESSION, "127.0.0.1:80".parse().unwrap(), WorkerMs::default());
        assert_eq!(sessions.find(SESSION).unwrap().peer().to_string(), "127.0.0.1:80");
        sessions.extra(SESSION).unwrap().out.extend_from_slice(b"x");
        sessions.tidy(SESSION);
        assert!(sessions.find(SESSION).unwrap().extra.is_some());
        sessions.extra(SESSION).unwrap().out.clear();
        sessions.tidy(SESSION);
        assert!(sessions.find(SESSION).unwrap().extra.is_none());
        assert_eq!(sessions.pool.len(), 1);
        sessions.end(SESSION);
        assert_eq!(sessions.open(), 0);
        assert!(sessions.find(SESSION).is_none());
    }
}
