//! Opening `[feed.soupbintcp]`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fanblade_blade::{Calendar, Day, OpenFeed};
use fanblade_dial::{LOOK_UP_MAX, look_up};
use fanblade_feed::SoupbintcpFeed;
use fanblade_feed::moldudp64::Start;
use fanblade_feed::soupbintcp::{Host, Retry, SoupbintcpConfig, Timing, padded};
use serde_spanned::Spanned;

use crate::config::{FeedConfig, Millis, Secret, SoupbintcpStart};

/// Opens the feed. `server` comes from the short form and replaces the configured ones.
pub(super) fn open(config: &FeedConfig, server: Option<&str>, configured: Option<Day>) -> anyhow::Result<OpenFeed> {
    let settings = &config.soupbintcp;
    let names = server.map_or_else(|| settings.servers.get_ref().clone(), |server| vec![server.to_owned()]);
    if names.is_empty() {
        bail!("no SoupBinTCP server is named: `servers` in [feed.soupbintcp], or --feed soupbintcp:HOST:PORT");
    }
    let servers = names.iter().map(|name| host("SoupBinTCP", name)).collect::<anyhow::Result<_>>()?;
    let milliseconds = |value: &Spanned<Millis>| Duration::from_millis(value.get_ref().0);
    let session = settings.session.get_ref();
    let feed = SoupbintcpFeed::new(SoupbintcpConfig {
        servers,
        // That these fit was checked when the file was read.
        username: padded(settings.username.get_ref()).context("the username is too long")?,
        password: padded(&password(&settings.password, settings.password_file.as_ref())?)
            .context("the password must be at most 10 characters of ASCII")?,
        session: if session.is_empty() { None } else { Some(padded(session).context("the session is too long")?) },
        start: match settings.start {
            SoupbintcpStart::Beginning => Start::Beginning,
            SoupbintcpStart::Live => Start::Live,
        },
        heartbeat_timeout_ms: match settings.version.get_ref().as_str() {
            "3" => None,
            _ => u32::try_from(settings.silence_ms_max.get_ref().0).ok(),
        },
        timing: Timing {
            connect_max: milliseconds(&settings.connect_ms_max),
            heartbeat: milliseconds(&settings.heartbeat_ms),
            silence_max: milliseconds(&settings.silence_ms_max),
        },
        retry: Retry {
            min: milliseconds(&settings.retry_ms_min),
            max: milliseconds(&settings.retry_ms_max),
            refused: milliseconds(&settings.refused_ms),
        },
    });
    Ok(OpenFeed::new(
        Box::new(feed),
        format!("SoupBinTCP from {}", names.join(", ")),
        configured.map_or(Calendar::Live, Calendar::LiveOf),
    ))
}

/// A server, and all addresses that its name has now.
pub(super) fn host(what: &str, name: &str) -> anyhow::Result<Host> {
    let addresses = look_up(name, LOOK_UP_MAX).with_context(|| format!("{what} server `{name}`"))?;
    if addresses.is_empty() {
        bail!("{what} server `{name}` has no address");
    }
    Ok(Host { name: name.to_owned(), addresses })
}

/// The password, from the configuration or from its file.
pub(super) fn password(password: &Spanned<Secret>, file: Option<&Spanned<PathBuf>>) -> anyhow::Result<String> {
    let Some(file) = file else { return Ok(password.get_ref().0.clone()) };
    let file = file.get_ref();
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the password in {}", file.display()))?;
    // Editors end a file with a line break, which is not part of the password.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
