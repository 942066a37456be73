//! The settings of publishing. Whoever makes these has checked the ranges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where publishers connect, and the limits that they must keep.
#[derive(Clone)]
pub struct Settings {
    /// TCP ports, each for WebSocket and for frames.
    pub listen: Vec<SocketAddr>,
    /// A Unix socket for both protocols.
    pub unix: Option<PathBuf>,
    /// The file that keeps the numbering; none: it is not kept.
    pub state: Option<PathBuf>,
    /// The token that publishers must show; none: they need no token.
    pub token: Option<Vec<u8>>,
    /// Browsers' origins that may publish.
    pub origins: Vec<String>,
    /// The feed is stale while there is no publisher.
    pub stale_without_publisher: bool,
    /// Publishers that may be connected at the same time.
    pub publishers_max: usize,
    /// Subjects that the ring can hold.
    pub subjects_max: usize,
    /// The most bytes of data in a record.
    pub data_len_max: usize,
    /// Bytes of the ring's shortest lane, which must hold the longest record.
    pub lane_len: usize,
    /// Bytes of one publisher that may be on their way to the sequencer.
    pub in_flight_max: usize,
    /// How long a publisher may take to say who it is.
    pub greeting_max: Duration,
}

impl std::fmt::Debug for Settings {
    /// Leaves out the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("listen", &self.listen).field("unix", &self.unix).finish_non_exhaustive()
    }
}
