//! Packets that would change everything and that nobody confirms yet: another session, numbers far ahead, numbers that
//! go back. Anybody on a network can send one of those, so that one alone decides nothing. They are held until they are
//! proven, and then passed on in the order in which they came; or they are forgotten.
//!
//! | a claim is proven by | another session, or far ahead | numbers that go back |
//! |---|---|---|
//! | another line that says the same | yes | |
//! | three packets, since the numbering under way has ended, or while it is of a single packet | yes | of a single packet |
//! | three packets, while it says nothing | for `proof_ns` | for `stale_ns_max`, each further than the last |

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;

use super::clock::Running;
use super::{Arrived, Origin, Packet};
use crate::limits::{CLAIM_AGE_NS_MIN, CLAIM_CELLS_LEN, CLAIMS_MAX, PROOF_MESSAGES_MAX, PROOF_PACKETS};
use crate::{Session, UnixNs};

/// What a packet would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The session.
    Session,
    /// The number that comes next, by far.
    Ahead,
    /// That number, backwards.
    Back,
}

/// How the numbering under way does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// Another packet than its first has confirmed it.
    pub(super) is_confirmed: bool,
    /// It has said that it is over, and nothing since.
    pub(super) is_ended: bool,
    /// It has said nothing that is new for so long.
    pub(super) silent_ns: u64,
}

/// Packets that say the same.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) kind: Kind,
    session: Session,
    /// The lowest number, and the one after the newest packet's last.
    pub(super) first: u64,
    next: u64,
    /// The lines that brought it: one bit for each.
    lines: u64,
    packets: u32,
    /// Packets that speak for it: those that were further than all before.
    proofs: u32,
    rises: u32,
    /// Proofs that came since the session under way has ended.
    proofs_ended: u32,
    /// Messages in them.
    messages: u64,
    begun_ns: Running,
    newest_ns: Running,
    held: Vec<Held>,
    bytes: Vec<u8>,
    /// How many of these prove it. The others came while they were passed on.
    own: usize,
    /// How far it has been passed on.
    passed: usize,
    passed_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    len: usize,
    line: usize,
    source: SocketAddr,
    received_ns: UnixNs,
}

/// What was done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// It is the first of its kind, which is told.
    First,
    Held,
    /// There is no place for it.
    Dropped,
}

/// All claims, in bounded memory.
#[derive(Debug)]
pub(super) struct Suspects {
    claims: Vec<Claim>,
    bytes: usize,
    /// How often each has come that found no place, by its hash, since then.
    cells: Box<[u8]>,
    cells_ns: Running,
    bytes_max: usize,
    jump_max: u64,
    proof_ns: u64,
    stale_ns_max: u64,
}

impl Suspects {
    pub(super) fn new(bytes_max: usize, jump_max: u64, proof_ns: u64, stale_ns_max: u64) -> Self {
        let cells = vec![0; CLAIM_CELLS_LEN].into();
        Self {
            claims: Vec::with_capacity(CLAIMS_MAX),
            bytes: 0,
            cells,
            cells_ns: Running::ZERO,
            bytes_max,
            jump_max,
            proof_ns,
            stale_ns_max,
        }
    }

