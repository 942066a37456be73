//! The clients, without their sockets: each has 32 bytes, and every message of each is counted.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use fanblade_wire::UnixNs;

use super::frames::{CLOSE, FrameFault, Frames, PING, Piece};
use super::ledger::{Heard, Ledger, Log, Settled};
use super::marker::{Marker, Progress};
use super::plan::{Habit, Plan};
use super::reading::{Boundary, Preamble};
use super::speech::{Pong, Speech};
use super::tally::Tally;
use super::window::Window;

/// Some of the swarm's clients, `first` and those after it.
pub struct Subscribers {
    plan: Arc<Plan>,
    first: u32,
    clients: Vec<Client>,
    subjects: Vec<Subject>,
    window: Window,
    ready: u32,
    tally: Tally,
    /// Control frames that have come in pieces, so far; and messages, if clients have lists.
    controls: HashMap<u32, Vec<u8>>,
    cut: HashMap<u32, Vec<u8>>,
    /// If clients have lists.
    ledger: Option<Box<Ledger>>,
}

#[derive(Clone, Copy, Default)]
struct Client {
    frames: Frames,
    /// The message's timestamp, if it has come in pieces.
    timestamp: u64,
    /// The low half of its sequence number, the same way.
    sequence: u32,
    /// The low half of the last message's sequence number.
    last: u32,
    /// Messages of the window.
    messages: u32,
    timestamp_progress: Progress,
    sequence_progress: Progress,
    /// Messages of the preamble.
    heard: u8,
    flags: u8,
}

/// A connection with all that it needs is promised to take a hundred bytes; this is the client's share.
const _: () = assert!(size_of::<Client>() <= 32);

const READY: u8 = 1 << 0;
/// `last` is valid.
const FOLLOWS: u8 = 1 << 1;
/// Nothing more is expected: closed, ended, or the stream is torn.
const OVER: u8 = 1 << 2;

/// What all readers together have seen of a subject.
#[derive(Clone, Copy, Default)]
struct Subject {
    /// Readers that have it.
    members: u32,
    /// First and last sequence number of the window.
    first: u32,
    newest: u32,
    /// How many have received `newest`.
    receipts: u32,
    has_messages: bool,
}

impl Subscribers {
    /// These clients of the plan. They take memory from [`Self::make_room`] on.
    pub fn new(plan: &Arc<Plan>, clients: Range<u32>) -> Subscribers {
        let mut subjects = vec![Subject::default(); plan.subjects.count as usize];
        let ledger = plan.lists.as_ref().map(|lists| Box::new(Ledger::new(plan, lists, clients.clone())));
        match &ledger {
            Some(ledger) => ledger.subjects().for_each(|subject| subjects[subject as usize].members += 1),
            None => clients
                .clone()
                .filter(|client| plan.habits.of(*client) == Habit::Reader)
                .for_each(|client| subjects[plan.subjects.of(client) as usize].members += 1),
        }
        Subscribers {
            plan: Arc::clone(plan),
            first: clients.start,
            clients: Vec::new(),
            subjects,
            window: Window::NONE,
            ready: 0,
            tally: Tally::new(),
            controls: HashMap::new(),
            cut: HashMap::new(),
            ledger,
        }
    }

    /// Makes room for the clients, before the first is opened.
    pub fn make_room(&mut self, count: usize) {
        self.clients.resize(count, Client::default());
    }

    /// User memory of a client.
    pub(crate) const fn bytes() -> usize {
        size_of::<Client>()
    }

    /// How many have heard the preamble.
    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// Messages of the window so far.
    pub fn messages(&self) -> u64 {
        self.tally.messages()
    }

    /// The first thing that went wrong with a connection.
    pub fn trouble(&self) -> Option<&str> {
        self.tally.trouble()
    }

    /// How many clients have a subject.
    pub fn members(&self, subject: u32) -> u32 {
        self.subjects.get(subject as usize).map_or(0, |subject| subject.members)
    }

    /// Orders `count` changes of lists, made as fast as they are answered.
    pub fn order_changes(&mut self, count: u64) {
        if let Some(ledger) = &mut self.ledger {
            ledger.order(count);
        }
    }

