//! Opening `[feed.moldudp64]`.

use anyhow::bail;

use super::OpenFeed;
use crate::config::FeedConfig;

pub(super) fn open(_config: &FeedConfig) -> anyhow::Result<OpenFeed> {
    bail!("the feed `moldudp64` is not built yet")
}
