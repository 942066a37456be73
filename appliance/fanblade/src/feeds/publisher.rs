//! Opening `[feed.publisher]`.

use anyhow::Context as _;
use fanblade_blade::{Calendar, OpenFeed};
use fanblade_upstream::publisher;

use crate::config::Config;

pub(super) fn open(config: &Config) -> anyhow::Result<OpenFeed> {
    let settings = config.feed.publisher.settings(&config.ring).context("[feed.publisher]")?;
    let publisher::Opened { feed, epoch, addresses, pulse } = publisher::open(settings)?;
    Ok(OpenFeed {
        thread: Some(("publishers", pulse)),
        ..OpenFeed::new(feed, format!("what is published at {addresses}"), Calendar::Fixed(epoch))
    })
}
