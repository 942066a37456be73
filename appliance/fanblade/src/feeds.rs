//! Opening the feed that the configuration asks for.

mod capture;
mod moldudp64;
mod publisher;
mod soupbintcp;
mod websocket;

use std::path::Path;

use anyhow::{Context as _, bail};
use fanblade_blade::{Calendar, Day, OpenFeed};
use fanblade_feed::simulator::SimulatorConfig;
use fanblade_feed::{SimulatedFeed, pace, recording};
use jiff::civil::Date;

use crate::config::{Config, FeedConfig, FeedSource, Pace};

pub(crate) fn open(whole: &Config) -> anyhow::Result<OpenFeed> {
    let config = &whole.feed;
    let configured = config.date.map(|day| Day::new(day.0)).transpose()?;
    match &config.source {
        FeedSource::Simulator => simulator(config, configured),
        FeedSource::File(path) => file(config, path, configured),
        FeedSource::Moldudp64(lines) => moldudp64::open(config, lines.as_deref(), configured),
        FeedSource::Soupbintcp(server) => soupbintcp::open(config, server.as_deref(), configured),
        FeedSource::Publisher => publisher::open(whole),
        FeedSource::Websocket => websocket::open(config),
    }
}

fn simulator(config: &FeedConfig, configured: Option<Day>) -> anyhow::Result<OpenFeed> {
    let simulator = &config.simulator;
    let symbols = *simulator.symbols.get_ref();
    let settings = SimulatorConfig {
        seed: simulator.seed,
        symbols: usize::try_from(symbols).unwrap_or(usize::MAX),
        messages_per_s: u32::try_from(*simulator.messages_per_s.get_ref()).unwrap_or(u32::MAX),
        ..SimulatorConfig::default()
    };
    let (feed, calendar) = match config.pace.unwrap_or(Pace::Factor(1.0)) {
        Pace::Max => (SimulatedFeed::unpaced(&settings)?, Calendar::Recorded(configured.unwrap_or_else(Day::today))),
        Pace::Factor(1.0) => (SimulatedFeed::live(&settings, |now_ns| Day::at(now_ns).midnight_ns)?, Calendar::Live),
        Pace::Factor(factor) => bail!(
            "the simulator runs in real time (`realtime`) or as fast as it can (`max`), not {factor} times as fast; for another \
             rate of messages set `messages_per_s` in [feed.simulator]"
        ),
    };
    let description = format!("a simulated market of {symbols} symbols");
    Ok(OpenFeed::new(Box::new(feed), description, calendar))
}

fn file(config: &FeedConfig, path: &Path, configured: Option<Day>) -> anyhow::Result<OpenFeed> {
    let pace = match config.pace.unwrap_or(Pace::Max) {
        Pace::Max => pace::Pace::Unpaced,
        Pace::Factor(factor) => pace::Pace::Factor(factor),
    };
    if let Some(capture) = capture::feed(path, pace, configured)? {
        return Ok(capture);
    }
    let feed = recording::file(path, pace)?;
    let named = feed.day().and_then(|day| {
        let year = i16::try_from(day.year).ok()?;
        Date::new(year, day.month.try_into().ok()?, day.day.try_into().ok()?).ok()
    });
    let day = match (configured, named) {
        (Some(day), _) => day,
        (None, Some(date)) => Day::new(date).context("the date in the file's name")?,
        (None, None) => {
            let today = Day::today();
            tracing::info!(
                "the name of {} holds no date: its timestamps are taken as those of {today}",
                path.display()
            );
            today
        }
    };
    let description = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(OpenFeed::new(Box::new(feed), description, Calendar::Recorded(day)))
}
