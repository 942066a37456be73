//! Opening `[feed.publisher]`.

use anyhow::bail;

use super::OpenFeed;
use crate::config::FeedConfig;

pub(super) fn open(_config: &FeedConfig) -> anyhow::Result<OpenFeed> {
    bail!("the feed `publisher` is not built yet")
}
