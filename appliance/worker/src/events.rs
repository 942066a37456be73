//! What the engine tells of a connection: it is there, has bytes, takes bytes again, or has ended.

use std::net::SocketAddr;

use fanblade_wire::close;
use fanblade_wire::handshake::Rejection;

use crate::session::State;
use crate::stats::NO_FRAME;
use crate::upgrade::AT_CAPACITY;
use crate::worker::Worker;

impl Worker {
    /// A connection has come.
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
            self.end_with_bytes(index, AT_CAPACITY.as_bytes());
        } else {
            self.arm(index, self.now_ms + u64::from(self.config.limits.handshake_ms_max));
        }
    }

    /// Bytes have come.
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

    /// The client sends single bytes, or more bytes than anybody needs to say here.
    fn too_many_pieces(&mut self, index: u32) {
        let Some(session) = self.sessions.find(index) else { return };
        let state = session.state;
        // It may send as many pieces again before it is dropped, so that the Close frame can arrive.
        session.pieces = 0;
        self.stats.pieces_closed.add(1);
        match state {
            State::Handshake => self.reject(index, &Rejection::new(429, "The request comes in too many pieces.")),
            State::Open => self.begin_close(index, close::TOO_MANY_REQUESTS, "too many pieces in a second"),
            // It goes on sending after it was told to go; or it is a proxy, which would not understand.
            State::Free | State::Preface | State::Closing | State::Lingering => self.drop_session(index),
        }
    }

    /// The socket takes bytes again.
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
}