    /// Holds a packet of a line, with so many messages. The second figure: messages of a claim that had to make room.
    pub(super) fn hold(
        &mut self,
        kind: Kind,
        packet: &Packet<'_>,
        messages: u64,
        arrived: &Arrived<'_>,
        is_ended: bool,
        now_ns: Running,
    ) -> (Holding, u64) {
        let (session, from) = (packet.session(), packet.sequence());
        let jump_max = self.jump_max;
        let is_same = |claim: &Claim| claim.kind == kind && claim.session == session && claim.is_near(from, jump_max);
        let (mut holding, mut forgotten) = (Holding::Held, 0);
        let at = match self.claims.iter().position(is_same) {
            Some(at) => at,
            None => {
                if self.claims.len() == CLAIMS_MAX {
                    // One that nobody has repeated gives way: who floods us with names has each of them once.
                    let age_ns_min = if self.is_repeated(kind, packet, now_ns) { 0 } else { CLAIM_AGE_NS_MIN };
                    let is_alone = |claim: &Claim| claim.packets == 1 && now_ns.since(claim.begun_ns) >= age_ns_min;
                    let Some(at) = self.claims.iter().position(is_alone) else { return (Holding::Dropped, 0) };
                    forgotten = self.take(at).messages;
                }
                holding = Holding::First;
                self.claims.push(Claim::new(kind, session, from, now_ns));
                self.claims.len() - 1
            }
        };
        let Some(claim) = self.claims.get_mut(at) else { return (Holding::Dropped, forgotten) };
        // What only repeats a number is not worth its bytes; and no claim takes the place of all others.
        let is_news = messages > 0 || claim.packets == 0 || from != claim.next;
        let left = (self.bytes_max / 2).saturating_sub(claim.bytes.len());
        let has_room = arrived.bytes.len() <= left.min(self.bytes_max.saturating_sub(self.bytes));
        claim.note(arrived, from, messages, is_ended, now_ns);
        if is_news && has_room {
            claim.hold(arrived, messages);
            self.bytes += arrived.bytes.len();
        } else if is_news && holding == Holding::Held {
            holding = Holding::Dropped;
        }
        (holding, forgotten)
    }

    /// A claim that is proven, if one is: it is not among the others any more.
    pub(super) fn proven(&mut self, current: Current) -> Option<Claim> {
        let (proof_ns, stale_ns_max) = (self.proof_ns, self.stale_ns_max);
        let is_silent = |ns_max: u64| current.silent_ns > ns_max;
        let is_proven = |claim: &Claim| {
            let is_repeated = claim.proofs >= PROOF_PACKETS;
            let is_rising = claim.rises >= PROOF_PACKETS;
            match claim.kind {
                Kind::Session | Kind::Ahead => {
                    let is_free = !current.is_confirmed || is_silent(proof_ns);
                    let is_next = current.is_ended && claim.proofs_ended >= PROOF_PACKETS;
                    claim.lines.count_ones() > 1 || is_repeated && is_free || is_next
                }
                // What was there before is repeated for many reasons, also by all lines.
                Kind::Back => is_rising && (!current.is_confirmed || is_silent(proof_ns.max(stale_ns_max))),
            }
        };
        let proven = self.claims.iter().enumerate().filter(|(_, claim)| is_proven(claim));
        let (at, _) = proven.max_by_key(|(_, claim)| claim.proofs)?;
        Some(self.take(at))
    }

    /// Forgets what has not been said again for long. Returns how many messages that were.
    pub(super) fn expire(&mut self, now_ns: Running) -> u64 {
        let age_ns_max = self.proof_ns.max(self.stale_ns_max).saturating_mul(2);
        let mut messages = 0;
        while let Some(at) = self.claims.iter().position(|claim| now_ns.since(claim.newest_ns) > age_ns_max) {
            messages += self.take(at).messages;
        }
        messages
    }

    /// A new numbering is under way: what was said of the old one, and of this as another, is void. Returns how many
    /// messages that were.
    pub(super) fn renew(&mut self, session: Session) -> u64 {
        let mut messages = 0;
        while let Some(at) =
            self.claims.iter().position(|claim| claim.kind != Kind::Session || claim.session == session)
        {
            messages += self.take(at).messages;
        }
        messages
    }

