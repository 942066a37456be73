//! Starting a worker, and talking to it from other threads.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use fanblade_net::Engine;
use fanblade_ring::{Reader, Sleeper, Waker};

use crate::batching::Batching;
use crate::limits::Limits;
use crate::stats::WorkerStats;
use crate::worker::Worker;

/// How a worker runs.
#[derive(Clone, Debug, Default)]
pub struct WorkerConfig {
    /// Its number, from 0; names its thread.
    pub index: usize,
    /// The CPU to pin it to.
    pub cpu: Option<usize>,
    /// What it and its sessions may use.
    pub limits: Limits,
    /// `Origin` values that are admitted, exactly as a browser sends them; empty: every origin.
    pub origins: Vec<String>,
    /// Busy microseconds before it sleeps when there is nothing to do.
    pub spin_us: u32,
    /// Which subjects' frames may wait for more; the first entry that selects a subject counts.
    pub batching: Vec<Batching>,
}

/// What a worker can be told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Accept no more; flush what every session is owed, close each, and end.
    Drain {
        /// 1001 (stop) or 1012 (restart).
        close_code: u16,
        /// With 1012: each session is told to reconnect after a random time up to this.
        reconnect_ms_max: u32,
        /// After this the rest is closed without ceremony.
        deadline_ms: u32,
    },
    /// Send this JSON text to every session that has subscriptions.
    Notice(String),
    /// End at once.
    Stop,
}

/// A running worker.
pub struct WorkerHandle {
    stats: Arc<WorkerStats>,
    commands: Sender<Command>,
    waker: Waker,
    thread: JoinHandle<io::Result<()>>,
}

impl WorkerHandle {
    /// Its counters.
    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// Tells it something, and wakes it.
    pub fn send(&self, command: Command) {
        // A worker that has ended takes no commands, and needs none.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }

    /// Has it ended?
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the worker's thread panicked")))
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
    let stats = Arc::new(WorkerStats::default());
    let (commands, inbox) = channel();
    let (started, standing) = channel();
    let thread = std::thread::Builder::new().name(format!("worker-{}", config.index)).spawn({
        let stats = Arc::clone(&stats);
        move || {
            if let Some(cpu) = config.cpu
                && let Err(error) = fanblade_net::affinity::pin_thread(cpu)
            {
                tracing::warn!("worker {}: cannot pin to cpu {cpu}: {error}", config.index);
            }
            let engine = match engine(&sleeper) {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return Ok(());
                }
            };
            let _ = started.send(Ok(()));
            Worker::new(config, reader, sleeper, stats, inbox).run(engine)
        }
    })?;
    standing.recv().unwrap_or_else(|_| Err(io::Error::other("the worker's thread did not start")))?;
    Ok(WorkerHandle { stats, commands, waker, thread })
}
