//! The opening handshake of a session, and what a balancer says or asks before it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use fanblade_ring::Lane;
use fanblade_wire::handshake::{self, Head, Rejection, Upgrade};
use fanblade_wire::proxy;

use crate::address;
use crate::clock::WorkerMs;
use crate::forwarded::{self, Said};
use crate::ids::SessionId;
use crate::protocol::{Refusal, Request};
use crate::session::State;
use crate::worker::Worker;

impl Worker {
    /// Bytes of a session whose PROXY header has not come whole.
    pub(crate) fn preface(&mut self, index: SessionId, bytes: &[u8]) {
        let Some(extra) = self.sessions.extra(index) else { return };
        extra.head.extend_from_slice(bytes);
        match proxy::parse(&extra.head) {
            Ok(None) => {}
            Ok(Some(header)) => {
                let mut head = std::mem::take(&mut extra.head);
                // Extensions may follow; they are skipped as they come.
                extra.head_skip = header.len.saturating_sub(head.len());
                let Some(session) = self.sessions.find(index) else { return };
                session.state = State::Handshake;
                if let Some(client) = header.client {
                    session.set_peer(client);
                    self.stats.proxied.add(1);
                }
                self.sessions.tidy(index);
                if let Some(rest) = head.get_mut(header.len..).filter(|rest| !rest.is_empty()) {
                    self.upgrade(index, rest);
                }
            }
            Err(error) => {
                let Some(session) = self.sessions.find(index) else { return };
                let peer = session.peer();
                tracing::debug!(%peer, "refused: {error}");
                self.stats.proxy_header_errors.add(1);
                if self.stats.proxy_header_errors.value() == 1 {
                    tracing::warn!("{peer}: {error}; further ones are counted in `proxy_header_errors`");
                }
                let mut response = Vec::new();
                Rejection::new(400, NO_PROXY_HEADER).response(&mut response);
                self.end_with_bytes(index, &response);
            }
        }
    }

    /// Bytes of a session whose upgrade request has not come whole.
    pub(crate) fn upgrade(&mut self, index: SessionId, bytes: &mut [u8]) {
        let skip = self.sessions.find(index).and_then(|session| session.extra.as_deref_mut()).map_or(0, |extra| {
            let skip = extra.head_skip.min(bytes.len());
            extra.head_skip -= skip;
            skip
        });
        let Some(bytes) = bytes.get_mut(skip..).filter(|rest| !rest.is_empty()) else {
            return self.sessions.tidy(index);
        };
        let Some(extra) = self.sessions.find(index).and_then(|session| session.extra.as_deref_mut()) else {
            // Nearly always the request comes in one piece.
            return self.parse_head(index, bytes, 0, true);
        };
        let mut head = std::mem::take(&mut extra.head);
        let scanned = extra.head_scanned;
        head.extend_from_slice(bytes);
        self.parse_head(index, &mut head, scanned, false);
        if let Some(extra) = self.sessions.find(index).and_then(|session| session.extra.as_deref_mut())
            && extra.head_scanned > 0
        {
            extra.head = head;
        }
        self.sessions.tidy(index);
    }

    fn parse_head(&mut self, index: SessionId, bytes: &mut [u8], scanned: usize, is_first: bool) {
        let mut response = Vec::new();
        let outcome = match handshake::parse(bytes, scanned) {
            Head::Incomplete => {
                let Some(extra) = self.sessions.extra(index) else { return };
                extra.head_scanned = bytes.len();
                if is_first {
                    extra.head.extend_from_slice(bytes);
                }
                return;
            }
            Head::Reject(rejection) => Err(rejection),
            Head::Upgrade(upgrade) => {
                let Some(peer) = self.sessions.find(index).map(|session| session.peer()) else { return };
                self.admit(peer, &upgrade, &mut response)
            }
        };
        if let Some(extra) = self.sessions.find(index).and_then(|session| session.extra.as_deref_mut()) {
            extra.head_scanned = 0;
        }
        match outcome {
            Err(rejection) => match rejection.plain_path() {
                Some(path) if HEALTH_PATHS.contains(&path) => {
                    let answer = self.health(rejection);
                    self.answer(index, &answer);
                }
                _ => self.reject(index, &rejection),
            },
            Ok(Admitted { client, lane, head_len, subscription }) => {
                self.stats.upgraded.add(1);
                let deadline_ms = self.first_deadline_ms();
                let Some(session) = self.sessions.find(index) else { return };
                session.state = State::Open;
                session.lane = lane;
                let peer = session.peer();
                session.set_peer(client);
                if peer == client {
                    tracing::debug!(%peer, "a subscriber has connected");
                } else {
                    tracing::debug!(peer = %client, "a subscriber has connected through {peer}");
                }
                self.say(index, |out| out.extend_from_slice(&response));
                if let Some(extra) = self.sessions.extra(index) {
                    extra.out_whole = extra.out.len();
                }
                self.arm(index, deadline_ms);
                if let Some(subscription) = subscription {
                    self.request(index, subscription);
                }
                if let Some(rest) = bytes.get_mut(head_len..).filter(|rest| !rest.is_empty()) {
                    self.requests(index, rest);
                }
            }
        }
    }

