//! The settings of a blade. The caller has checked their ranges.

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
    /// The feed begins once this many sessions have subscribed.
    pub wait_for: u64,
    /// Where subscribers connect.
    pub data: Data,
    /// The history that all sessions share.
    pub ring: RingConfig,
    /// The kernel's programs.
    pub ebpf: Ebpf,
    /// Limits of each worker.
    pub limits: Limits,
    /// Subjects whose frames may wait for further frames.
    pub batching: Vec<Batching>,
}

/// Where subscribers connect.
#[derive(Debug, Clone)]
pub struct Data {
    /// Port 0: any free port.
    pub listen: SocketAddr,
    /// None: one for each CPU that the process may use, less two for the sequencer and everything else.
    pub workers: Option<usize>,
    /// CPUs to pin to: the sequencer's, then the workers'. Empty: chosen when there are enough, else not pinned.
    pub cpus: Vec<usize>,
    /// The workers' socket engine, if it works here.
    pub engine: Engine,
    /// Origins of pages that may connect; empty: any.
    pub allowed_origins: Vec<String>,
    /// Balancers whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Networks,
    /// Proxies that are trusted to name the client in `client_header`.
    pub trusted_proxies: Networks,
    /// Which header names the client.
    pub client_header: ClientHeader,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// Unsent bytes in a socket above which nothing more is written to it.
    pub notsent_lowat: u32,
    /// Refuse the workers' threads all system calls that they do not need.
    pub sandbox: bool,
    /// How long a worker with a CPU of its own polls before it sleeps, microseconds.
    pub spin_us: u32,
    /// From the order to stop, after which `/readyz` answers 503, to the end of the first session.
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
    /// False: serve without eBPF.
    pub enabled: bool,
    /// Interface whose packets are counted. None: the interface that owns the data address, or loopback.
    pub interface: Option<String>,
    /// Where the maps are pinned.
    pub pin_dir: PathBuf,
}

/// A feed that is ready to be polled, and the days that its timestamps count from.
pub struct OpenFeed {
    /// The feed itself, for the sequencer.
    pub feed: Box<dyn Feed>,
    /// A description of the feed.
    pub description: String,
    /// Days and epochs.
    pub calendar: Calendar,
    /// The feed's own thread, if any: its name and its pulse.
    pub thread: Option<(&'static str, Pulse)>,
}

impl OpenFeed {
    /// A feed without a thread of its own.
    #[must_use]
    pub fn new(feed: Box<dyn Feed>, description: String, calendar: Calendar) -> OpenFeed {
        OpenFeed { feed, description, calendar, thread: None }
    }
}
