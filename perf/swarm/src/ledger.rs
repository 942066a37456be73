//! What each client that has a list of its own must get, and what it has got.
//!
//! Every message names its subject, its number within it, and when it was due. For each subject of each client the
//! numbers must follow each other without a gap; a message of a subject that the client does not have is unasked. The
//! first and last numbers are checked against a log of all messages that any client has seen: what was due after a
//! subscription was confirmed must have come, and so must what was due well before it was taken back.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use fanblade_wire::client::write_frame;
use fanblade_wire::float::whole;
use fanblade_wire::frame::Opcode;
use serde::Deserialize;

use super::lists::Lists;
use super::plan::Plan;
use super::random::{below, mixed, place};
use super::speech::Speech;
use super::tally::Changed;
use super::window::Window;

pub(crate) struct Ledger {
    plan: Arc<Plan>,
    lists: Lists,
    clients: Range<u32>,
    /// For each client as many places as its list is long.
    places: Vec<Place>,
    log: Log,
    changes: Vec<Change>,
    /// By the number of the client, which has one change under way at most.
    under_way: HashMap<u32, usize>,
    /// Changes that were begun or passed over, and how many were ordered.
    begun: u64,
    ordered: u64,
    pace: Option<Pace>,
    refused: u64,
}

/// A subject in a client's list.
#[derive(Debug, Clone, Copy)]
struct Place {
    subject: u32,
    /// Numbers of the first and the last message since the subject has been there; 0: none yet.
    first: u32,
    last: u32,
    /// The change that put the subject there, counted from 1. 0: it has been there since the opening.
    change: u32,
}

/// A change: one subject for another.
#[derive(Debug, Clone, Copy)]
struct Change {
    client: u32,
    at: usize,
    new: u32,
    sent_ns: u64,
    /// The place that was there before, once its subscription has ended.
    left: Option<Place>,
    /// When the new subscription was confirmed, once it has been.
    confirmed_ns: Option<u64>,
}

/// When changes are made by the clock.
#[derive(Clone, Copy)]
struct Pace {
    from_ns: u64,
    to_ns: u64,
    per_s: f64,
}

/// All messages that anybody has seen, by subject.
pub(super) struct Log(Vec<Seen>);

/// When the messages of a subject were due, by their numbers from `base` on; 0: nobody has seen it.
#[derive(Debug, Clone, Default)]
struct Seen {
    base: u32,
    due_ns: Vec<u64>,
}

/// What a message is to the client that has got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The next one, or the first.
    New,
    /// A later one than was expected: this many before it are missing.
    Behind(u32),
    /// The newest one from before the subscription.
    Snapshot,
    /// This message or a later one has come before.
    Again,
    /// The client does not have this subject.
    Unasked,
    /// No publisher of ours uses such numbers.
    Absurd,
}

/// What a reply has settled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The reply belongs to no change.
    Nothing,
    Left(u32),
    Taken(u32),
    Refused(String),
}

#[derive(Deserialize)]
struct Reply<'a> {
    op: &'a str,
    #[serde(default)]
    id: Option<u32>,
}

impl Ledger {
    /// The ledger of these clients.
    pub(super) fn new(plan: &Arc<Plan>, lists: &Lists, clients: Range<u32>) -> Ledger {
        let place = |subject| Place { subject, first: 0, last: 0, change: 0 };
        Ledger {
            plan: Arc::clone(plan),
            lists: lists.clone(),
            places: clients.clone().flat_map(|client| lists.of(client)).map(place).collect(),
            clients,
            log: Log::new(plan.subjects.count),
            changes: Vec::new(),
            under_way: HashMap::new(),
            begun: 0,
            ordered: 0,
            pace: None,
            refused: 0,
        }
    }

    pub(super) fn subjects(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().map(|place| place.subject)
    }

    fn list(&self, client: u32) -> Range<usize> {
        let from = (client - self.clients.start) as usize * self.lists.per_client();
        from..from + self.lists.per_client()
    }

    /// A message has come to a client.
    pub(super) fn hear(&mut self, client: u32, subject: u32, number: u32, due_ns: u64) -> Heard {
        let list = self.list(client);
        let Some(place) = self.places[list].iter_mut().find(|place| place.subject == subject) else {
            return Heard::Unasked;
        };
        // The subject is in a list, and so in the log.
        if number == 0 || !self.log.0[subject as usize].enter(number, due_ns) {
            return Heard::Absurd;
        }
        let last = place.last;
        place.last = number.max(last);
        if last == 0 {
            place.first = number;
            let change = place.change.checked_sub(1).map(|at| &self.changes[at as usize]);
            return if change.is_some_and(|it| due_ns < it.sent_ns) { Heard::Snapshot } else { Heard::New };
        }
        match number.checked_sub(last) {
            Some(1) => Heard::New,
            Some(2..) => Heard::Behind(number - last - 1),
            _ => Heard::Again,
        }
    }

