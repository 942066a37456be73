//! `[feed.moldudp64]`: MoldUDP64 by multicast.

use serde::Deserialize;

use super::Fault;

/// `[feed.moldudp64]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Moldudp64Config {}

impl Moldudp64Config {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        Ok(())
    }
}