    /// Whether no ordered change is due or under way.
    pub fn is_settled(&self) -> bool {
        self.ledger.as_ref().is_none_or(|ledger| ledger.is_settled())
    }

    /// What clients have to say by themselves.
    pub(crate) fn speak(&mut self, said: &mut Vec<Speech>) -> anyhow::Result<()> {
        if let Some(ledger) = self.ledger.as_mut().filter(|ledger| ledger.is_changing()) {
            ledger.speak(UnixNs::now().0, said);
        }
        Ok(())
    }

    /// Lists change from now on.
    pub(crate) fn begin_changes(&mut self) -> anyhow::Result<()> {
        if let Some(ledger) = &mut self.ledger {
            ledger.begin(UnixNs::now().0, self.window);
        }
        Ok(())
    }

    /// Counts the messages of this window, and forgets all counts from before.
    pub fn begin(&mut self, window: Window) {
        self.window = window;
        self.tally = Tally::new();
        self.subjects.iter_mut().for_each(|it| *it = Subject { members: it.members, ..Subject::default() });
        self.clients.iter_mut().for_each(|client| client.messages = 0);
    }

    /// A connection has been established and upgraded.
    pub(crate) fn opened(&mut self, client: u32) {
        let at = (client - self.first) as usize;
        self.clients[at] = Client { messages: self.clients[at].messages, ..Client::default() };
        if matches!(self.plan.reading.preamble, Preamble::Messages(0)) {
            self.make_ready(at);
        }
    }

    /// We have closed the connection ourselves.
    pub(crate) fn closed(&mut self, client: u32) {
        let client = &mut self.clients[(client - self.first) as usize];
        self.ready -= u32::from(client.flags & READY != 0);
        client.flags = 0;
    }

    /// The server has ended the connection: 0, or an errno.
    pub(crate) fn ended(&mut self, client: u32, errno: i32) {
        let at = &mut self.clients[(client - self.first) as usize];
        if at.flags & OVER == 0 {
            at.flags |= OVER;
            self.tally.class(self.plan.habits.of(client)).ended(errno);
            if let Some(ledger) = &mut self.ledger {
                ledger.ended(client);
            }
        }
    }

    /// Takes what `client` has received. `now_ns` is the time of the receipt, since the Unix epoch.
    pub(crate) fn receive(&mut self, client: u32, bytes: &[u8], now_ns: u64, pongs: &mut Vec<Pong>) {
        let at = (client - self.first) as usize;
        let habit = self.plan.habits.of(client);
        self.tally.class(habit).bytes += bytes.len() as u64;
        if self.plan.upgrade.is_none() || self.clients[at].flags & OVER != 0 {
            return;
        }
        // Kept aside, because the pieces change the rest of the client.
        let mut frames = self.clients[at].frames;
        let done = frames.push(bytes, |piece| match piece {
            Piece::Message { bytes, is_first, is_last } => {
                self.piece(client, Part { bytes, is_first, is_last, now_ns });
            }
            Piece::Control { opcode, bytes, is_last } => self.control(client, opcode, bytes, is_last, pongs),
        });
        self.clients[at].frames = frames;
        if let Err(fault) = done {
            self.fault(client, fault);
        }
    }

    fn piece(&mut self, client: u32, part: Part<'_>) {
        if self.ledger.is_some() {
            return self.piece_for_list(client, part);
        }
        let at = (client - self.first) as usize;
        if part.is_first && self.plan.reading.boundary == Boundary::Frame && self.clients[at].flags & READY != 0 {
            self.clients[at].timestamp_progress = Progress::default();
            self.clients[at].sequence_progress = Progress::default();
        }
        let mut part = part;
        if self.clients[at].flags & READY == 0
            && let Preamble::Bytes(pattern) = &self.plan.reading.preamble
        {
            let Some(taken) = pattern.scan(&mut self.clients[at].timestamp_progress, part.bytes) else { return };
            self.clients[at].timestamp_progress = Progress::default();
            self.make_ready(at);
            // The rest of the same WebSocket message belongs to the preamble, too.
            if self.plan.reading.boundary == Boundary::Frame {
                return;
            }
            part.bytes = &part.bytes[taken..];
        }
        match self.plan.reading.boundary {
            Boundary::Frame => self.piece_of_message(client, part),
            Boundary::Timestamp => self.piece_of_stream(client, part),
        }
    }

