//! Feeds that come through sockets of the control thread: JSON over WebSocket, rather than packets.

pub(crate) mod websocket;
