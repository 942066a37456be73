//! `[feed.soupbintcp]`: SoupBinTCP servers.

use std::fmt;
use std::path::PathBuf;

use fanblade_feed::soupbintcp::{HEARTBEAT_INTERVAL_MS, SILENCE_MS_MAX, padded};
use serde::Deserialize;
use serde_spanned::Spanned;

use super::checks::{Fault, fault, in_range, map, unplaced};
use super::units::Millis;

/// `[feed.soupbintcp]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SoupbintcpConfig {
    /// `HOST:PORT`, tried in turn. Servers in the short form of the source replace them.
    pub(crate) servers: Spanned<Vec<String>>,
    pub(crate) username: Spanned<String>,
    pub(crate) password: Spanned<Secret>,
    /// File with the password, in place of `password`.
    pub(crate) password_file: Option<Spanned<PathBuf>>,
    /// Empty: the current session.
    pub(crate) session: Spanned<String>,
    pub(crate) start: SoupbintcpStart,
    pub(crate) version: Spanned<String>,
    pub(crate) connect_ms_max: Spanned<Millis>,
    pub(crate) heartbeat_ms: Spanned<Millis>,
    pub(crate) silence_ms_max: Spanned<Millis>,
    pub(crate) retry_ms_min: Spanned<Millis>,
    pub(crate) retry_ms_max: Spanned<Millis>,
    pub(crate) refused_ms: Spanned<Millis>,
}

/// Where a feed begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SoupbintcpStart {
    /// With the first message of the session.
    Beginning,
    /// With the next message.
    Live,
}

/// Text that `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl SoupbintcpConfig {
    pub(super) fn validate(&self) -> Result<(), Fault> {
        let servers = self.servers.get_ref();
        if servers.len() > SERVERS_MAX {
            return fault(&self.servers, format!("{} servers", servers.len()), format!("at most {SERVERS_MAX}"));
        }
        if let Some(wrong) = servers.iter().find(|server| !is_host_and_port(server)) {
            return fault(&self.servers, format!("`{wrong}` is not a server"), "HOST:PORT, such as \"192.0.2.7:4000\"");
        }
        fits::<6>(&self.username, "username")?;
        fits::<10>(&self.session, "session")?;
        check_password(&self.password, self.password_file.as_ref())?;
        if !["3", "4"].contains(&self.version.get_ref().as_str()) {
            let message = format!("SoupBinTCP has no version `{}`", self.version.get_ref());
            return fault(&self.version, message, "\"3\", or \"4\", whose logins name the heartbeat timeout");
        }
        let in_ms = |value: &Spanned<Millis>, min, max| in_range(&map(value, |ms| ms.0), min, max, "milliseconds");
        in_ms(&self.connect_ms_max, 10, 600_000)?;
        in_ms(&self.heartbeat_ms, 10, 60_000)?;
        // The login has five digits for it.
        in_ms(&self.silence_ms_max, 2 * self.heartbeat_ms.get_ref().0, 99_999)?;
        in_ms(&self.retry_ms_min, 10, 60_000)?;
        in_ms(&self.retry_ms_max, self.retry_ms_min.get_ref().0, 3_600_000)?;
        in_ms(&self.refused_ms, self.retry_ms_min.get_ref().0, 3_600_000)
    }
}

/// Whether `text` has the form HOST:PORT; whether the host exists is found out at the start.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Checks that the password can be sent, and is configured in one place only.
pub(super) fn check_password(password: &Spanned<Secret>, file: Option<&Spanned<PathBuf>>) -> Result<(), Fault> {
    if padded::<10>(&password.get_ref().0).is_none() {
        return fault(password, "the password cannot be sent".to_owned(), "at most 10 characters of ASCII");
    }
    match file.filter(|_| !password.get_ref().0.is_empty()) {
        Some(file) => fault(file, "there are two passwords".to_owned(), "leave out the password or its file"),
        None => Ok(()),
    }
}

pub(super) fn fits<const N: usize>(value: &Spanned<String>, what: &str) -> Result<(), Fault> {
    match padded::<N>(value.get_ref()) {
        Some(_) => Ok(()),
        None => {
            let message = format!("`{}` cannot be sent as a {what}", value.get_ref());
            fault(value, message, format!("at most {N} characters of ASCII"))
        }
    }
}

impl Default for SoupbintcpConfig {
    fn default() -> Self {
        Self {
            servers: unplaced(Vec::new()),
            username: unplaced(String::new()),
            password: unplaced(Secret(String::new())),
            password_file: None,
            session: unplaced(String::new()),
            start: SoupbintcpStart::Beginning,
            version: unplaced("3".to_owned()),
            connect_ms_max: unplaced(Millis(5_000)),
            heartbeat_ms: unplaced(Millis(HEARTBEAT_INTERVAL_MS)),
            silence_ms_max: unplaced(Millis(SILENCE_MS_MAX)),
            retry_ms_min: unplaced(Millis(100)),
            retry_ms_max: unplaced(Millis(10_000)),
            refused_ms: unplaced(Millis(30_000)),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "secret" })
    }
}

/// Backups are few; each is tried in turn.
const SERVERS_MAX: usize = 16;
