//! Feeds that come through sockets of tasks, rather than by packets that the sequencer polls for: programs that publish
//! to us, and JSON over WebSocket.

pub(crate) mod publisher;
pub(crate) mod websocket;
