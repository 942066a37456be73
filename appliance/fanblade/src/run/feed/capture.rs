//! Opening packet captures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fanblade_feed::CaptureFeed;
use fanblade_feed::pace::Pace;

use super::OpenFeed;
use crate::calendar::{Calendar, Day};

/// The feed over a file, if it is a capture. `FILE#GROUP:PORT` chooses what is played of it. The choice is told where
/// there was one.
pub(crate) fn open(path: &Path, pace: Pace) -> anyhow::Result<Option<CaptureFeed>> {
    let (file, destination) = split(path)?;
    if !CaptureFeed::recognises(&file) {
        return Ok(None);
    }
    Ok(Some(CaptureFeed::open(&file, destination, pace)?))
}

/// A capture as the blade's feed: its timestamps are of the day on which it was made.
pub(super) fn feed(path: &Path, pace: Pace, configured: Option<Day>) -> anyhow::Result<Option<OpenFeed>> {
    let Some(feed) = open(path, pace)? else { return Ok(None) };
    let flow = feed.flow();
    if !flow.alternatives.is_empty() {
        tracing::info!("{}: {}", path.display(), choice(&feed));
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let description = format!("{} to {}", name.split('#').next().unwrap_or_default(), flow.destination);
    let day = match (configured, flow.first_ns) {
        (Some(day), _) => day,
        (None, Some(first_ns)) => Day::at(first_ns),
        (None, None) => {
            let today = Day::today();
            tracing::info!("{name} tells no times: its messages are taken for those of {today}");
            today
        }
    };
    Ok(Some(OpenFeed::new(Box::new(feed), description, Calendar::Recorded(day))))
}

/// What is played of a capture and what is not, in words.
pub(crate) fn choice(feed: &CaptureFeed) -> String {
    let flow = feed.flow();
    format!(
        "the packets to {} are played, not those to {}; to choose: FILE#GROUP:PORT",
        flow.destination, flow.alternatives
    )
}

/// A file's name may have a `#` in it.
fn split(path: &Path) -> anyhow::Result<(PathBuf, Option<SocketAddr>)> {
    let Some((file, destination)) = path.to_str().and_then(|text| text.rsplit_once('#')).filter(|_| !path.exists())
    else {
        return Ok((path.to_owned(), None));
    };
    match destination.parse() {
        Ok(address) => Ok((file.into(), Some(address))),
        Err(_) => anyhow::bail!(
            "`{destination}` is not a destination; write FILE#GROUP:PORT, such as {file}#239.192.1.1:26400"
        ),
    }
}
