//! The steps that one message causes: collected while it is read, then carried out in order, which may have to wait.

use std::ops::Range;

use fanblade_feed::{Data, UnixNs};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// A subject's new value, with the venue's number if the venue's numbers are ours.
    Update { subject: &'a str, ts_ns: UnixNs, data: Data<'a>, seq: Option<u64> },
    /// The numbers `from..to` of a subject are missing.
    SubjectGap { subject: &'a str, from: u64, to: u64 },
    /// The messages `from..to` of the connection are missing.
    Gap { from: u64, to: u64 },
    /// Something is wrong.
    Trouble { kind: &'static str, text: &'a str },
    /// The numbering begins anew.
    Epoch,
    /// A message for the venue.
    Send(&'a str),
    /// Fetch the book of a subject from this address.
    Fetch { subject: &'a str, url: &'a str },
    /// Close this connection, and connect again.
    Reconnect(&'static str),
}

/// Steps in order, and their texts. The batch is reused, so that a message needs no allocations.
#[derive(Debug, Default)]
pub(super) struct Batch {
    items: Vec<Item>,
    text: String,
    updates: usize,
}

#[derive(Debug)]
enum Item {
    Update { subject: Range<usize>, ts_ns: UnixNs, data: Range<usize>, seq: Option<u64> },
    SubjectGap { subject: Range<usize>, from: u64, to: u64 },
    Gap { from: u64, to: u64 },
    Trouble { kind: &'static str, text: Range<usize> },
    Epoch,
    Send(Range<usize>),
    Fetch { subject: Range<usize>, url: Range<usize> },
    Reconnect(&'static str),
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.updates = 0;
        self.text.clear();
        self.text.shrink_to(TEXT_KEPT_MAX);
    }

    pub(super) fn update(&mut self, subject: &str, ts_ns: UnixNs, json: &str, seq: Option<u64>) {
        let subject = self.append(subject);
        let start = self.text.len();
        // JSON has line breaks only where it may have spaces.
        for line in json.trim().split(['\n', '\r']) {
            if self.text.len() > start {
                self.text.push(' ');
            }
            self.text.push_str(line);
        }
        let data = start..self.text.len();
        self.updates += 1;
        self.items.push(Item::Update { subject, ts_ns, data, seq });
    }

    /// If `from..to` is empty, nothing is missing: a venue whose numbers stay 0 seems to begin anew again and again.
    pub(super) fn subject_gap(&mut self, subject: &str, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let subject = self.append(subject);
        self.items.push(Item::SubjectGap { subject, from, to });
    }

    /// As [`subject_gap`](Self::subject_gap), for the connection.
    pub(super) fn gap(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        self.items.push(Item::Gap { from, to });
    }

    pub(super) fn trouble(&mut self, kind: &'static str, text: &str) {
        let text = self.append(text);
        self.items.push(Item::Trouble { kind, text });
    }

    pub(super) fn epoch(&mut self) {
        self.items.push(Item::Epoch);
    }

    pub(super) fn send(&mut self, text: &str) {
        let text = self.append(text);
        self.items.push(Item::Send(text));
    }

    pub(super) fn fetch(&mut self, subject: &str, url: &str) {
        let (subject, url) = (self.append(subject), self.append(url));
        self.items.push(Item::Fetch { subject, url });
    }

    pub(super) fn reconnect(&mut self, why: &'static str) {
        self.items.push(Item::Reconnect(why));
    }

    /// How many of the steps are values.
    pub(super) fn updates(&self) -> usize {
        self.updates
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        self.items.iter().map(move |item| match item {
            Item::Update { subject, ts_ns, data, seq } => {
                Step::Update { subject: text(subject), ts_ns: *ts_ns, data: Data::Json(text(data)), seq: *seq }
            }
            Item::SubjectGap { subject, from, to } => Step::SubjectGap { subject: text(subject), from: *from, to: *to },
            Item::Gap { from, to } => Step::Gap { from: *from, to: *to },
            Item::Trouble { kind, text: range } => Step::Trouble { kind, text: text(range) },
            Item::Epoch => Step::Epoch,
            Item::Send(range) => Step::Send(text(range)),
            Item::Fetch { subject, url } => Step::Fetch { subject: text(subject), url: text(url) },
            Item::Reconnect(why) => Step::Reconnect(why),
        })
    }

    fn append(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }
}

/// Bytes of capacity that are kept from one message to the next: enough for every message but a snapshot.
const TEXT_KEPT_MAX: usize = 256 << 10;
