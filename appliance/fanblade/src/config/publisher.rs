//! `[feed.publisher]`: programs that publish to us.

use serde::Deserialize;

use super::Fault;

/// `[feed.publisher]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PublisherConfig {}

impl PublisherConfig {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        Ok(())
    }
}
