//! Why a blade does not start, and what was not well at its end. Each says all of it: there is no cause behind.

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
    #[error("the CPUs of this process: {0}")]
    Cpus(io::Error),
    /// A CPU that was asked for.
    #[error(
        "CPU {cpu} is not for this process, which may use {allowed:?}; see `cpus` in the configuration and taskset(1)"
    )]
    Cpu {
        /// The one.
        cpu: usize,
        /// Those that there are.
        allowed: Vec<usize>,
    },
    /// The data port cannot be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The same, found out later.
    #[error(transparent)]
    Listen(#[from] NetError),
    /// There is to be no worker.
    #[error("no worker")]
    NoWorker,
    /// A thread cannot be started.
    #[error("{what}: {error}")]
    Thread {
        /// Which one.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// There is no memory for the ring, or its settings do not fit together.
    #[error("cannot make the ring: {0}")]
    Ring(RingError),
    /// Its descriptor cannot be passed on.
    #[error("the ring's descriptor: {0}")]
    RingDescriptor(io::Error),
    /// A worker would not be woken.
    #[error("cannot make a waker: {0}")]
    Waker(RingError),
    /// A worker does not start.
    #[error("cannot start worker {index}: {error}")]
    Worker {
        /// From 0.
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
    /// Its listener cannot be passed on.
    #[error("the listener's descriptor: {0}")]
    Listener(io::Error),
    /// Its thread, or its engine.
    #[error(transparent)]
    Spawn(#[from] io::Error),
}

/// What was not well at the end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum EndError {
    /// A thread has not ended, and goes with the process.
    #[error("stopped, but not everything has ended; the log says what")]
    Unfinished,
    /// The blade could not go on.
    #[error("{0}; sessions were told to come again (1012), and the log says why")]
    Broken(&'static str),
}
