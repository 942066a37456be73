//! `[feed.websocket]`: another WebSocket server.

use serde::Deserialize;

use super::Fault;

/// `[feed.websocket]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebsocketConfig {}

impl WebsocketConfig {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        Ok(())
    }
}
