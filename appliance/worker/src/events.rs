//! What the engine tells of a connection beside its bytes: it is there, takes bytes again, or has ended.

use std::net::SocketAddr;

use crate::ids::SessionId;
use crate::session::State;
use crate::stats::NO_FRAME;
use crate::upgrade::AT_CAPACITY;
use crate::worker::Worker;

impl Worker {
    /// A connection has come.
    pub(crate) fn accepted(&mut self, index: SessionId, peer: SocketAddr) {
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
            self.end_with_bytes(index, AT_CAPACITY.as_bytes());
        } else {
            self.arm(index, self.now_ms + u64::from(self.config.limits.handshake_ms_max));
        }
    }

    /// The socket takes bytes again.
    pub(crate) fn writable(&mut self, index: SessionId) {
        if let Some(session) = self.sessions.find(index)
            && std::mem::take(&mut session.blocked)
        {
            self.make_ready(index);
        }
    }

    /// The peer has ended its side, or the connection `has_failed`.
    pub(crate) fn peer_closed(&mut self, index: SessionId, has_failed: bool) {
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
}