    /// Has a packet that finds no place come several times lately?
    fn is_repeated(&mut self, kind: Kind, packet: &Packet<'_>, now_ns: Running) -> bool {
        if now_ns.since(self.cells_ns) >= CLAIM_AGE_NS_MIN {
            self.cells_ns = now_ns;
            self.cells.fill(0);
        }
        let mut hasher = DefaultHasher::new();
        // Its numbers go on, so that they are not looked at too closely.
        (kind as u8, packet.session(), packet.sequence() / self.jump_max.max(1)).hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % CLAIM_CELLS_LEN as u64).unwrap_or(usize::MAX);
        let Some(cell) = self.cells.get_mut(place) else { return false };
        *cell = cell.saturating_add(1);
        u32::from(*cell) >= PROOF_PACKETS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    fn take(&mut self, at: usize) -> Claim {
        let claim = self.claims.swap_remove(at);
        self.bytes -= claim.bytes.len();
        claim
    }
}

impl Claim {
    fn new(kind: Kind, session: Session, first: u64, now_ns: Running) -> Self {
        Self {
            kind,
            session,
            first,
            next: first,
            lines: 0,
            packets: 0,
            proofs: 0,
            rises: 0,
            proofs_ended: 0,
            messages: 0,
            begun_ns: now_ns,
            newest_ns: now_ns,
            held: Vec::new(),
            bytes: Vec::new(),
            own: 0,
            passed: 0,
            passed_bytes: 0,
        }
    }

    /// Can a packet be of the same numbers?
    fn is_near(&self, from: u64, messages_max: u64) -> bool {
        from.saturating_add(messages_max) >= self.first && from <= self.next.saturating_add(messages_max)
    }

    fn note(&mut self, arrived: &Arrived<'_>, from: u64, messages: u64, is_ended: bool, now_ns: Running) {
        let Origin::Line(line) = arrived.origin else { return };
        let to = from + messages;
        if !self.is_near(from, PROOF_MESSAGES_MAX) {
            // The packets before it say something else.
            (self.first, self.next, self.lines, self.proofs, self.rises) = (from, from, 0, 0, 0);
            self.proofs_ended = 0;
        }
        if !is_ended {
            self.proofs_ended = 0;
        }
        let is_rise = to > self.next;
        // One packet of messages that is sent again and again says no more than once.
        let is_proof = is_rise || messages == 0;
        self.proofs = self.proofs.saturating_add(u32::from(is_proof));
        self.proofs_ended = self.proofs_ended.saturating_add(u32::from(is_proof && is_ended));
        self.rises = self.rises.saturating_add(u32::from(is_rise));
        self.lines |= 1_u64.checked_shl(u32::try_from(line).unwrap_or(u32::MAX)).unwrap_or(0);
        self.first = self.first.min(from);
        self.next = self.next.max(to);
        self.packets = self.packets.saturating_add(1);
        self.newest_ns = now_ns;
    }

    fn hold(&mut self, arrived: &Arrived<'_>, messages: u64) {
        let Origin::Line(line) = arrived.origin else { return };
        let Arrived { source, bytes, received_ns, .. } = *arrived;
        self.messages += messages;
        self.own += 1;
        self.held.push(Held { len: bytes.len(), line, source, received_ns });
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a packet that came while those before it are passed on; false: there is no room.
    #[must_use]
    pub(super) fn follow(&mut self, arrived: &Arrived<'_>, bytes_max: usize) -> bool {
        let Origin::Line(line) = arrived.origin else { return false };
        let Arrived { source, bytes, received_ns, .. } = *arrived;
        if self.bytes.len() - self.passed_bytes + bytes.len() > bytes_max {
            return false;
        }
        self.held.push(Held { len: bytes.len(), line, source, received_ns });
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// The next packet, and whether it is one of those that are proven; none: all have been passed on.
    pub(super) fn next(&mut self) -> Option<(Arrived<'_>, bool)> {
        let Held { len, line, source, received_ns } = *self.held.get(self.passed)?;
        let bytes = self.bytes.get(self.passed_bytes..self.passed_bytes + len)?;
        let is_proven = self.passed < self.own;
        self.passed += 1;
        self.passed_bytes += len;
        Some((Arrived { origin: Origin::Line(line), source, bytes, received_ns }, is_proven))
    }
}
