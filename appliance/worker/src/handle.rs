//! Starting a worker, and talking to it from other threads.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use fanblade_net::Engine;
use fanblade_ring::{Reader, Sleeper, Waker};

use crate::config::{Command, WorkerConfig};
use crate::stats::WorkerStats;
use crate::worker::Worker;

/// How a worker has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was told to.
    Told,
    /// Its engine has failed, as said here.
    Failed(String),
    /// It has panicked, with this message.
    Panicked(String),
}

/// A running worker.
pub struct WorkerHandle {
    stats: Arc<WorkerStats>,
    commands: Sender<Command>,
    waker: Waker,
    end: Arc<OnceLock<WorkerEnd>>,
    thread: JoinHandle<()>,
}

impl WorkerHandle {
    /// Its counters.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// What wakes it. [`Waker::successor`] is the sleeper of a worker that takes its place.
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Sends it a command, and wakes it.
    pub fn send(&self, command: Command) {
        // A worker that has ended takes no commands, and needs none.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }

    /// How it has ended, if it has. Its thread may still be saying goodbye to its sessions; it counts nothing any more,
    /// so that another worker may take its place.
    pub fn end(&self) -> Option<&WorkerEnd> {
        self.end.get()
    }

    /// Has it ended?
    pub fn is_finished(&self) -> bool {
        self.end.get().is_some() || self.thread.is_finished()
    }

    /// Waits for its end.
    pub fn join(self) -> io::Result<()> {
        let joined = self.thread.join();
        match self.end.get() {
            Some(WorkerEnd::Told) => Ok(()),
            Some(WorkerEnd::Failed(error)) => Err(io::Error::other(error.clone())),
            Some(WorkerEnd::Panicked(message)) => Err(io::Error::other(format!("panicked: {message}"))),
            // It failed before its loop: no session has come to it.
            None => Err(io::Error::other(joined.err().map_or_else(String::new, |panic| message(&*panic)))),
        }
    }
}

/// Starts a worker. `engine` is called on the worker's own thread (io_uring's rings belong to the thread that made
/// them) and must watch the sleeper's eventfd; this returns once the engine stands, or with its error.
pub fn spawn(
    config: WorkerConfig,
    reader: Reader,
    sleeper: Sleeper,
    waker: Waker,
    engine: impl FnOnce(&Sleeper) -> io::Result<Box<dyn Engine>> + Send + 'static,
) -> io::Result<WorkerHandle> {
    let stats = config.predecessor.clone().unwrap_or_default();
    let end = Arc::new(OnceLock::new());
    let (commands, inbox) = channel();
    let (started, standing) = channel();
    let thread = std::thread::Builder::new().name(format!("worker-{}", config.index)).spawn({
        let (stats, end) = (Arc::clone(&stats), Arc::clone(&end));
        move || {
            if let Some(cpu) = config.cpu
                && let Err(error) = fanblade_net::affinity::pin_thread(cpu)
            {
                tracing::warn!("worker {}: cannot pin to cpu {cpu}: {error}", config.index);
            }
            let mut engine = match engine(&sleeper) {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            if config.predecessor.is_some() {
                stats.restarts.add(1);
            }
            let _ = started.send(Ok(()));
            serve(config, reader, sleeper, &stats, inbox, &mut *engine, &end);
        }
    })?;
    standing.recv().unwrap_or_else(|_| Err(io::Error::other("the worker's thread did not start")))?;
    Ok(WorkerHandle { stats, commands, waker, end, thread })
}

/// Runs a worker to its end, whatever that is. A panic ends this worker and no other: the engine lives outside of what
/// unwinds, so that sessions that are between two frames can be told.
fn serve(
    config: WorkerConfig,
    reader: Reader,
    sleeper: Sleeper,
    stats: &Arc<WorkerStats>,
    inbox: Receiver<Command>,
    engine: &mut dyn Engine,
    end: &OnceLock<WorkerEnd>,
) {
    let mut worker = Worker::new(config, reader, sleeper, Arc::clone(stats), inbox);
    // What a panic may have left half-done is looked at by `say_last_words` only, which says what it relies on.
    let ended = match catch_unwind(AssertUnwindSafe(|| worker.run(engine))) {
        Ok(Ok(())) => WorkerEnd::Told,
        Ok(Err(error)) => WorkerEnd::Failed(error.to_string()),
        Err(panic) => {
            stats.panics.add(1);
            WorkerEnd::Panicked(message(&*panic))
        }
    };
    let is_told = ended == WorkerEnd::Told;
    // Before the end is known: a successor counts in the same words.
    stats.forget_levels();
    if !is_told {
        let _ = catch_unwind(AssertUnwindSafe(|| worker.count_last_words()));
    }
    let _ = end.set(ended);
    if !is_told {
        // A second panic, or an engine that fails, costs the goodbyes.
        let _ = catch_unwind(AssertUnwindSafe(|| worker.say_last_words(engine)));
    }
}

/// What was said when it panicked.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
