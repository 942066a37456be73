//! Opening `[feed.websocket]`.

use anyhow::{Context as _, bail};
use fanblade_blade::{Calendar, OpenFeed};
use fanblade_upstream::venue;

use crate::config::FeedConfig;

pub(super) fn open(config: &FeedConfig) -> anyhow::Result<OpenFeed> {
    let settings = config.websocket.settings();
    if settings.url.is_empty() || settings.rules.map.is_empty() {
        bail!(
            "the feed `websocket` needs a configuration file with [feed.websocket]; see docs/UPSTREAM.md and docs/examples/"
        );
    }
    let feed = venue::open(&settings).context("[feed.websocket]")?;
    let description = format!("what {} sends", feed.lines().first().map_or("", |line| &line.name));
    // A numbering that outlives connections also outlives days.
    let calendar = if settings.epoch.is_some() { Calendar::Named } else { Calendar::Live };
    Ok(OpenFeed::new(feed, description, calendar))
}