    /// For a client with a list: messages that come in pieces are joined.
    fn piece_for_list(&mut self, client: u32, part: Part<'_>) {
        if part.is_first && part.is_last {
            return self.message_for_list(client, part);
        }
        let so_far = self.cut.entry(client).or_default();
        if so_far.len() + part.bytes.len() > CUT_LEN_MAX {
            return self.fault(client, FrameFault::TooLong);
        }
        so_far.extend_from_slice(part.bytes);
        if part.is_last {
            let whole = self.cut.remove(&client).unwrap_or_default();
            self.message_for_list(client, Part { bytes: &whole, ..part });
        }
    }

    /// Counts a whole message of a client with a list: a reply to a change, or a message of the publisher.
    fn message_for_list(&mut self, client: u32, part: Part<'_>) {
        let at = (client - self.first) as usize;
        if self.clients[at].flags & READY == 0 {
            self.hear(at);
        }
        let Some(ledger) = &mut self.ledger else { return };
        let reading = &self.plan.reading;
        let tally = self.tally.class(Habit::Reader);
        let find = |marker: &Option<Marker>| marker.as_ref().and_then(|marker| marker.find(part.bytes));
        // A text without a time is no message of the publisher's, but may answer a change.
        let Some(due_ns) = find(&reading.timestamp) else {
            tally.others += 1;
            match ledger.reply(client, part.bytes, part.now_ns) {
                Settled::Nothing => {}
                Settled::Left(subject) => self.subjects[subject as usize].members -= 1,
                Settled::Taken(subject) => self.subjects[subject as usize].members += 1,
                Settled::Refused(why) => tally.wrong(why),
            }
            return;
        };
        // A message of the publisher names its subject and its number within it.
        let number = |marker| find(marker).and_then(|number| u32::try_from(number).ok());
        let (Some(subject), Some(number)) = (number(&reading.subject), number(&reading.sequence)) else {
            return tally.wrong(format!("client {client} got a message without its subject or number"));
        };
        // Only new messages go on to the counts of the window.
        match ledger.hear(client, subject, number, due_ns) {
            Heard::New => {}
            Heard::Behind(missing) => {
                tally.gaps += 1;
                tally.missing += u64::from(missing);
            }
            Heard::Snapshot => {
                tally.snapshots += 1;
                return;
            }
            Heard::Again => {
                tally.repeated += 1;
                return;
            }
            Heard::Unasked => {
                tally.unasked += 1;
                return;
            }
            Heard::Absurd => {
                return tally.wrong(format!("client {client} got the impossible number {number} of subject {subject}"));
            }
        }
        if due_ns < self.window.from_ns || due_ns >= self.window.to_ns {
            tally.outside += 1;
            return;
        }
        self.clients[at].messages += 1;
        tally.messages += 1;
        let latency_ns = part.now_ns.saturating_sub(due_ns);
        tally.latency.record(latency_ns);
        let subject = &mut self.subjects[subject as usize];
        if let Some(rank) = subject.rank(number) {
            self.tally.position.record(rank, subject.members, latency_ns);
        }
    }

    /// Each message of the server is one message of the publisher.
    fn piece_of_message(&mut self, client: u32, part: Part<'_>) {
        let Subscribers { plan, clients, .. } = self;
        let reading = &plan.reading;
        let it = &mut clients[(client - self.first) as usize];
        if part.is_first && part.is_last {
            let timestamp = reading.timestamp.as_ref().map_or(Some(part.now_ns), |marker| marker.find(part.bytes));
            let sequence = reading.sequence.as_ref().and_then(|marker| marker.find(part.bytes));
            return self.message(client, timestamp, sequence.map(low_half), part.now_ns);
        }
        if let Some(marker) = &reading.timestamp {
            marker.scan(&mut it.timestamp_progress, &mut it.timestamp, part.bytes);
        }
        if let Some(marker) = &reading.sequence {
            let mut sequence = it.sequence.into();
            marker.scan(&mut it.sequence_progress, &mut sequence, part.bytes);
            it.sequence = low_half(sequence);
        }
        if part.is_last {
            let (timestamp_at, sequence_at) = (it.timestamp_progress, it.sequence_progress);
            let timestamp = match &reading.timestamp {
                Some(marker) => marker.end(timestamp_at).then_some(it.timestamp),
                None => Some(part.now_ns),
            };
            let sequence = reading.sequence.as_ref().filter(|marker| marker.end(sequence_at)).map(|_| it.sequence);
            self.message(client, timestamp, sequence, part.now_ns);
        }
    }

