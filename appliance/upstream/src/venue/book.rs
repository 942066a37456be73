//! Order books of a venue that sends a snapshot and then changes. Books are kept, so that their whole state can be
//! passed on; verified, if the venue sends checksums or numbers; and marked as incomplete while they may lack changes.

mod change;
mod checksum;
mod level;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fanblade_wire::decimal::Decimal;

pub use change::BookFormat;
pub(super) use change::{Change, Kind, Message, binance_snapshot};

use change::{Link, Side};
use checksum::Best;
use level::Level;

/// One book.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// In ascending order, so that the best bid is the last.
    bids: BTreeMap<Decimal, Level>,
    asks: BTreeMap<Decimal, Level>,
    trust: Trust,
    /// Updates since the snapshot.
    updates: u64,
    checksum: Option<u32>,
    /// The venue's number of the newest change.
    number: Option<u64>,
    /// No change has come since the snapshot.
    is_fresh: bool,
    /// The text that was passed on last, and whether it was marked.
    shown: String,
    is_marked: bool,
}

/// How far the levels can be trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Trust {
    /// There has been no snapshot, or the book is lost since: only a snapshot helps.
    #[default]
    Lost,
    /// A change is missing, or could not be read. Later changes are applied, and the book is marked until a snapshot.
    Partial,
    /// A snapshot has come, and every change since.
    Whole,
}

/// Why a book cannot be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BookFault {
    #[error("the checksum is {computed}, the venue says {stated}")]
    Checksum { computed: u32, stated: u32 },
    #[error("{0}")]
    Malformed(String),
    #[error("more levels than all books together may have")]
    TooLong,
    #[error("its changes {from} to {} are missing", to.saturating_sub(1))]
    Missing { from: u64, to: u64 },
}

/// How many levels a book may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Levels of each side; further ones are cut off.
    pub(super) depth: usize,
    /// Levels of both sides; a book with more is not kept.
    pub(super) room: usize,
}

impl Book {
    /// As [`take`](Self::take), for a change before which other changes are missing.
    pub(super) fn take_unlinked(
        &mut self,
        format: BookFormat,
        change: &Change<'_>,
        bounds: Bounds,
    ) -> Result<bool, BookFault> {
        self.number = None;
        self.take(format, change, bounds)
    }

    /// Takes a change: a snapshot, which replaces everything before, or an update. False: the change has come before.
    pub(super) fn take(&mut self, format: BookFormat, change: &Change<'_>, bounds: Bounds) -> Result<bool, BookFault> {
        if change.kind == Kind::Snapshot {
            self.forget();
            self.trust = Trust::Whole;
            self.is_fresh = true;
        } else if !self.follow(change.link)? {
            return Ok(false);
        } else {
            self.updates += u64::from(change.kind == Kind::Update);
        }
        if change.kind != Kind::Check {
            self.number = change.link.last().or(self.number);
            self.is_fresh = change.kind == Kind::Snapshot;
        }
        self.change(format, change, bounds.depth);
        if self.len() > bounds.room {
            self.lose();
            return Err(BookFault::TooLong);
        }
        if change.bad.count > 0 {
            self.doubt();
        }
        self.checksum = None;
        if let (Trust::Whole, Some(stated)) = (self.trust, change.checksum) {
            let best = Best { bids: &self.bids, asks: &self.asks };
            if let Err(computed) = best.verify(format, stated) {
                self.lose();
                return Err(BookFault::Checksum { computed, stated });
            }
            self.checksum = Some(stated);
        }
        Ok(true)
    }

    /// The book has had a snapshot, and every change since.
    pub(super) fn is_whole(&self) -> bool {
        self.trust == Trust::Whole
    }

    /// The book has levels to which changes can be applied.
    pub(super) fn is_kept(&self) -> bool {
        self.trust != Trust::Lost
    }

    /// Notes that a change is missing.
    pub(super) fn doubt(&mut self) {
        if self.trust == Trust::Whole {
            self.trust = Trust::Partial;
        }
    }

    /// Notes that the state of the book is not known any more.
    pub(super) fn lose(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.trust = Trust::Lost;
    }

    /// Forgets the text that was passed on, so that it will not be marked.
    pub(super) fn hide(&mut self) {
        self.shown = String::new();
    }

