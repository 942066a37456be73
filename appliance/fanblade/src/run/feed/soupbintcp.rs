//! Opening `[feed.soupbintcp]`.

use anyhow::bail;

use super::OpenFeed;
use crate::config::FeedConfig;

pub(super) fn open(_config: &FeedConfig) -> anyhow::Result<OpenFeed> {
    bail!("the feed `soupbintcp` is not built yet")
}
