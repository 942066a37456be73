//! What there is to say about the admin port. Whoever makes these has checked the ranges.

use std::net::SocketAddr;
use std::time::Duration;

/// The admin port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Port 0: any.
    pub listen: SocketAddr,
    /// How long a thread may stand still before `/healthz` says so.
    pub stalled: Duration,
    /// Names, besides addresses and `localhost`, by which requests may call this port.
    pub allowed_hosts: Vec<String>,
    /// Connections at once.
    pub connections_max: u64,
    /// What the live page has to know.
    pub page: Page,
}

/// What the live page has to know of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// `market`: the channels of a market; `values`: anything.
    pub shape: &'static str,
    /// Where the data port is reached; empty: at the page's own host.
    pub stream_url: String,
    /// Of pages that may connect to the data port; empty: any.
    pub allowed_origins: Vec<String>,
}