    /// A publisher's message ends with its timestamp, wherever the server's messages begin and end.
    fn piece_of_stream(&mut self, client: u32, part: Part<'_>) {
        let at = (client - self.first) as usize;
        let mut bytes = part.bytes;
        while let Some(marker) = &self.plan.reading.timestamp {
            let it = &mut self.clients[at];
            let end = marker.scan(&mut it.timestamp_progress, &mut it.timestamp, bytes);
            if let Some(marker) = &self.plan.reading.sequence {
                let mut sequence = it.sequence.into();
                marker.scan(&mut it.sequence_progress, &mut sequence, &bytes[..end.unwrap_or(bytes.len())]);
                it.sequence = low_half(sequence);
            }
            let Some(end) = end else { break };
            let sequence_at = std::mem::take(&mut it.sequence_progress);
            it.timestamp_progress = Progress::default();
            let (timestamp, sequence) = (it.timestamp, it.sequence);
            let sequence = self.plan.reading.sequence.as_ref().filter(|it| it.end(sequence_at)).map(|_| sequence);
            self.message(client, Some(timestamp), sequence, part.now_ns);
            bytes = &bytes[end..];
        }
        if part.is_last && self.clients[at].flags & READY == 0 {
            self.hear(at);
        }
    }

    fn message(&mut self, client: u32, timestamp: Option<u64>, sequence: Option<u32>, now_ns: u64) {
        let at = (client - self.first) as usize;
        if self.clients[at].flags & READY == 0 && self.plan.reading.boundary == Boundary::Frame {
            self.hear(at);
        }
        let it = &mut self.clients[at];
        let habit = self.plan.habits.of(client);
        let tally = self.tally.class(habit);
        let Some(timestamp) = timestamp else {
            tally.others += 1;
            return;
        };
        if let Some(sequence) = sequence {
            if it.flags & FOLLOWS != 0 {
                match sequence.wrapping_sub(it.last).cast_signed() {
                    1 => {}
                    ..1 => {
                        tally.repeated += 1;
                        return;
                    }
                    step => {
                        tally.gaps += 1;
                        tally.missing += step as u64 - 1;
                    }
                }
            }
            it.last = sequence;
            it.flags |= FOLLOWS;
        }
        if timestamp < self.window.from_ns || timestamp >= self.window.to_ns {
            tally.outside += 1;
            return;
        }
        it.messages += 1;
        tally.messages += 1;
        let latency_ns = now_ns.saturating_sub(timestamp);
        tally.latency.record(latency_ns);
        if habit == Habit::Reader
            && let Some(sequence) = sequence
        {
            let subject = &mut self.subjects[self.plan.subjects.of(client) as usize];
            if let Some(rank) = subject.rank(sequence) {
                self.tally.position.record(rank, subject.members, latency_ns);
            }
        }
    }

    fn control(&mut self, client: u32, opcode: u8, bytes: &[u8], is_last: bool, pongs: &mut Vec<Pong>) {
        if !is_last {
            self.controls.entry(client).or_default().extend_from_slice(bytes);
            return;
        }
        let mut payload = self.controls.remove(&client).unwrap_or_default();
        payload.extend_from_slice(bytes);
        let tally = self.tally.class(self.plan.habits.of(client));
        match opcode {
            PING => {
                tally.pings += 1;
                pongs.push(Pong { client, payload });
            }
            CLOSE => {
                // RFC 6455, 7.1.5: 1005 stands for a close without a code.
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                tally.closed(code, payload.get(2..).unwrap_or_default());
                self.clients[(client - self.first) as usize].flags |= OVER;
            }
            _ => {}
        }
    }

