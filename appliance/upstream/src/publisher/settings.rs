//! What there is to say about publishing. Whoever makes these has checked the ranges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where publishers connect, and what they have to keep to.
#[derive(Clone)]
pub struct Settings {
    /// WebSocket and TCP, on the same ports.
    pub listen: Vec<SocketAddr>,
    /// The same on a Unix socket.
    pub unix: Option<PathBuf>,
    /// The file that keeps the numbering; none: there is none.
    pub state: Option<PathBuf>,
    /// What publishers have to show; none: nothing.
    pub token: Option<Vec<u8>>,
    /// Browsers' origins that may publish.
    pub origins: Vec<String>,
    /// The feed is stale while there is no publisher.
    pub stale_without_publisher: bool,
    /// At once.
    pub publishers_max: usize,
    /// Of the ring.
    pub subjects_max: usize,
    /// Bytes of data in a record.
    pub data_len_max: usize,
    /// Bytes of the ring's shortest lane, which has to hold such a record.
    pub lane_len: usize,
    /// Bytes of one publisher that may be on their way to the sequencer.
    pub in_flight_max: usize,
    /// How long a publisher may take to say who it is.
    pub greeting_max: Duration,
}

impl std::fmt::Debug for Settings {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("listen", &self.listen).field("unix", &self.unix).finish_non_exhaustive()
    }
}
