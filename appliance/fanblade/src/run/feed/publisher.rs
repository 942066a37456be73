//! Opening `[feed.publisher]`.

use super::OpenFeed;
use crate::calendar::Calendar;
use crate::config::Config;
use crate::upstream::publisher;

pub(super) fn open(config: &Config) -> anyhow::Result<OpenFeed> {
    let publisher::Opened { feed, epoch, addresses } = publisher::open(&config.feed.publisher, &config.ring)?;
    Ok(OpenFeed { feed, description: format!("what is published at {addresses}"), calendar: Calendar::Fixed(epoch) })
}
