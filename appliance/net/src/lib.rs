//! Sockets: listeners and their options, vectored sends, and the two engines behind one trait. The only home of socket
//! unsafe.
//!
//! [`uring()`] is the default: direct descriptors, so that the process's limit of descriptors is no limit of sessions, and
//! one system call for a batch of sends. [`epoll()`] serves where io_uring is forbidden or old.

mod engine;
pub mod limits;

pub use engine::{Counters, Engine, EngineConfig, Event, FlushStats, IoSlices, SessionId, Unsent};
