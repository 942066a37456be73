//! Opening `[feed.websocket]`.

use anyhow::{Context as _, bail};

use super::OpenFeed;
use crate::calendar::Calendar;
use crate::config::FeedConfig;
use crate::upstream::websocket;

pub(super) fn open(config: &FeedConfig) -> anyhow::Result<OpenFeed> {
    let websocket = &config.websocket;
    if websocket.url.get_ref().is_empty() || websocket.map.is_empty() {
        bail!(
            "the feed `websocket` needs a configuration file with [feed.websocket]: docs/UPSTREAM.md, docs/examples/"
        );
    }
    let feed = websocket::open(websocket).context("[feed.websocket]")?;
    let description = format!("what {} sends", feed.lines().first().map_or("", |line| &line.name));
    // A numbering that outlives connections outlives days, too.
    let calendar = if websocket.epoch.is_some() { Calendar::Named } else { Calendar::Live };
    Ok(OpenFeed::new(feed, description, calendar))
}
