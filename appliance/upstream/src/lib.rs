//! Feeds that come through sockets of tasks, rather than by packets that the sequencer polls for: programs that publish
//! to us, and JSON over WebSocket. Each owns its settings, plain and checked; the binary's configuration becomes them.
#![warn(clippy::cast_possible_truncation)]

pub mod publisher;
pub mod troubles;
pub mod venue;
