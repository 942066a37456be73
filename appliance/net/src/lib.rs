//! Sockets: listeners and their options, vectored sends, and the two engines behind one trait. The only home of socket
//! unsafe.
//!
//! [`uring()`] is the default: direct descriptors, so that the process's limit of descriptors is no limit of sessions,
//! and one system call for a batch of sends. [`epoll()`] serves where io_uring is forbidden or old.
//! [`datagram`] is the other side: packets of a feed, by multicast or unicast. [`dial`] connects to others.
//! [`repair`] takes an established connection out of its socket, and puts one into a socket.
//! [`interfaces`] and [`ports`] say what is wrong with those that somebody named.

mod accepting;
pub mod affinity;
pub mod datagram;
pub mod dial;
mod engine;
mod epoll;
mod error;
pub mod interfaces;
pub mod lanes;
pub mod limits;
mod listen;
pub mod names;
pub mod ports;
pub mod repair;
pub mod rlimit;
mod sys;
mod uring;

pub use engine::{Counters, Engine, EngineConfig, Event, FlushStats, IoSlices, SessionId, Unsent};
pub use epoll::epoll;
pub use error::NetError;
pub use listen::{ListenOptions, Listener, listen};
pub use uring::{uring, uring_bytes_per_session, uring_probe};
