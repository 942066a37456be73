//! Feeds that tasks read from sockets, rather than packets that the sequencer polls for: programs that publish to us,
//! and JSON over WebSocket. Each feed owns its settings, plain and checked; the binary makes them of its configuration.

pub mod publisher;
pub mod troubles;
pub mod venue;
