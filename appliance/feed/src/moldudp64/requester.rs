//! Asks for what is missing: what, whom, and when again.
//!
//! A reply holds what fits one packet, so that a long hole takes many requests. Many are under way at once, each for
//! about as much as the replies have been found to hold; thus catching up is limited by the rate that is allowed, not
//! by the way there and back. A reply that is lost is noticed when others overtake it, or after a few times the usual
//! time; the next attempt goes to the next server.

use std::net::SocketAddr;

use super::Request;
use super::clock::Running;
use super::missing::Missing;
use crate::limits::{REQUEST_MESSAGES_MAX, REQUESTS_UNDER_WAY_MAX};
use crate::{Event, Session, Trouble};

/// How it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manners {
    /// A hole this young may fill by itself.
    pub(super) reorder_ns: u64,
    /// The longest wait for a reply; a server that says nothing for so long is silent.
    pub(super) timeout_ns: u64,
    pub(super) requests_per_s_max: u32,
    pub(super) messages_max: u16,
}

/// The requests under way, and the servers.
#[derive(Debug)]
pub(super) struct Requester {
    manners: Manners,
    servers: Vec<Server>,
    /// The one that is asked first.
    preferred: usize,
    asked: Vec<Asked>,
    /// Requests sent.
    sent: u64,
    /// How many messages a reply is expected to hold, in sixteenths.
    reply_len_16: u64,
    /// When the next request would be due if all were spread evenly.
    paced_ns: Running,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// The time since which it owes a reply.
    asked_ns: Option<Running>,
    /// The usual time to a reply; none before the first.
    reply_ns: Option<u64>,
    is_silent: bool,
}

/// One request that is under way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    from: u64,
    to: u64,
    server: usize,
    /// Which of all requests it was.
    number: u64,
    sent_ns: Running,
    /// When to ask again.
    again_ns: Running,
    attempts: u32,
    /// Requests to the same server that were sent later and have been answered.
    overtaken: u32,
}

impl Requester {
    pub(super) fn new(servers: &[SocketAddr], manners: Manners) -> Self {
        let server =
            |address: &SocketAddr| Server { address: *address, asked_ns: None, reply_ns: None, is_silent: false };
        Self {
            manners,
            servers: servers.iter().map(server).collect(),
            preferred: 0,
            asked: Vec::with_capacity(REQUESTS_UNDER_WAY_MAX),
            sent: 0,
            reply_len_16: REPLY_LEN_FIRST * 16,
            paced_ns: Running::ZERO,
        }
    }

    pub(super) fn has_servers(&self) -> bool {
        !self.servers.is_empty()
    }

    /// Requests sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Forgets what was asked for.
    pub(super) fn reset(&mut self) {
        self.asked.clear();
    }

    /// The next request that is due, with the server to send it to.
    pub(super) fn next(
        &mut self,
        missing: &mut Missing,
        session: Session,
        now_ns: Running,
    ) -> Option<(SocketAddr, Request)> {
        if self.servers.is_empty() || self.pace_due_ns() > now_ns {
            return None;
        }
        // What came by itself meanwhile needs no reply any more.
        self.asked.retain_mut(|asked| match missing.first_within(asked.from, asked.to) {
            Some(from) => {
                asked.from = from;
                true
            }
            None => false,
        });
        let is_due = |(_, asked): &(usize, &Asked)| asked.again_ns <= now_ns;
        let due = self.asked.iter().enumerate().filter(is_due).min_by_key(|(_, asked)| asked.from);
        let at = match due {
            Some((at, _)) => at,
            None => self.begin(missing, now_ns)?,
        };
        self.paced_ns = self.paced_ns.max(now_ns) + self.interval_ns();
        self.sent += 1;
        let asked = self.asked.get_mut(at)?;
        // A reply that came, but held less, was an answer; only one that did not come is an attempt.
        if asked.attempts > 0 {
            asked.server = after(&self.servers, asked.server);
        }
        let server = self.servers.get_mut(asked.server)?;
        asked.number = self.sent;
        asked.sent_ns = now_ns;
        asked.overtaken = 0;
        let usual_ns = server.reply_ns.map_or(self.manners.timeout_ns, |reply_ns| (4 * reply_ns).max(AGAIN_NS_MIN));
        let wait_ns = usual_ns.saturating_mul(1 << asked.attempts.min(16)).min(self.manners.timeout_ns);
        asked.again_ns = now_ns + wait_ns;
        asked.attempts += 1;
        server.asked_ns.get_or_insert(now_ns);
        let to = asked.to.min(asked.from + u64::from(self.manners.messages_max));
        Some((server.address, Request::for_gap(session, asked.from, to)))
    }

    /// Begins with a part of a hole that has not been asked for, if there is one and not too much is under way.
    fn begin(&mut self, missing: &mut Missing, now_ns: Running) -> Option<usize> {
        let at = self.asked.len();
        let hole = missing.unasked().filter(|_| at < REQUESTS_UNDER_WAY_MAX)?;
        if hole.found_ns + self.manners.reorder_ns > now_ns {
            return None;
        }
        let messages_max = (self.reply_len_16 / 16).clamp(1, self.manners.messages_max.into());
        let (from, to) = (hole.from, hole.to.min(hole.from + messages_max));
        missing.mark_asked(to);
        let server = self.preferred;
        self.asked.push(Asked {
            from,
            to,
            server,
            number: 0,
            sent_ns: Running::ZERO,
            again_ns: Running::ZERO,
            attempts: 0,
            overtaken: 0,
        });
        Some(at)
    }

