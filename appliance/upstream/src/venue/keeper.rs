//! Keeps a subject's book from message to message: applies changes, reports and asks again when the book is not whole,
//! and holds back changes until a snapshot has been fetched.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::arrival::{Arrival, Counts};
use super::batch::Batch;
use super::book::{Book, BookFault, BookFormat, Bounds, Change, Kind, Message, binance_snapshot};
use super::limits::{
    BOOK_LEVELS_MAX, PENDING_BYTES_MAX, PENDING_CHANGES_MAX, RESUBSCRIBE_MS_MAX, RESUBSCRIBE_MS_MIN, SNAPSHOT_MS_MIN,
    TEXT_LEN_MAX,
};
use super::rule::{BookRule, Element, Rule};
use super::settings::OnGap;
use super::value::excerpt;

/// A book, and the state that is needed to keep it.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    pub(super) book: Book,
    /// The rule of the newest message.
    pub(super) rule: usize,
    /// How many levels of each side are passed on.
    levels: usize,
    /// A message of this book has come on this connection.
    has_begun: bool,
    /// Changes that wait for the snapshot, the oldest first.
    pending: VecDeque<Box<str>>,
    pending_bytes: usize,
    is_fetching: bool,
    fetching: Asking,
}

/// The sizes of all books together.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sizes {
    levels: usize,
    pending_bytes: usize,
}

/// The context in which a message is taken, apart from the book.
pub(super) struct Turn<'t> {
    pub(super) name: &'t str,
    pub(super) arrival: Arrival,
    pub(super) counts: &'t mut Counts,
    pub(super) out: &'t mut Batch,
}

/// When the venue may be asked again: waits double while asking does not help.
#[derive(Debug, Default)]
pub(super) struct Asking {
    asked: Option<(Instant, Duration)>,
}

impl Asking {
    /// May we ask now? If so, this counts as asking. After a long time without asking, the waits begin anew.
    fn may_ask(&mut self, now: Instant, least: Duration) -> bool {
        let next = match self.asked {
            Some((asked, wait)) if now.duration_since(asked) < wait => return false,
            Some((asked, wait)) if now.duration_since(asked) < wait * 2 => (wait * 2).min(LONGEST),
            _ => least,
        };
        self.asked = Some((now, next));
        true
    }

    /// Messages of the subject are missing: does what the rule's `on_gap` says.
    pub(super) fn act_on_gap(
        &mut self,
        rule: &Rule,
        element: Element<'_, '_>,
        arrival: Arrival,
        out: &mut Batch,
    ) -> Result<(), String> {
        match rule.on_gap {
            OnGap::Tell => Ok(()),
            OnGap::Reconnect => {
                out.reconnect("messages of a subject are missing");
                Ok(())
            }
            OnGap::Resubscribe => self.resubscribe(rule, element, arrival, out),
        }
    }

    fn resubscribe(
        &mut self,
        rule: &Rule,
        element: Element<'_, '_>,
        arrival: Arrival,
        out: &mut Batch,
    ) -> Result<(), String> {
        if rule.on_gap == OnGap::Resubscribe && self.may_ask(arrival.at, Duration::from_millis(RESUBSCRIBE_MS_MIN)) {
            rule.resubscribe(element, &mut |text| out.send(text))?;
        }
        Ok(())
    }
}

impl Sizes {
    pub(super) fn leave(&mut self, keeper: &Keeper) {
        self.levels -= keeper.book.len();
        self.pending_bytes -= keeper.pending_bytes;
    }

    pub(super) fn enter(&mut self, keeper: &Keeper) {
        self.levels += keeper.book.len();
        self.pending_bytes += keeper.pending_bytes;
    }
}

impl Keeper {
    pub(super) fn begin_connection(&mut self) {
        self.book.lose();
        self.has_begun = false;
        self.forget_pending();
        self.is_fetching = false;
        self.fetching = Asking::default();
    }

