//! Opening `[feed.moldudp64]`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fanblade_blade::{Calendar, Day, OpenFeed};
use fanblade_feed::Moldudp64Feed;
use fanblade_feed::glimpse::SnapshotConfig;
use fanblade_feed::moldudp64::{Moldudp64Config, ReceiverConfig, SnapshotServer, SnapshotUse, Start};
use fanblade_feed::soupbintcp::{HEARTBEAT_INTERVAL_MS, LoginRequest, SILENCE_MS_MAX, Timing, padded};
use fanblade_net::datagram::Membership;
use fanblade_net::interfaces;
use serde_spanned::Spanned;

use super::soupbintcp::{host, password};
use crate::config::{self, FeedConfig, Join, LineAddress, Millis};

/// Opens the feed. `lines` come from the short form and replace the configured ones.
pub(super) fn open(
    config: &FeedConfig,
    lines: Option<&[LineAddress]>,
    configured: Option<Day>,
) -> anyhow::Result<OpenFeed> {
    // The lines, their senders and their interfaces.
    let settings = &config.moldudp64;
    let lines = lines.unwrap_or(settings.lines.get_ref());
    if lines.is_empty() {
        bail!("no line is named: `lines` in [feed.moldudp64], or --feed moldudp64:GROUP:PORT@INTERFACE");
    }
    // Warn early: without a named sender anybody on the network can send to the group.
    if let Some(warning) = config::lines_of_anybody(lines) {
        tracing::warn!("{warning}");
    }
    for interface in lines.iter().filter_map(|line| line.interface.as_deref()) {
        interfaces::require(interface)?;
    }
    // The re-request servers. A server that does not answer is followed by the next one, so each address of a name
    // counts as a server.
    let mut servers: Vec<SocketAddr> = Vec::new();
    for server in settings.requests.get_ref() {
        servers.extend(host("re-request", server)?.addresses);
    }
    let snapshots = snapshot_server(settings)?;
    // Where to begin. The default follows from the servers that are there.
    let join = match &settings.join {
        Some(join) => *join.get_ref(),
        None if !servers.is_empty() => Join::Beginning,
        None if snapshots.is_some() => Join::Snapshot,
        None => Join::Live,
    };
    // The configured values in the receiver's units.
    let session = settings.session.get_ref();
    let ns = |value: &Spanned<Millis>| value.get_ref().0 * 1_000_000;
    let int = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let names: Vec<String> = ('A'..).take(lines.len()).map(String::from).collect();
    let receiver = ReceiverConfig {
        // That it fits was checked when the file was read.
        session: if session.is_empty() { None } else { Some(padded(session).context("the session is too long")?) },
        start: match join {
            Join::Beginning => Start::Beginning,
            Join::Live | Join::Snapshot => Start::Live,
        },
        lines: names.clone(),
        has_known_sender: lines.iter().map(|line| line.source.is_some()).collect(),
        jump_messages_max: *settings.jump_messages_max.get_ref(),
        proof_ns: ns(&settings.proof_ms),
        servers,
        reorder_ns: ns(&settings.reorder_ms),
        request_timeout_ns: ns(&settings.request_timeout_ms),
        requests_per_s_max: int(*settings.requests_per_s_max.get_ref()),
        request_messages_max: u16::try_from(*settings.request_messages_max.get_ref()).unwrap_or(u16::MAX - 1),
        recovery_ns_max: ns(&settings.recovery_ms_max),
        window_bytes: usize::try_from(settings.window.get_ref().0).unwrap_or(usize::MAX),
        stale_ns_max: ns(&settings.stale_ms_max),
        snapshots: match (&snapshots, join) {
            (None, _) => SnapshotUse::Never,
            (Some(_), Join::Snapshot) => SnapshotUse::AtJoin,
            (Some(_), Join::Beginning | Join::Live) => SnapshotUse::AfterLoss,
        },
    };
    // Joins the groups.
    let membership =
        |line: &LineAddress| Membership { group: line.group, interface: line.interface.clone(), source: line.source };
    let feed = Moldudp64Feed::open(Moldudp64Config {
        receiver,
        memberships: lines.iter().map(membership).collect(),
        receive_buffer_bytes: int(settings.receive_buffer.get_ref().0),
        busy_poll_us: Some(int(*settings.busy_poll_us.get_ref())).filter(|us| *us > 0),
        snapshots,
        is_busy: settings.busy,
    })?;
    let named: Vec<String> = lines.iter().zip(&names).map(|(line, name)| format!("{line} ({name})")).collect();
    Ok(OpenFeed::new(
        Box::new(feed),
        format!("MoldUDP64 from {}", named.join(", ")),
        configured.map_or(Calendar::Live, Calendar::LiveOf),
    ))
}

/// The GLIMPSE server, if there is one.
fn snapshot_server(settings: &config::Moldudp64Config) -> anyhow::Result<Option<SnapshotServer>> {
    let server = settings.snapshot.get_ref();
    if server.is_empty() {
        return Ok(None);
    }
    let password = password(&settings.snapshot_password, settings.snapshot_password_file.as_ref())?;
    let login = LoginRequest {
        username: padded(settings.snapshot_username.get_ref()).context("the snapshot's username is too long")?,
        password: padded(&password).context("the snapshot's password must be at most 10 characters of ASCII")?,
        session: [b' '; 10],
        sequence: 1,
        heartbeat_timeout_ms: None,
    };
    let timing = Timing {
        connect_max: Duration::from_millis(CONNECT_MS_MAX),
        heartbeat: Duration::from_millis(HEARTBEAT_INTERVAL_MS),
        silence_max: Duration::from_millis(SILENCE_MS_MAX),
    };
    let duration_max = Duration::from_millis(settings.snapshot_ms_max.get_ref().0);
    let config = SnapshotConfig { server: host("snapshot", server)?, login, timing, duration_max };
    let attempts_max = u32::try_from(*settings.snapshot_attempts_max.get_ref()).unwrap_or(u32::MAX);
    Ok(Some(SnapshotServer { config, attempts_max }))
}

/// A GLIMPSE server that has not accepted a connection after this long is down.
const CONNECT_MS_MAX: u64 = 5_000;
