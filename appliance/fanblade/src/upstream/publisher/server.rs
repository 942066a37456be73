//! The publishers' thread: who is connected, and the end of all of them.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use fanblade_feed::queue::{Record, Sender};
use fanblade_feed::{Condition, Stale, injected};
use futures_util::future::OptionFuture;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};

use super::connection;
use super::limits::{FAREWELL_MS_MAX, GREETINGS_MAX, RESERVE_NUMBERS, STATE_WRITE_MS_MAX};
use super::lines::{LineCounters, Lines};
use super::listener::Accepting;
use super::numbering;
use super::state::StateFile;

/// What publishers have to keep to.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) token: Option<Vec<u8>>,
    pub(super) origins: Vec<String>,
    pub(super) epoch: String,
    pub(super) stale_without_publisher: bool,
    pub(super) publishers_max: usize,
    pub(super) subjects_max: usize,
    pub(super) data_len_max: usize,
    pub(super) in_flight_max: usize,
    pub(super) greeting_max: Duration,
}

/// What all connections have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) sender: Sender,
    pub(super) lines: Lines,
    /// All that were ever published: the ring forgets none.
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
    pub(super) fn new(settings: Settings, sender: Sender) -> Self {
        Self {
            settings,
            sender,
            lines: Lines::default(),
            subjects: Mutex::default(),
            publishers: AtomicUsize::new(0),
            records: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Records that came, and those of them that were refused.
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

    /// Counts what is wrong and has it logged, as `kind`.
    pub(super) async fn tell(&self, kind: &'static str, text: &str) {
        // After the end of the feed there is nobody to tell.
        let _ = self.sender.send(&Record::Trouble { kind, text }).await;
    }

    /// A place for one publisher more; none if all are taken. `name` is its own, or that of its transport.
    pub(super) fn seat(self: &Arc<Self>, name: &str) -> Option<Seat> {
        // Only this thread adds and takes away.
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

/// Runs until `stopped`, tells everybody, and writes down where the numbering stopped.
pub(super) async fn serve(
    accepting: Vec<Accepting>,
    shared: Arc<Shared>,
    state: Arc<StateFile>,
    seq_end: u64,
    mut stopped: watch::Receiver<bool>,
) {
    let sender = shared.sender.clone();
    let ahead = numbering::keep_ahead(Arc::clone(&state), sender.clone(), seq_end, RESERVE_NUMBERS);
    let mut ahead = Some(tokio::spawn(ahead));
    let mut tasks = JoinSet::new();
    for accepting in accepting {
        tasks.spawn(accept(accepting, Arc::clone(&shared), stopped.clone()));
    }
    // Without numbers, or nobody who accepts, publishers would wait for ever: a panic of one is one of the thread.
    loop {
        tokio::select! {
            () = until_stop(&mut stopped) => break,
            Some(ended) = OptionFuture::from(ahead.as_mut()), if ahead.is_some() => {
                ahead = None;
                pass_panic_on(ended);
            }
            Some(ended) = tasks.join_next() => pass_panic_on(ended),
            () = until_asked_to_panic() => {}
        }
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(FAREWELL_MS_MAX), all).await.is_err() {
        tracing::info!("some publishers did not listen to the end");
        tasks.shutdown().await;
    }
    // What it is writing, if it is, comes first.
    if let Some(ahead) = ahead {
        ahead.abort();
    }
    write_down(&state, sender.taken() + 1).await;
}

/// Writes down where the numbering stops, if the disk answers.
async fn write_down(state: &Arc<StateFile>, next_seq: u64) {
    let limit = Duration::from_millis(STATE_WRITE_MS_MAX);
    let written = tokio::task::spawn_blocking({
        let state = Arc::clone(state);
        move || state.write(next_seq)
    });
    let fault = match tokio::time::timeout(limit, written).await {
        Ok(Ok(Ok(()))) => return tracing::debug!("the numbering stops before {next_seq}"),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("the disk has not answered within {STATE_WRITE_MS_MAX} ms"),
    };
    tracing::error!(
        "that the numbering stops before {next_seq} could not be written: {fault}. The next start leaves out up to \
         {RESERVE_NUMBERS} numbers that were reserved; subscribers see that as a gap, and none is used twice"
    );
}

fn pass_panic_on(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        resume_unwind(panic);
    }
}

/// Tests only: release builds wait for ever.
async fn until_asked_to_panic() {
    while cfg!(debug_assertions) {
        injected::panic_if_asked("publishers");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    std::future::pending::<()>().await;
}

/// Waits for the order to stop.
pub(super) async fn until_stop(stopped: &mut watch::Receiver<bool>) {
    // Its sender is gone only after it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Accepts until `stopped`, then waits for its connections.
async fn accept(accepting: Accepting, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let mut ending = stopped.clone();
    let greetings = Arc::new(Semaphore::new(GREETINGS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = Arc::clone(&greetings).acquire_owned().await;
            (permit, accepting.accept().await)
        };
        tokio::select! {
            () = until_stop(&mut ending) => break,
            (permit, accepted) = next => match (permit, accepted) {
                (Ok(permit), Ok(accepted)) => {
                    connections.spawn(connection::serve(accepted, Arc::clone(&shared), permit, stopped.clone()));
                }
                (_, Err(error)) => {
                    shared.tell("accept", &format!("no publisher can be accepted: {error}")).await;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                // Nobody closes it.
                (Err(_), _) => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(accepting);
    while connections.join_next().await.is_some() {}
}

/// Out of descriptors, at once would be in vain.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
