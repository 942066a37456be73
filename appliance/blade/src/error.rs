//! Why a blade does not start, or did not end well. Each message is complete: the errors have no source.

use std::io;

use fanblade_net::NetError;
use fanblade_net::interfaces::InterfaceError;
use fanblade_net::ports::PortError;
use fanblade_ring::RingError;

/// Why a blade does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such interface.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// The kernel does not say which CPUs there are.
    #[error("cannot read which CPUs this process may use: {0}")]
    Cpus(io::Error),
    /// A configured CPU is not available to this process.
    #[error(
        "this process may not use CPU {cpu}, only {allowed:?}; change `cpus` in the configuration, or the CPU set (taskset(1))"
    )]
    Cpu {
        /// The configured CPU.
        cpu: usize,
        /// The CPUs that are available.
        allowed: Vec<usize>,
    },
    /// The data port cannot be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The data port cannot be opened: its socket fails later.
    #[error(transparent)]
    Listen(#[from] NetError),
    /// The number of workers is zero.
    #[error("no worker: a blade needs at least one")]
    NoWorker,
    /// A thread cannot be started.
    #[error("cannot start {what}: {error}")]
    Thread {
        /// Which thread.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// There is no memory for the ring, or its settings do not fit together.
    #[error("cannot make the ring: {0}")]
    Ring(RingError),
    /// The ring's descriptor cannot be duplicated.
    #[error("cannot duplicate the ring's descriptor: {0}")]
    RingDescriptor(io::Error),
    /// A worker's waker cannot be made.
    #[error("cannot make a waker: {0}")]
    Waker(RingError),
    /// A worker does not start.
    #[error("cannot start worker {index}: {error}")]
    Worker {
        /// The worker's index, from 0.
        index: usize,
        /// Why.
        error: WorkerError,
    },
}

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The ring cannot be read.
    #[error("cannot map the ring: {0}")]
    Map(RingError),
    /// Its listener cannot be duplicated.
    #[error("cannot duplicate the listener's descriptor: {0}")]
    Listener(io::Error),
    /// Its thread, or its engine, cannot be started.
    #[error(transparent)]
    Spawn(#[from] io::Error),
}

/// What went wrong at the end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum EndError {
    /// A thread has not ended, and ends with the process.
    #[error("stopped, but some threads have not ended; the log says which")]
    Unfinished,
    /// The blade could not go on.
    #[error("{0}; sessions were told to come again (1012), and the log says why")]
    Broken(&'static str),
}