    /// Updates since the snapshot.
    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    /// Levels of both sides.
    pub(super) fn len(&self) -> usize {
        self.bids.len() + self.asks.len()
    }

    /// The JSON to pass on: the first `levels` of each side, with a mark while they may be incomplete; for a book whose
    /// state is not known, the last text with a mark. `None` if the same text was the last to be passed on.
    pub(super) fn show(&mut self, levels: usize) -> Option<&str> {
        if self.trust == Trust::Lost {
            let is_told = std::mem::replace(&mut self.is_marked, true) || self.shown.is_empty();
            if is_told || self.shown.pop() != Some('}') {
                return None;
            }
            self.shown.push_str(MARK);
            return Some(&self.shown);
        }
        let mut out = String::with_capacity(self.shown.len());
        side(&mut out, "{\"bids\":[", self.bids.values().rev().take(levels));
        side(&mut out, "],\"asks\":[", self.asks.values().take(levels));
        out.push(']');
        if let Some(checksum) = self.checksum {
            let _ = write!(out, ",\"checksum\":{checksum}");
        }
        self.is_marked = !self.is_whole();
        out.push_str(if self.is_marked { MARK } else { "}" });
        if out == self.shown {
            return None;
        }
        self.shown = out;
        Some(&self.shown)
    }

    fn forget(&mut self) {
        self.lose();
        self.updates = 0;
        self.number = None;
    }

    /// Checks that the change follows the newest one. False: the change has come before.
    fn follow(&mut self, link: Link) -> Result<bool, BookFault> {
        let Some(number) = self.number else { return Ok(true) };
        let missing = match link {
            Link::None => None,
            Link::Chain { previous: None, .. } => None,
            Link::Chain { previous: Some(previous), last } => {
                if last <= number && previous < number {
                    return Ok(false);
                }
                (previous != number).then_some(previous.saturating_add(1))
            }
            Link::Range { last, .. } if last < number || (last == number && !self.is_fresh) => return Ok(false),
            Link::Range { first, .. } if self.is_fresh => (first > number.saturating_add(1)).then_some(first),
            Link::Range { previous: Some(previous), .. } => (previous != number).then_some(previous.saturating_add(1)),
            Link::Range { first, .. } => (first > number.saturating_add(1)).then_some(first),
        };
        match missing {
            None => Ok(true),
            Some(to) => {
                self.doubt();
                let from = number.saturating_add(1);
                Err(BookFault::Missing { from, to: to.max(from.saturating_add(1)) })
            }
        }
    }

    fn change(&mut self, format: BookFormat, change: &Change<'_>, depth: usize) {
        for step in &change.levels {
            let levels = match step.side {
                Side::Bid => &mut self.bids,
                Side::Ask => &mut self.asks,
            };
            match &step.level {
                None => drop(levels.remove(&step.key)),
                Some((price, quantity)) => {
                    let level = Level { price: price.as_ref().into(), quantity: quantity.as_ref().into() };
                    levels.insert(step.key, level);
                }
            }
        }
        if format.is_cut() {
            self.cut(depth);
        }
    }

    /// Cuts each side to `depth`: Kraken does not say when a level leaves the depth that was subscribed.
    fn cut(&mut self, depth: usize) {
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }
}

fn side<'a>(out: &mut String, name: &str, levels: impl Iterator<Item = &'a Level>) {
    out.push_str(name);
    for (index, level) in levels.enumerate() {
        out.push_str(if index == 0 { "[\"" } else { ",[\"" });
        push_plain(out, &level.price);
        out.push_str("\",\"");
        push_plain(out, &level.quantity);
        out.push_str("\"]");
    }
}

/// Writes a number as the venue wrote it, but without an exponent, which not all readers know. It needs no escapes.
fn push_plain(out: &mut String, number: &str) {
    match Decimal::parse(number) {
        Ok(decimal) if number.contains(['e', 'E', '+']) => {
            let _ = write!(out, "{decimal}");
        }
        _ => out.push_str(number),
    }
}

/// The end of a book that is not known to be whole, as in the market's own (docs/PROTOCOL.md).
const MARK: &str = ",\"incomplete\":true}";

#[cfg(test)]
mod tests;
