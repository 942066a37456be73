//! Opening `[feed.moldudp64]`.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, bail};
use fanblade_feed::Moldudp64Feed;
use fanblade_feed::moldudp64::{Moldudp64Config, ReceiverConfig, Start};
use fanblade_feed::soupbintcp::padded;
use fanblade_net::datagram::Membership;
use serde_spanned::Spanned;

use super::OpenFeed;
use crate::calendar::{Calendar, Day};
use crate::config::{FeedConfig, Join, LineAddress, Millis};
use crate::run::interfaces;

/// `lines`: from the short form, in place of the configured ones.
pub(super) fn open(
    config: &FeedConfig,
    lines: Option<&[LineAddress]>,
    configured: Option<Day>,
) -> anyhow::Result<OpenFeed> {
    let settings = &config.moldudp64;
    let lines = lines.unwrap_or(settings.lines.get_ref());
    if lines.is_empty() {
        bail!("no line is named: `lines` in [feed.moldudp64], or --feed moldudp64:GROUP:PORT@INTERFACE");
    }
    for interface in lines.iter().filter_map(|line| line.interface.as_deref()) {
        interfaces::require(interface)?;
    }
    let servers: Vec<SocketAddr> =
        settings.requests.get_ref().iter().map(|server| resolve(server)).collect::<anyhow::Result<_>>()?;
    let join = settings.join.unwrap_or(if servers.is_empty() { Join::Live } else { Join::Beginning });
    let session = settings.session.get_ref();
    let ns = |value: &Spanned<Millis>| value.get_ref().0 * 1_000_000;
    let int = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let names: Vec<String> = ('A'..).take(lines.len()).map(String::from).collect();
    let receiver = ReceiverConfig {
        // That it fits was checked when it was read.
        session: if session.is_empty() { None } else { Some(padded(session).context("the session is too long")?) },
        start: match join {
            Join::Beginning => Start::Beginning,
            Join::Live => Start::Live,
        },
        lines: names.clone(),
        servers,
        reorder_ns: ns(&settings.reorder_ms),
        request_timeout_ns: ns(&settings.request_timeout_ms),
        requests_per_s_max: int(*settings.requests_per_s_max.get_ref()),
        request_messages_max: u16::try_from(*settings.request_messages_max.get_ref()).unwrap_or(u16::MAX - 1),
        recovery_ns_max: ns(&settings.recovery_ms_max),
        window_bytes: usize::try_from(settings.window.get_ref().0).unwrap_or(usize::MAX),
        stale_ns_max: ns(&settings.stale_ms_max),
    };
    let membership =
        |line: &LineAddress| Membership { group: line.group, interface: line.interface.clone(), source: line.source };
    let feed = Moldudp64Feed::open(Moldudp64Config {
        receiver,
        memberships: lines.iter().map(membership).collect(),
        receive_buffer_bytes: int(settings.receive_buffer.get_ref().0),
        busy_poll_us: Some(int(*settings.busy_poll_us.get_ref())).filter(|us| *us > 0),
        is_busy: settings.busy,
    })?;
    let named: Vec<String> = lines.iter().zip(&names).map(|(line, name)| format!("{line} ({name})")).collect();
    Ok(OpenFeed {
        feed: Box::new(feed),
        description: format!("MoldUDP64 from {}", named.join(", ")),
        calendar: configured.map_or(Calendar::Live, Calendar::LiveOf),
    })
}

fn resolve(server: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = server.to_socket_addrs().with_context(|| format!("re-request server `{server}`"))?;
    addresses.next().with_context(|| format!("re-request server `{server}` has no address"))
}