    /// The address of a server.
    pub(super) fn address(&self, server: usize) -> Option<SocketAddr> {
        self.servers.get(server).map(|server| server.address)
    }

    /// A server has sent something.
    pub(super) fn heard(&mut self, server: usize, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(sender) = self.servers.get_mut(server) else { return };
        sender.asked_ns = None;
        if std::mem::take(&mut sender.is_silent) {
            sink(Event::Trouble(Trouble::RequestServerBack { server: sender.address }));
        }
    }

    /// What a server has sent is of no use: the next attempt goes to another, if there is one.
    pub(super) fn distrust(&mut self, server: usize) {
        if self.preferred == server {
            self.preferred = after(&self.servers, server);
        }
    }

    /// A server has sent the messages `from..to`, or none.
    pub(super) fn reply(
        &mut self,
        server: usize,
        from: u64,
        to: u64,
        now_ns: Running,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        self.heard(server, sink);
        let Some(sender) = self.servers.get_mut(server) else { return };
        let is_answered = |asked: &&mut Asked| from <= asked.from && to > asked.from;
        let Some(asked) = self.asked.iter_mut().find(is_answered) else { return };
        let answered = *asked;
        // If something of it is still missing then (the packet held less, or there was no place for it), it is asked
        // for at once.
        (asked.again_ns, asked.attempts) = (now_ns, 0);
        if answered.attempts == 1 {
            let took_ns = now_ns.since(answered.sent_ns);
            sender.reply_ns = Some(sender.reply_ns.map_or(took_ns, |usual_ns| (7 * usual_ns + took_ns) / 8));
        }
        let wanted = answered.to - answered.from;
        if to < answered.to {
            self.reply_len_16 = self.reply_len_16.min((to - answered.from) * 16);
        } else if wanted >= self.reply_len_16 / 16 {
            // It might have held more than was asked for.
            self.reply_len_16 = (self.reply_len_16 + 1).min(REQUEST_MESSAGES_MAX * 16);
        }
        let overtaken = |asked: &&mut Asked| asked.server == answered.server && asked.number < answered.number;
        for asked in self.asked.iter_mut().filter(overtaken) {
            asked.overtaken += 1;
            if asked.overtaken == OVERTAKEN_MAX {
                asked.again_ns = asked.again_ns.min(now_ns);
            }
        }
    }

    /// Takes note of servers that say nothing.
    pub(super) fn check(&mut self, now_ns: Running, sink: &mut dyn FnMut(Event<'_>)) {
        for at in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(at) else { return };
            let Some(asked_ns) = server.asked_ns else { continue };
            let silent_ns = now_ns.since(asked_ns);
            if silent_ns < self.manners.timeout_ns {
                continue;
            }
            // When it is asked again, its time begins again.
            server.asked_ns = None;
            let was_silent = std::mem::replace(&mut server.is_silent, true);
            let server = server.address;
            let next = after(&self.servers, at);
            if self.preferred == at {
                self.preferred = next;
            }
            if !was_silent && let Some(next) = self.servers.get(next) {
                let silent_ms = silent_ns / 1_000_000;
                sink(Event::Trouble(Trouble::RequestServerSilent { server, silent_ms, next: next.address }));
            }
        }
    }

    /// When there may be something to do.
    pub(super) fn due_ns(&self, missing: &Missing) -> Option<Running> {
        if self.servers.is_empty() {
            return None;
        }
        let again = self.asked.iter().map(|asked| asked.again_ns).min();
        let silent = self.servers.iter().filter_map(|server| Some(server.asked_ns? + self.manners.timeout_ns)).min();
        let has_place = self.asked.len() < REQUESTS_UNDER_WAY_MAX;
        let unasked = missing.unasked().filter(|_| has_place).map(|hole| hole.found_ns + self.manners.reorder_ns);
        let request = again.into_iter().chain(unasked).min().map(|due_ns| due_ns.max(self.pace_due_ns()));
        request.into_iter().chain(silent).min()
    }

    /// From when on another request keeps the rate. After a pause some may go at once.
    fn pace_due_ns(&self) -> Running {
        let burst = u64::from(self.manners.requests_per_s_max / 100).clamp(1, REQUESTS_UNDER_WAY_MAX as u64);
        self.paced_ns - (burst - 1) * self.interval_ns()
    }

    fn interval_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.manners.requests_per_s_max.max(1))
    }
}

/// The next server in turn, of those that answer if there are any.
fn after(servers: &[Server], at: usize) -> usize {
    let turn = || (1..=servers.len()).map(|step| (at + step) % servers.len());
    let answers = |at: &usize| servers.get(*at).is_some_and(|server| !server.is_silent);
    turn().find(answers).or_else(|| turn().next()).unwrap_or(0)
}

/// Messages that the first replies are expected to hold: a packet of 1,400 bytes has room for some 36 of ITCH's.
const REPLY_LEN_FIRST: u64 = 32;
/// So many later replies mean that one was lost, as with TCP.
const OVERTAKEN_MAX: u32 = 3;
/// The shortest wait for a reply: below it a busy server would be asked twice for nothing.
const AGAIN_NS_MIN: u64 = 20_000_000;