    /// Changes by the clock from now on, until the window ends.
    pub(super) fn begin(&mut self, now_ns: u64, window: Window) {
        let share = self.clients.len() as f64 / f64::from(self.plan.connections);
        self.pace = self.plan.changes.as_ref().filter(|it| it.per_s > 0.0).map(|changes| Pace {
            from_ns: now_ns,
            to_ns: window.to_ns,
            per_s: changes.per_s * share,
        });
    }

    /// Orders `count` changes, made as fast as they are answered.
    pub(super) fn order(&mut self, count: u64) {
        self.ordered += count;
    }

    /// Whether [`Self::speak`] may have anything to say.
    pub(super) fn is_changing(&self) -> bool {
        self.pace.is_some() || self.begun < self.ordered
    }

    /// Whether all ordered changes have been made.
    pub(super) fn is_settled(&self) -> bool {
        self.begun >= self.ordered && self.under_way.is_empty()
    }

    /// Begins the changes that are due.
    pub(super) fn speak(&mut self, now_ns: u64, said: &mut Vec<Speech>) {
        let paced = match self.pace {
            Some(pace) if now_ns < pace.to_ns => whole(now_ns.saturating_sub(pace.from_ns) as f64 / 1e9 * pace.per_s),
            _ => 0,
        };
        while self.begun < paced.max(self.ordered) && self.under_way.len() < UNDER_WAY_MAX {
            let random = mixed(self.lists.seed() ^ CHANGES ^ u64::from(self.clients.start) << 24 ^ self.begun);
            self.begun += 1;
            let client = self.clients.start + below(random, self.clients.end - self.clients.start);
            // A client is passed over if it waits for an answer, was never opened, or has ended.
            if !self.under_way.contains_key(&client) {
                self.change(client, mixed(random), now_ns, said);
            }
        }
    }

    fn change(&mut self, client: u32, random: u64, now_ns: u64, said: &mut Vec<Speech>) {
        let Some(changes) = &self.plan.changes else { return };
        let list: Vec<u32> = self.places[self.list(client)].iter().map(|place| place.subject).collect();
        let at = place(random, list.len());
        let (old, new) = (list[at], self.lists.other(&list, random));
        let mut frames = Vec::new();
        for (template, subject) in [(&changes.leave, old), (&changes.take, new)] {
            let mut message = Vec::new();
            template.write(client, &[subject], &mut message);
            write_frame(&mut frames, Opcode::Text, client.to_le_bytes(), &message);
        }
        said.push(Speech { client, frames });
        let at = self.list(client).start + at;
        self.under_way.insert(client, self.changes.len());
        self.changes.push(Change { client, at, new, sent_ns: now_ns, left: None, confirmed_ns: None });
    }

    /// A text without a time has come to a client.
    pub(super) fn reply(&mut self, client: u32, text: &[u8], now_ns: u64) -> Settled {
        let Some(&number) = self.under_way.get(&client) else { return Settled::Nothing };
        // A reply that cannot be read is not to a change of ours.
        let Ok(reply) = serde_json::from_slice::<Reply<'_>>(text) else { return Settled::Nothing };
        let change = &mut self.changes[number];
        let place = &mut self.places[change.at];
        match (reply.op, change.left) {
            ("unsubscribed", None) if reply.id == Some(place.subject) => {
                change.left = Some(*place);
                let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
                *place = Place { subject: change.new, first: 0, last: 0, change: number };
                Settled::Left(change.left.map_or(0, |left| left.subject))
            }
            ("subscribed", Some(_)) if reply.id == Some(change.new) => {
                change.confirmed_ns = Some(now_ns);
                self.under_way.remove(&client);
                Settled::Taken(change.new)
            }
            ("error", _) => {
                self.under_way.remove(&client);
                self.refused += 1;
                Settled::Refused(format!("client {client}: a change was refused: {}", String::from_utf8_lossy(text)))
            }
            _ => Settled::Nothing,
        }
    }

    /// The client's connection has ended: nothing is changed or answered any more.
    pub(super) fn ended(&mut self, client: u32) {
        self.under_way.remove(&client);
    }

    /// For each client: how many messages of the window were due for sure, and how many of them are missing before the
    /// first or after the last that it has got. The log is that of all ledgers together.
    pub(super) fn settle(&self, log: &Log, window: Window, mut each: impl FnMut(u32, Owed)) {
        let mut owed = vec![Owed::default(); self.clients.len()];
        for (at, place) in self.places.iter().enumerate() {
            let confirmed_ns = self.since(place);
            // A place that was never confirmed is a change without an answer.
            let Some(from_ns) = confirmed_ns else { continue };
            let seen = &log.0[place.subject as usize];
            owed[at / self.lists.per_client()].add(place, seen, from_ns.max(window.from_ns), window.to_ns);
        }
        for change in &self.changes {
            if let Some(left) = change.left
                && let Some(from_ns) = self.since(&left)
            {
                let to_ns = window.to_ns.min(change.sent_ns.saturating_sub(SLACK_NS));
                let seen = &log.0[left.subject as usize];
                let client = (change.client - self.clients.start) as usize;
                owed[client].add(&left, seen, from_ns.max(window.from_ns), to_ns);
            }
        }
        self.clients.clone().zip(owed).for_each(|(client, owed)| each(client, owed));
    }

