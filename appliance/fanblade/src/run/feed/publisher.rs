//! Opening `[feed.publisher]`.

use super::OpenFeed;
use crate::calendar::Calendar;
use crate::config::Config;
use crate::upstream::publisher;

pub(super) fn open(config: &Config) -> anyhow::Result<OpenFeed> {
    let publisher::Opened { feed, epoch, addresses, pulse } = publisher::open(&config.feed.publisher, &config.ring)?;
    Ok(OpenFeed {
        thread: Some(("publishers", pulse)),
        ..OpenFeed::new(feed, format!("what is published at {addresses}"), Calendar::Fixed(epoch))
    })
}