    /// Refuses the connection: it becomes no session.
    pub(crate) fn reject(&mut self, index: SessionId, rejection: &Rejection) {
        self.stats.handshake_rejected.add(1);
        if let Some(session) = self.sessions.find(index) {
            tracing::debug!(peer = %session.peer(), "refused: {} {}", rejection.status, rejection.reason);
        }
        self.answer(index, rejection);
    }

    fn answer(&mut self, index: SessionId, answer: &Rejection) {
        let mut response = Vec::new();
        answer.response(&mut response);
        self.end_with_bytes(index, &response);
    }

    /// Answers a balancer that asks whether connections should come here, as `/readyz` of the admin port does.
    fn health(&self, asked: Rejection) -> Rejection {
        self.stats.health_checks.add(1);
        if self.config.unready.load(Relaxed) || self.draining.is_some() {
            asked.with(503, "not ready; /readyz of the admin port says why")
        } else {
            asked.with(200, "ready")
        }
    }

    fn admit(&self, peer: SocketAddr, upgrade: &Upgrade<'_>, response: &mut Vec<u8>) -> Result<Admitted, Rejection> {
        if upgrade.path != PATH {
            return Err(Rejection::new(404, "There is one endpoint here: GET /v1/stream, upgraded to WebSocket."));
        }
        if let Some(origin) = upgrade.origin
            && !self.config.origins.is_empty()
            && !self.config.origins.iter().any(|allowed| allowed == origin)
        {
            self.stats.origin_refused.add(1);
            return Err(Rejection::new(403, "This Origin is not among the configured allowed_origins."));
        }
        let (lane, protocol) = if upgrade.offers(PROTOCOL_JSON) {
            (Lane::Json, Some(PROTOCOL_JSON))
        } else if upgrade.offers(PROTOCOL_BINARY) {
            (Lane::Binary, Some(PROTOCOL_BINARY))
        } else {
            (Lane::Json, None)
        };
        let client = match forwarded::client(peer, upgrade, &self.config.trusted_proxies, self.config.client_header) {
            Said::Client(client) => client,
            Said::Unclear => {
                self.stats.forwarded_unclear.add(1);
                peer
            }
        };
        upgrade.response(protocol, response);
        let subscription = upgrade.query.and_then(address::subscription);
        Ok(Admitted { client, lane, head_len: upgrade.head_len, subscription })
    }

    fn first_deadline_ms(&self) -> WorkerMs {
        let limits = &self.config.limits;
        let wait_ms = if limits.subscribe_ms_max > 0 { limits.subscribe_ms_max } else { limits.ping_interval_ms };
        self.now_ms + u64::from(wait_ms)
    }
}

struct Admitted {
    client: SocketAddr,
    lane: Lane,
    head_len: usize,
    subscription: Option<Result<Request, Refusal>>,
}

/// What a connection beyond the limit gets.
pub(crate) const AT_CAPACITY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Content-Length: 45\r\nRetry-After: 5\r\nConnection: close\r\n\r\nThis blade is at capacity or about to stop.\r\n";
const NO_PROXY_HEADER: &str = "Connections from this address begin with a PROXY protocol header, version 1 or 2 \
    ([data] proxy_protocol_from), and this one does not.";
const PATH: &str = "/v1/stream";
/// The names that balancers use; the admin port has both.
const HEALTH_PATHS: [&str; 2] = ["/healthz", "/readyz"];
const PROTOCOL_JSON: &str = "fanblade.v1.json";
const PROTOCOL_BINARY: &str = "fanblade.v1.binary";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_whole() {
        let (head, body) = AT_CAPACITY.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}