    /// The connection has ended: marks the book that was passed on.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>) {
        self.book.lose();
        self.show(turn, None);
    }

    /// A message of another rule has shown that a change is missing: marks the book.
    pub(super) fn doubt(&mut self, turn: &mut Turn<'_>, seq: Option<u64>) {
        self.book.doubt();
        self.show(turn, seq);
    }

    /// Passes the book on if it has changed, with the time at which the change arrived.
    fn show(&mut self, turn: &mut Turn<'_>, seq: Option<u64>) {
        if let Some(shown) = self.book.show(self.levels) {
            turn.out.update(turn.name, turn.arrival.unix_ns, shown, seq);
        }
    }

    /// Takes a message. `is_missing`: messages before this one are missing. `sizes`: the sizes of all other books.
    #[expect(clippy::too_many_arguments, reason = "all that is known about one message, once")]
    pub(super) fn take(
        &mut self,
        rule: &Rule,
        book_rule: &BookRule,
        element: Element<'_, '_>,
        is_missing: bool,
        sizes: Sizes,
        asking: &mut Asking,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        (self.rule, self.levels) = (rule.index, book_rule.levels);
        if is_missing {
            self.book.doubt();
        }
        // Read the message as a snapshot, a change or a checksum.
        let text = rule.data(element)?;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let message = Message { text, kind: book_rule.kind(element), is_first };
        let change = match book_rule.format.read(message) {
            Ok(change) => change,
            Err(error) => {
                self.book.doubt();
                self.tell(&BookFault::Malformed(error), turn);
                return asking.act_on_gap(rule, element, turn.arrival, turn.out);
            }
        };
        // Without a snapshot there is nothing to apply a change to: fetch the book, or count the change.
        match change.kind {
            Kind::Nothing => return Ok(()),
            Kind::Check if !self.book.is_kept() => return Ok(()),
            Kind::Update | Kind::Check if !self.book.is_kept() => {
                if book_rule.format == BookFormat::Binance {
                    self.wait(text, sizes, turn);
                    return self.fetch(book_rule, element, turn);
                }
                turn.counts.without_book += 1;
                // If we asked before, it was in vain: the venue was asked too often, or has refused.
                return match asking.asked {
                    Some(_) => asking.resubscribe(rule, element, turn.arrival, turn.out),
                    None => Ok(()),
                };
            }
            Kind::Update | Kind::Check | Kind::Snapshot => {}
        }
        if change.bad.count > 0 {
            self.tell_bad(&change, turn);
        }
        // Apply the change, and ask for a snapshot if the book is not whole after it.
        match self.book.take(book_rule.format, &change, bounds(book_rule, sizes)) {
            Ok(true) if self.book.is_whole() => Ok(()),
            // A reconnection would not make an unreadable level readable: ask for this book only.
            Ok(true) if book_rule.format != BookFormat::Binance => {
                asking.resubscribe(rule, element, turn.arrival, turn.out)
            }
            Ok(true) => {
                self.fetch(book_rule, element, turn)?;
                if self.is_fetching {
                    // The snapshot may be older than changes that have been applied meanwhile: keep them.
                    self.wait(text, sizes, turn);
                }
                Ok(())
            }
            Ok(false) => {
                turn.counts.duplicates += 1;
                Ok(())
            }
            Err(fault) => {
                self.tell(&fault, turn);
                if book_rule.format == BookFormat::Binance {
                    self.book.lose();
                    self.wait(text, sizes, turn);
                    return self.fetch(book_rule, element, turn);
                }
                if let BookFault::Missing { .. } = fault {
                    // Apply this change although others before it are missing, so that the next one follows it.
                    let _ = self.book.take_unlinked(book_rule.format, &change, bounds(book_rule, sizes));
                }
                asking.act_on_gap(rule, element, turn.arrival, turn.out)
            }
        }
    }

    /// Takes a fetched snapshot, and then the changes that have come meanwhile.
    pub(super) fn take_snapshot(&mut self, rule: &Rule, body: Result<&str, &str>, sizes: Sizes, turn: &mut Turn<'_>) {
        self.is_fetching = false;
        let Some(book_rule) = &rule.book else { return };
        let tell = |turn: &mut Turn<'_>, what: &str| {
            turn.out.trouble("book_snapshot", &format!("{}: {what}; it is fetched again", turn.name));
        };
        let read = body.map_err(str::to_owned).and_then(|body| {
            let no_book = |error| format!("the snapshot is not a book: {error}: {}", excerpt(body, TEXT_LEN_MAX));
            binance_snapshot(body).map_err(no_book)
        });
        let change = match read {
            Ok(change) => change,
            Err(error) => {
                if self.book.is_kept() {
                    // Later changes are applied at once, and do not wait for a snapshot.
                    self.forget_pending();
                }
                return tell(turn, &error);
            }
        };
        if change.bad.count > 0 {
            self.tell_bad(&change, turn);
        }
        if let Err(fault) = self.book.take(book_rule.format, &change, bounds(book_rule, sizes)) {
            return self.tell(&fault, turn);
        }
        // Apply the changes that have waited. If they do not follow the snapshot, they wait for a newer one.
        while let Some(text) = self.pending.pop_front() {
            self.pending_bytes -= text.len();
            // The change could be read when it came, so that this never skips one.
            let Ok(change) = book_rule.format.read(Message { text: &text, kind: None, is_first: false }) else {
                continue;
            };
            match self.book.take(book_rule.format, &change, bounds(book_rule, sizes)) {
                Ok(_) => {}
                Err(BookFault::Missing { from, to }) if self.book.updates() == 0 => {
                    self.book.lose();
                    self.pending_bytes += text.len();
                    self.pending.push_front(text);
                    let last = from.saturating_sub(1);
                    return tell(turn, &format!("the snapshot at {last} is older than the first change, {to}"));
                }
                Err(fault) => {
                    self.tell(&fault, turn);
                    self.book.lose();
                    self.pending_bytes += text.len();
                    self.pending.push_front(text);
                    return;
                }
            }
        }
        self.show(turn, None);
    }

    /// Keeps a change until the snapshot has come.
    fn wait(&mut self, text: &str, sizes: Sizes, turn: &mut Turn<'_>) {
        self.pending_bytes += text.len();
        self.pending.push_back(text.into());
        while self.pending.len() > PENDING_CHANGES_MAX || sizes.pending_bytes + self.pending_bytes > PENDING_BYTES_MAX {
            // Without the oldest change, the snapshot must be newer.
            let Some(oldest) = self.pending.pop_front() else { break };
            self.pending_bytes -= oldest.len();
            turn.counts.dropped += 1;
        }
    }

    fn forget_pending(&mut self) {
        self.pending = VecDeque::new();
        self.pending_bytes = 0;
    }

    fn fetch(&mut self, rule: &BookRule, element: Element<'_, '_>, turn: &mut Turn<'_>) -> Result<(), String> {
        if self.is_fetching || !self.fetching.may_ask(turn.arrival.at, Duration::from_millis(SNAPSHOT_MS_MIN)) {
            return Ok(());
        }
        if let Some(url) = rule.snapshot(element)? {
            self.is_fetching = true;
            turn.out.fetch(turn.name, &url);
        }
        Ok(())
    }

    fn tell(&self, fault: &BookFault, turn: &mut Turn<'_>) {
        let name = turn.name;
        let kind = match fault {
            BookFault::Checksum { .. } => "checksum",
            BookFault::Malformed(_) => "malformed_book",
            BookFault::TooLong => "book_too_long",
            BookFault::Missing { from, to } => {
                turn.out.subject_gap(name, *from, *to);
                return;
            }
        };
        let update = self.book.updates();
        let what = if self.book.is_kept() { "it is incomplete until" } else { "it waits for" };
        turn.out.trouble(kind, &format!("{name}, update {update}: {fault}; {what} a snapshot"));
        turn.out.subject_gap(name, update, update + 1);
    }

    fn tell_bad(&self, change: &Change<'_>, turn: &mut Turn<'_>) {
        let more = match change.bad.count {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let text = format!("{}: `{}`{more} is no level of a book; it is left out", turn.name, change.bad.first);
        turn.out.trouble("bad_level", &format!("{text}, and the book incomplete until a snapshot"));
    }
}

fn bounds(rule: &BookRule, sizes: Sizes) -> Bounds {
    Bounds { depth: rule.depth, room: BOOK_LEVELS_MAX.saturating_sub(sizes.levels) }
}

const LONGEST: Duration = Duration::from_millis(RESUBSCRIBE_MS_MAX);
