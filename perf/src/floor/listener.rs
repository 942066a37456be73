//! The listener of both servers.

use fanblade_net::{ListenOptions, Listener};

/// Listens on any port. There is room for the largest backlog, so that no send comes back short.
pub(super) fn listen() -> anyhow::Result<Listener> {
    Ok(fanblade_net::listen("127.0.0.1:0".parse()?, &ListenOptions::default())?)
}
