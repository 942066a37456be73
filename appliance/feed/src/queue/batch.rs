//! Records laid end to end, so that one record more costs a copy and no allocation.

use std::cell::Cell;

use super::Record;
use crate::{Answer, Condition, Data, Event, Session, Trouble, UnixNs, Unpublished};

/// Records in order, and their bytes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    items: Vec<Item>,
    bytes: Vec<u8>,
}

/// A record without its bytes. Lengths are of what lies next in [`Batch::bytes`].
#[derive(Debug, Clone, Copy)]
enum Item {
    Update { seq: u64, ts_ns: UnixNs, received_ns: UnixNs, from: u32, subject_len: u32, data_len: u32, is_json: bool },
    SubjectGap { from: u64, to: u64, subject_len: u32 },
    Gap { from: u64, to: u64 },
    Session { session: Session, first_seq: u64 },
    Trouble { kind: &'static str, text_len: u32 },
    Condition(Condition),
}

/// How far a batch has been passed on.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Place {
    item: usize,
    byte: usize,
}

/// What the item at a place says.
pub(super) enum Said<'a> {
    Event(Event<'a>),
    /// An update, and the number of who is told if it is not published.
    Update {
        event: Event<'a>,
        from: u32,
    },
    Session {
        session: Session,
        first_seq: u64,
    },
    Condition(Condition),
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// May `record` be added? One that is longer than a batch may be has it to itself.
    pub(super) fn has_room(&self, record: &Record<'_>, records_max: usize, bytes_max: usize) -> bool {
        self.items.is_empty()
            || (self.items.len() < records_max && self.bytes.len().saturating_add(record.len()) <= bytes_max)
    }

    /// `from`: the number of the sender's receipts.
    pub(super) fn push(&mut self, record: &Record<'_>, seq: u64, from: u32) {
        match *record {
            Record::Update { subject, ts_ns, data, received_ns } => {
                let (is_json, data) = match data {
                    Data::Json(text) => (true, text.as_bytes()),
                    Data::Opaque(bytes) => (false, bytes),
                };
                let (subject_len, data_len) = (self.append(subject.as_bytes()), self.append(data));
                self.items.push(Item::Update { seq, ts_ns, received_ns, from, subject_len, data_len, is_json });
            }
            Record::SubjectGap { subject, from, to } => {
                let subject_len = self.append(subject.as_bytes());
                self.items.push(Item::SubjectGap { from, to, subject_len });
            }
            Record::Gap { from, to } => self.items.push(Item::Gap { from, to }),
            Record::Session { session, first_seq } => self.items.push(Item::Session { session, first_seq }),
            Record::Trouble { kind, text } => {
                let text_len = self.append(text.as_bytes());
                self.items.push(Item::Trouble { kind, text_len });
            }
        }
    }

    /// Conditions are outside of the limits: of several in a row the last is kept, and the worst of those before it,
    /// since a break must be told even if it is over when somebody looks. So they are at most twice as many as records.
    pub(super) fn push_condition(&mut self, condition: Condition) {
        match self.items.as_mut_slice() {
            [.., Item::Condition(before), Item::Condition(last)] => {
                if !matches!(before, Condition::Stale(_)) {
                    *before = *last;
                }
                *last = condition;
            }
            _ => self.items.push(Item::Condition(condition)),
        }
    }

    /// Has everything been passed on?
    pub(super) fn is_over(&self, place: &Place) -> bool {
        place.item >= self.items.len()
    }

    /// What stands at `place`, which moves on; none at the end. An update is answered in `answer`.
    pub(super) fn next<'a>(&'a self, place: &mut Place, answer: &'a Cell<Option<Unpublished>>) -> Option<Said<'a>> {
        let item = self.items.get(place.item)?;
        place.item += 1;
        let mut take = |len: u32| {
            let start = place.byte;
            place.byte += len as usize;
            self.bytes.get(start..place.byte).unwrap_or_default()
        };
        let event = match *item {
            Item::Condition(condition) => return Some(Said::Condition(condition)),
            Item::Session { session, first_seq } => return Some(Said::Session { session, first_seq }),
            Item::Gap { from, to } => Event::Gap { from, to },
            Item::Update { seq, ts_ns, received_ns, from, subject_len, data_len, is_json } => {
                let subject = text(take(subject_len));
                let data = take(data_len);
                let data = if is_json { Data::Json(text(data)) } else { Data::Opaque(data) };
                let event = Event::Update { seq, subject, ts_ns, data, received_ns, answer: Answer(answer) };
                return Some(Said::Update { event, from });
            }
            Item::SubjectGap { from, to, subject_len } => {
                Event::SubjectGap { subject: text(take(subject_len)), from, to }
            }
            Item::Trouble { kind, text_len } => Event::Trouble(Trouble::Told { kind, text: text(take(text_len)) }),
        };
        Some(Said::Event(event))
    }

    /// Empties it; the memory stays, unless one long record has made it larger than `bytes_max`.
    pub(super) fn clear(&mut self, bytes_max: usize) {
        self.items.clear();
        self.bytes.clear();
        self.bytes.shrink_to(bytes_max);
    }

    /// Cuts what no length field can express. The bounds of what peers may send are far below.
    fn append(&mut self, bytes: &[u8]) -> u32 {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(bytes.get(..len as usize).unwrap_or(bytes));
        len
    }
}

impl Record<'_> {
    /// Bytes that it takes in a batch.
    fn len(&self) -> usize {
        match self {
            Record::Update { subject, data, .. } => subject.len() + data.len(),
            Record::SubjectGap { subject, .. } => subject.len(),
            Record::Gap { .. } | Record::Session { .. } => 0,
            Record::Trouble { text, .. } => text.len(),
        }
    }
}

/// It was text when it was appended. Checked again, as that costs little and saves an `unsafe`.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
