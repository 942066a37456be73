//! `[feed.soupbintcp]`: a SoupBinTCP server.

use serde::Deserialize;

use super::Fault;

/// `[feed.soupbintcp]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SoupbintcpConfig {}

impl SoupbintcpConfig {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        Ok(())
    }
}
