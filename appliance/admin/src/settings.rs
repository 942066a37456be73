//! The settings of the admin port. The caller has checked their ranges.

use std::net::SocketAddr;
use std::time::Duration;

/// The admin port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Port 0: any free port.
    pub listen: SocketAddr,
    /// A thread that stands still for this long is reported by `/healthz`.
    pub stalled: Duration,
    /// Host names, besides addresses and `localhost`, that requests may use for this port.
    pub allowed_hosts: Vec<String>,
    /// Connections at the same time.
    pub connections_max: u64,
    /// Settings of the live page.
    pub page: Page,
}

/// What the live page has to know of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// `market`: the channels of a market; `values`: anything.
    pub shape: &'static str,
    /// Where the data port is reached; empty: at the page's own host.
    pub stream_url: String,
    /// Origins of pages that may connect to the data port; empty: any.
    pub allowed_origins: Vec<String>,
}
