//! The opening handshake of a session.

use fanblade_ring::Lane;
use fanblade_wire::handshake::{self, Head, Rejection, Upgrade};

use crate::address;
use crate::protocol::{Refusal, Request};
use crate::session::State;
use crate::worker::Worker;

impl Worker {
    /// Bytes of a session whose upgrade request has not come whole.
    pub(crate) fn upgrade(&mut self, index: u32, bytes: &mut [u8]) {
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

    fn parse_head(&mut self, index: u32, bytes: &mut [u8], scanned: usize, is_first: bool) {
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
            Head::Upgrade(upgrade) => self.admit(&upgrade, &mut response),
        };
        if let Some(extra) = self.sessions.find(index).and_then(|session| session.extra.as_deref_mut()) {
            extra.head_scanned = 0;
        }
        match outcome {
            Err(rejection) => {
                self.stats.handshake_rejected.add(1);
                response.clear();
                rejection.response(&mut response);
                self.end_with_bytes(index, &response);
            }
            Ok(Admitted { lane, head_len, subscription }) => {
                self.stats.upgraded.add(1);
                let deadline_ms = self.first_deadline_ms();
                let Some(session) = self.sessions.find(index) else { return };
                session.state = State::Open;
                session.lane = lane;
                self.say(index, |out| out.extend_from_slice(&response));
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

    fn admit(&self, upgrade: &Upgrade<'_>, response: &mut Vec<u8>) -> Result<Admitted, Rejection> {
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
        upgrade.response(protocol, response);
        Ok(Admitted { lane, head_len: upgrade.head_len, subscription: upgrade.query.and_then(address::subscription) })
    }

    fn first_deadline_ms(&self) -> u64 {
        let limits = &self.config.limits;
        let wait_ms = if limits.subscribe_ms_max > 0 { limits.subscribe_ms_max } else { limits.ping_interval_ms };
        self.now_ms + u64::from(wait_ms)
    }
}

struct Admitted {
    lane: Lane,
    head_len: usize,
    subscription: Option<Result<Request, Refusal>>,
}

/// What a connection beyond the limit gets.
pub(crate) const AT_CAPACITY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Content-Length: 45\r\nRetry-After: 5\r\nConnection: close\r\n\r\nThis blade is at capacity or about to stop.\r\n";
const PATH: &str = "/v1/stream";
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
