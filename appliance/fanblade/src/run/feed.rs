//! Opening the feed that the configuration asks for.

pub(crate) mod capture;
mod moldudp64;
mod publisher;
mod soupbintcp;
mod websocket;

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use fanblade_feed::binaryfile::FileError;
use fanblade_feed::simulator::SimulatorConfig;
use fanblade_feed::{Feed, FileFeed, SimulatedFeed, pace};
use jiff::civil::Date;

use crate::calendar::{Calendar, Day};
use crate::config::{Config, FeedConfig, FeedSource, Pace};
use crate::vitals::Pulse;

/// A feed that is ready to be polled, and the days that its timestamps count from.
pub(super) struct OpenFeed {
    pub(super) feed: Box<dyn Feed>,
    /// In words.
    pub(super) description: String,
    pub(super) calendar: Calendar,
    /// The thread that the feed has of its own.
    pub(super) thread: Option<(&'static str, Pulse)>,
}

impl OpenFeed {
    /// One without a thread of its own.
    fn new(feed: Box<dyn Feed>, description: String, calendar: Calendar) -> OpenFeed {
        OpenFeed { feed, description, calendar, thread: None }
    }
}

pub(super) fn open(whole: &Config) -> anyhow::Result<OpenFeed> {
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
    let feed = FileFeed::open(path, pace).map_err(|error| explain(path, error))?;
    let named = feed.day().and_then(|day| {
        let year = i16::try_from(day.year).ok()?;
        Date::new(year, day.month.try_into().ok()?, day.day.try_into().ok()?).ok()
    });
    let day = match (configured, named) {
        (Some(day), _) => day,
        (None, Some(date)) => Day::new(date).context("the day in the file's name")?,
        (None, None) => {
            let today = Day::today();
            tracing::info!(
                "the name of {} tells no day: its timestamps are taken for those of {today}",
                path.display()
            );
            today
        }
    };
    let description = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(OpenFeed::new(Box::new(feed), description, Calendar::Recorded(day)))
}

/// A wrong file is recognised, if it can be.
pub(crate) fn explain(path: &Path, error: FileError) -> anyhow::Error {
    let what = match &error {
        FileError::Read { .. } if path.is_dir() => Some("it is a directory; name a file in it".to_owned()),
        FileError::Framing { .. } | FileError::NotItch { .. } | FileError::Empty { .. } => {
            recognise(path).map(|kind| format!("it is {kind}"))
        }
        _ => None,
    };
    match what {
        Some(what) => anyhow::anyhow!("{error}; {what}"),
        None => error.into(),
    }
}

/// What a file is by its first bytes.
fn recognise(path: &Path) -> Option<&'static str> {
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(HEAD_LEN).read_to_end(&mut head).ok()?;
    if let Some((_, kind)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(kind);
    }
    let is_text = !head.is_empty() && head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    is_text.then_some("text; a BinaryFILE holds messages, each behind its length in two bytes")
}

const HEAD_LEN: u64 = 512;
const PCAP: &str = "a packet capture (pcap) that ends within its header";
const MAGICS: [(&[u8], &str); 10] = [
    (b"\xd4\xc3\xb2\xa1", PCAP),
    (b"\xa1\xb2\xc3\xd4", PCAP),
    (b"\x4d\x3c\xb2\xa1", PCAP),
    (b"\x0a\x0d\x0d\x0a", "a packet capture (pcapng) whose first block cannot be read"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; only gzip is read directly: zstd -d FILE"),
    (b"\xfd7zXZ", "compressed with xz; only gzip is read directly: xz -d FILE"),
    (b"BZh", "compressed with bzip2; only gzip is read directly: bzip2 -d FILE"),
    (b"\x1f\x8b", "a gzip file, but what is in it is no BinaryFILE"),
    (b"\x7fELF", "a program"),
];