    fn fault(&mut self, client: u32, fault: FrameFault) {
        self.clients[(client - self.first) as usize].flags |= OVER;
        self.tally.class(self.plan.habits.of(client)).fault(client, fault);
    }

    fn hear(&mut self, at: usize) {
        if let Preamble::Messages(count) = self.plan.reading.preamble {
            self.clients[at].heard += 1;
            if self.clients[at].heard == count {
                self.make_ready(at);
            }
        }
    }

    fn make_ready(&mut self, at: usize) {
        self.clients[at].flags |= READY;
        self.ready += 1;
    }

    /// All counts, including what each client of `all` should have received of its subject and has not, measured by
    /// what any client has seen.
    pub fn finish(all: Vec<Subscribers>) -> Tally {
        let mut tally = Tally::new();
        Subscribers::settle_lists(&all, &mut tally);
        let mut seen: Vec<Subject> = Vec::new();
        for part in &all {
            seen.resize(part.subjects.len().max(seen.len()), Subject::default());
            seen.iter_mut().zip(&part.subjects).for_each(|(seen, subject)| seen.merge(subject));
        }
        for part in all {
            if part.ledger.is_some() {
                tally.merge(part.tally);
                continue;
            }
            let Subscribers { plan, first, clients, .. } = &part;
            let mut lost = Tally::new();
            let is_sequenced = plan.reading.sequence.is_some();
            for (number, client) in (*first..).zip(clients) {
                let expected = seen.get(plan.subjects.of(number) as usize).map_or(0, Subject::expected);
                let expected = if is_sequenced { expected } else { client.messages };
                lost.class(plan.habits.of(number)).client(client.messages, expected);
            }
            tally.merge(lost);
            tally.merge(part.tally);
        }
        tally
    }

    /// The same for clients with lists.
    fn settle_lists(all: &[Subscribers], tally: &mut Tally) {
        let ledgers: Vec<&Ledger> = all.iter().filter_map(|part| part.ledger.as_deref()).collect();
        let Some(window) = all.first().map(|part| part.window).filter(|_| !ledgers.is_empty()) else { return };
        let log = Log::of(&ledgers);
        for part in all {
            let Some(ledger) = &part.ledger else { continue };
            let mut settled = Tally::new();
            ledger.settle(&log, window, |_, owed| {
                settled.class(Habit::Reader).client_with_list(owed.due, owed.lost);
            });
            // What is missing between two messages was counted when it was seen.
            settled.class(Habit::Reader).lost += part.tally.missing();
            settled.changed = ledger.changed(window);
            tally.merge(settled);
        }
        tally.subjects_seen = Ledger::seen(&ledgers, &log, window);
    }
}

/// What is kept of a sequence number.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is kept")]
fn low_half(number: u64) -> u32 {
    number as u32
}

/// The longest message that may come in pieces.
const CUT_LEN_MAX: usize = 1 << 20;

/// Bytes of a message, and when they came.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    is_first: bool,
    is_last: bool,
    now_ns: u64,
}

impl Subject {
    /// Which receipt of the newest message this is, counted from 1; none for an older message.
    fn rank(&mut self, sequence: u32) -> Option<u32> {
        if !self.has_messages {
            (self.first, self.newest, self.has_messages) = (sequence, sequence, true);
        }
        if sequence.wrapping_sub(self.first).cast_signed() < 0 {
            self.first = sequence;
        }
        match sequence.wrapping_sub(self.newest).cast_signed() {
            ..0 => return None,
            0 => self.receipts += 1,
            _ => (self.newest, self.receipts) = (sequence, 1),
        }
        Some(self.receipts)
    }

    fn expected(&self) -> u32 {
        if self.has_messages { self.newest.wrapping_sub(self.first).wrapping_add(1) } else { 0 }
    }

    fn merge(&mut self, other: &Subject) {
        if !other.has_messages {
            return;
        }
        if !self.has_messages {
            *self = *other;
            return;
        }
        if other.first.wrapping_sub(self.first).cast_signed() < 0 {
            self.first = other.first;
        }
        if other.newest.wrapping_sub(self.newest).cast_signed() > 0 {
            self.newest = other.newest;
        }
    }
}
