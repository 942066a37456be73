//! The state that all publishers' connections share, and the seats of the connected publishers.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use fanblade_feed::queue::{Record, Sender};
use fanblade_feed::{Condition, Stale};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::lines::{LineCounters, Lines};
use super::settings::Settings;

/// The state that all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// The name of the numbering.
    pub(super) epoch: String,
    pub(super) sender: Sender,
    pub(super) lines: Lines,
    /// All subjects that were ever published: the ring forgets none.
    subjects: Mutex<HashSet<Box<str>>>,
    publishers: AtomicUsize,
    records: AtomicU64,
    refused: AtomicU64,
}

/// A publisher's place among the connected ones.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    pub(super) name: String,
    pub(super) line: Arc<LineCounters>,
}

impl Shared {
    pub(super) fn new(settings: Settings, epoch: String, sender: Sender) -> Self {
        Self {
            settings,
            epoch,
            sender,
            lines: Lines::default(),
            subjects: Mutex::default(),
            publishers: AtomicUsize::new(0),
            records: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// How many records have come, and how many of them were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.records.load(Relaxed), self.refused.load(Relaxed))
    }

    pub(super) fn note_record(&self) {
        self.records.fetch_add(1, Relaxed);
    }

    pub(super) fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Takes note of a subject; false if it is new and there is no room for it.
    pub(super) fn admit_subject(&self, subject: &str) -> bool {
        let mut subjects = self.subjects.lock();
        if subjects.contains(subject) {
            return true;
        }
        let has_room = subjects.len() < self.settings.subjects_max;
        if has_room {
            subjects.insert(subject.into());
        }
        has_room
    }

    /// Counts a trouble of this kind, and has `text` logged.
    pub(super) async fn tell(&self, kind: &'static str, text: &str) {
        // After the end of the feed nobody receives it.
        let _ = self.sender.send(&Record::Trouble { kind, text }).await;
    }

    /// A seat for another publisher; `None` if all are taken. `name` is the publisher's own, or that of its transport.
    pub(super) fn seat(self: &Arc<Self>, name: &str) -> Option<Seat> {
        // Only this thread changes the count.
        let publishers = self.publishers.load(Relaxed);
        if publishers >= self.settings.publishers_max {
            return None;
        }
        self.publishers.store(publishers + 1, Relaxed);
        if publishers == 0 && self.settings.stale_without_publisher {
            self.sender.set_condition(Condition::Live);
        }
        Some(Seat { shared: Arc::clone(self), name: name.to_owned(), line: self.lines.join(name) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.lines.leave(&self.name);
        if shared.publishers.fetch_sub(1, Relaxed) == 1 && shared.settings.stale_without_publisher {
            shared.sender.set_condition(Condition::Stale(Stale::Disconnected));
        }
    }
}

/// Waits for the order to stop.
pub(super) async fn until_stop(stopped: &mut watch::Receiver<bool>) {
    // The sender is dropped only after it has ordered the stop, so that an error means stop, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
