//! Opening packet captures.

use std::path::Path;

use fanblade_blade::{Calendar, Day, OpenFeed};
use fanblade_feed::pace::Pace;
use fanblade_feed::recording;

/// A capture as the blade's feed: its timestamps belong to the day on which it was made.
pub(super) fn feed(path: &Path, pace: Pace, configured: Option<Day>) -> anyhow::Result<Option<OpenFeed>> {
    let Some(feed) = recording::capture(path, pace)? else { return Ok(None) };
    let flow = feed.flow();
    if !flow.alternatives.is_empty() {
        tracing::info!("{}: {}", path.display(), recording::choice(&feed));
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let description = format!("{} to {}", name.split('#').next().unwrap_or_default(), flow.destination);
    let day = match (configured, flow.first_ns) {
        (Some(day), _) => day,
        (None, Some(first_ns)) => Day::at(first_ns),
        (None, None) => {
            let today = Day::today();
            tracing::info!("{name} holds no times: its messages are taken as those of {today}");
            today
        }
    };
    Ok(Some(OpenFeed::new(Box::new(feed), description, Calendar::Recorded(day))))
}
