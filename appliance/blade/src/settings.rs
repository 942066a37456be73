//! What there is to say about a blade. Whoever makes these has checked the ranges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fanblade_feed::{Feed, Pulse};
use fanblade_ring::RingConfig;
use fanblade_worker::{Batching, ClientHeader, Limits, Networks};

use crate::calendar::Calendar;

/// A blade, apart from its feed.
#[derive(Debug, Clone)]
pub struct Settings {
    /// First segment of the subjects.
    pub venue: String,
    /// The feed begins once that many sessions have subscribed.
    pub wait_for: u64,
    /// Where subscribers connect.
    pub data: Data,
    /// The history that all sessions share.
    pub ring: RingConfig,
    /// The kernel's programs.
    pub ebpf: Ebpf,
    /// Of each worker.
    pub limits: Limits,
    /// Frames that may wait for more.
    pub batching: Vec<Batching>,
}

/// Where subscribers connect.
#[derive(Debug, Clone)]
pub struct Data {
    /// Port 0: any.
    pub listen: SocketAddr,
    /// None: one for each CPU that the process may use, less two for the sequencer and everything else.
    pub workers: Option<usize>,
    /// CPUs to pin to: the sequencer's, then the workers'. Empty: chosen when there are enough, else not pinned.
    pub cpus: Vec<usize>,
    /// How workers talk to sockets, if it works here.
    pub engine: Engine,
    /// Pages that may connect; empty: any.
    pub allowed_origins: Vec<String>,
    /// Balancers whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Networks,
    /// Proxies whose word of the client is believed, by `client_header`.
    pub trusted_proxies: Networks,
    /// Which header that is.
    pub client_header: ClientHeader,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// Bytes in a socket that have not been sent, above which it is not written to.
    pub notsent_lowat: u32,
    /// Of a worker with a CPU of its own, before it sleeps, microseconds.
    pub spin_us: u32,
    /// From the order to stop, which is seen in `/readyz`, to the end of the first session.
    pub drain_delay: Duration,
}

/// The socket engine of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// io_uring.
    Uring,
    /// epoll and sendmsg.
    Epoll,
}

/// The kernel's programs.
#[derive(Debug, Clone)]
pub struct Ebpf {
    /// False: do without.
    pub enabled: bool,
    /// Where packets are counted. None: the interface that owns the data address, or loopback.
    pub interface: Option<String>,
    /// Where the maps are pinned.
    pub pin_dir: PathBuf,
}

/// A feed that is ready to be polled, and the days that its timestamps count from.
pub struct OpenFeed {
    /// For the sequencer.
    pub feed: Box<dyn Feed>,
    /// In words.
    pub description: String,
    /// Days and epochs.
    pub calendar: Calendar,
    /// The thread that the feed has of its own, and its name.
    pub thread: Option<(&'static str, Pulse)>,
}

impl OpenFeed {
    /// One without a thread of its own.
    #[must_use]
    pub fn new(feed: Box<dyn Feed>, description: String, calendar: Calendar) -> OpenFeed {
        OpenFeed { feed, description, calendar, thread: None }
    }
}