    /// From when on a place must have received everything: from its confirmation, if that has come.
    fn since(&self, place: &Place) -> Option<u64> {
        match place.change.checked_sub(1) {
            None => Some(0),
            Some(at) => self.changes[at as usize].confirmed_ns,
        }
    }

    /// The changes within the window.
    pub(super) fn changed(&self, window: Window) -> Changed {
        let mut changed =
            Changed { refused: self.refused, unanswered: self.under_way.len() as u64, ..Changed::default() };
        for change in self.changes.iter().filter(|it| (window.from_ns..window.to_ns).contains(&it.sent_ns)) {
            if let Some(confirmed_ns) = change.confirmed_ns {
                changed.made += 1;
                changed.latency.record(confirmed_ns - change.sent_ns);
            }
        }
        changed
    }

    /// For each subject that some client has had from the opening to the end: messages of the window that anybody has
    /// seen. Messages of other subjects may have been for nobody.
    pub(super) fn seen(ledgers: &[&Ledger], log: &Log, window: Window) -> Vec<Option<u32>> {
        let mut is_held = vec![false; log.0.len()];
        for place in ledgers.iter().flat_map(|ledger| &ledger.places).filter(|place| place.change == 0) {
            is_held[place.subject as usize] = true;
        }
        let count = |seen: &Seen| {
            let is_within = |due_ns: &&u64| (window.from_ns..window.to_ns).contains(*due_ns);
            u32::try_from(seen.due_ns.iter().filter(is_within).count()).unwrap_or(u32::MAX)
        };
        log.0.iter().zip(is_held).map(|(seen, is_held)| is_held.then(|| count(seen))).collect()
    }
}

/// What a client should have received for sure, and what of it is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) due: u64,
    /// Not counting what is missing between two messages, which was counted when the second came.
    pub(super) lost: u64,
}

impl Owed {
    /// Messages that were due from `from_ns` on and before `to_ns`.
    fn add(&mut self, place: &Place, seen: &Seen, from_ns: u64, to_ns: u64) {
        let Some((first, last)) = seen.within(from_ns, to_ns) else { return };
        self.due += u64::from(last - first + 1);
        self.lost += u64::from(if place.last < first || place.first > last {
            last - first + 1
        } else {
            last.saturating_sub(place.last) + place.first.saturating_sub(first)
        });
    }
}

impl Log {
    pub(super) fn new(subjects: u32) -> Log {
        Log(vec![Seen::default(); subjects as usize])
    }

    /// What several ledgers have seen together.
    pub(super) fn of(ledgers: &[&Ledger]) -> Log {
        let subjects = ledgers.first().map_or(0, |ledger| ledger.log.0.len());
        let mut log = Log(vec![Seen::default(); subjects]);
        for ledger in ledgers {
            for (seen, more) in log.0.iter_mut().zip(&ledger.log.0) {
                for (number, due_ns) in (more.base..).zip(&more.due_ns).filter(|(_, due_ns)| **due_ns > 0) {
                    // If two threads saw numbers that are too far apart, one of them has complained.
                    let _ = seen.enter(number, *due_ns);
                }
            }
        }
        log
    }
}

impl Seen {
    /// Notes when a message was due. `false`: its number is too far from the others'.
    #[must_use]
    fn enter(&mut self, number: u32, due_ns: u64) -> bool {
        if self.due_ns.is_empty() {
            self.base = number;
        }
        let end = u64::from(self.base) + self.due_ns.len() as u64;
        let len = end.max(u64::from(number) + 1) - u64::from(self.base.min(number));
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= LOG_LEN_MAX) else { return false };
        if number < self.base {
            // Rare: a snapshot of a subject that nobody has had before.
            self.due_ns.splice(0..0, std::iter::repeat_n(0, (self.base - number) as usize));
            self.base = number;
        }
        self.due_ns.resize(len, 0);
        self.due_ns[(number - self.base) as usize] = due_ns;
        true
    }

    /// First and last number of the messages due in this time. Numbers rise with time.
    fn within(&self, from_ns: u64, to_ns: u64) -> Option<(u32, u32)> {
        let is_within = |(_, due_ns): &(u32, &u64)| (from_ns..to_ns).contains(*due_ns);
        let mut all = (self.base..).zip(&self.due_ns);
        let first = all.find(is_within)?.0;
        Some((first, all.filter(is_within).last().map_or(first, |it| it.0)))
    }
}

/// Slack for a client that unsubscribes: a message that was due this long before the client said so had been published
/// by then, however late the publisher was (which is reported).
const SLACK_NS: u64 = 1_000_000_000;
/// How many changes of one thread may wait for their answers.
const UNDER_WAY_MAX: usize = 16;
/// Messages of one subject: their times take 128 MiB at most.
const LOG_LEN_MAX: usize = 1 << 24;
/// Gives another random sequence than the lists'.
const CHANGES: u64 = 0xc4a2_9e00 << 32;

#[cfg(test)]
mod tests;
