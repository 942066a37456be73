//! How a worker runs, and what it can be told meanwhile.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::batching::Batching;
use crate::forwarded::ClientHeader;
use crate::limits::Limits;
use crate::networks::Networks;
use crate::stats::WorkerStats;

/// How a worker runs.
#[derive(Clone, Debug, Default)]
pub struct WorkerConfig {
    /// Its number, from 0; names its thread.
    pub index: usize,
    /// The CPU to pin it to.
    pub cpu: Option<usize>,
    /// The limits of the worker and its sessions.
    pub limits: Limits,
    /// `Origin` values that are admitted, exactly as a browser sends them; empty: every origin.
    pub origins: Vec<String>,
    /// Peers whose connections begin with a PROXY protocol header. From them it is required; from others it is refused.
    pub proxy_protocol_from: Networks,
    /// Peers that are believed who their client is, by `client_header`.
    pub trusted_proxies: Networks,
    /// The header in which trusted proxies name the client.
    pub client_header: ClientHeader,
    /// Set while a balancer should send no connections here: the answer to `/healthz`. The blade sets it.
    pub unready: Arc<AtomicBool>,
    /// Busy microseconds before it sleeps when there is nothing to do.
    pub spin_us: u32,
    /// Which subjects' frames may wait for more; the first entry that selects a subject counts.
    pub batching: Vec<Batching>,
    /// What the publisher's source is called, in notices.
    pub source: String,
    /// The counters of the worker whose place it takes, and goes on with; `None` for the first in a place.
    pub predecessor: Option<Arc<WorkerStats>>,
}

/// What a worker can be told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Answer new connections with 503; send what every session is owed, close each, and end.
    Drain {
        /// 1001 (stop) or 1012 (restart).
        close_code: u16,
        /// With 1012: each session is told to reconnect after a random time up to this.
        reconnect_ms_max: u32,
        /// After this the remaining sessions are dropped.
        deadline_ms: u32,
    },
    /// Send this JSON text to every session that has subscriptions.
    Notice(String),
    /// Go by these limits from now on, as far as [`Limits::taking`] says. Deadlines under way stay.
    Limits(Box<Limits>),
    /// End at once.
    Stop,
    /// Panic: what a bug would do, for tests of what follows. Release builds do not have it, and no peer can send it.
    #[cfg(debug_assertions)]
    Panic,
    /// Open a file, which no worker does: for tests of what a confined thread is refused. Debug builds only.
    #[cfg(debug_assertions)]
    OpenFile,
}
