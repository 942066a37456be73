//! Order books of a venue that sends them once whole and then by their changes: kept, so that what is passed on is the
//! whole state, checked, where the venue sends what it takes, and marked while it is not known to be whole.

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
    /// Ascending, so that the best are the last.
    bids: BTreeMap<Decimal, Level>,
    asks: BTreeMap<Decimal, Level>,
    trust: Trust,
    /// Updates since the snapshot.
    updates: u64,
    checksum: Option<u32>,
    /// The venue's number of the newest change.
    number: Option<u64>,
    /// Nothing has come since the snapshot.
    is_fresh: bool,
    /// What was passed on last, and whether it was marked.
    shown: String,
    is_marked: bool,
}

/// What can be said of the levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Trust {
    /// There has been no snapshot, or what has become of it is not known: only a snapshot helps.
    #[default]
    Lost,
    /// A change is missing, or could not be read. What comes goes in, and what is passed on is marked until a snapshot.
    Partial,
    /// A snapshot, and everything since.
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

/// How long a book may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Levels of a side; what is beyond is cut.
    pub(super) depth: usize,
    /// Levels in all; with more it is not kept.
    pub(super) room: usize,
}

impl Book {
    /// The same for a change before which others are missing.
    pub(super) fn take_unlinked(
        &mut self,
        format: BookFormat,
        change: &Change<'_>,
        bounds: Bounds,
    ) -> Result<bool, BookFault> {
        self.number = None;
        self.take(format, change, bounds)
    }

    /// Takes a change: a snapshot instead of everything before, or an update. False: it has been there.
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

    /// It has had a snapshot, and everything since.
    pub(super) fn is_whole(&self) -> bool {
        self.trust == Trust::Whole
    }

    /// There are levels that changes can be made to.
    pub(super) fn is_kept(&self) -> bool {
        self.trust != Trust::Lost
    }

    /// Something is missing from it.
    pub(super) fn doubt(&mut self) {
        if self.trust == Trust::Whole {
            self.trust = Trust::Partial;
        }
    }

    /// What has become of it is not known.
    pub(super) fn lose(&mut self) {
        self.bids.clear();
        self.asks.clear();
        self.trust = Trust::Lost;
    }

    /// Forgets what was passed on, so that nothing is marked.
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

    /// What is to be passed on, as JSON: the first `levels` of each side, with a mark while they are not known to be
    /// the whole truth; what was passed on last, marked, while nothing is known. None if that has been passed on.
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

    /// Does the change join what there is? False: it has been there.
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

    /// Kraken does not say when a level leaves the depth that was subscribed.
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

/// As the venue wrote it; an exponent is written out, as not everybody reads it. None of it needs an escape.
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
