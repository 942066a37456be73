//! The options of `floor`, and of the servers that it starts.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    #[command(flatten)]
    pub(super) measured: Measured,
    /// Engines to measure
    #[arg(long, value_delimiter = ',', default_value = "uring,epoll")]
    pub(super) engines: Vec<EngineKind>,
    /// Servers to measure
    #[arg(long, value_delimiter = ',', default_value = "bare,blade")]
    pub(super) servers: Vec<ServerKind>,
    /// Runs of each server; an odd number has a median that was measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(super) runs: u32,
    /// The result file; `-` prints it [default: perf/results/floor-DATE.json]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
}

/// Settings of one run of a server.
#[derive(Debug, Args)]
pub(crate) struct Measured {
    /// Subscribers of the one subject
    #[arg(long, default_value_t = 10_000)]
    pub(crate) subscribers: u32,
    /// Bytes of a message's payload (16 to 65535)
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(16..))]
    pub(crate) payload_bytes: u16,
    /// Measured rounds of a run, in each mode
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Warm-up rounds before the measured ones
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) warmup_rounds: u32,
    /// Messages published at once, for each mode
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) backlogs: Vec<u8>,
    /// The server's CPU
    #[arg(long, default_value_t = 0)]
    pub(crate) server_cpu: usize,
    /// The clients' CPU
    #[arg(long, default_value_t = 1)]
    pub(crate) client_cpu: usize,
    /// Microseconds that the blade's worker spins before it sleeps. Idle waiting is no part of a message's cost
    #[arg(long, default_value_t = 0)]
    pub(crate) spin_us: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[arg(long)]
    pub(crate) engine: EngineKind,
    #[arg(long)]
    pub(crate) subscribers: usize,
    #[arg(long)]
    pub(crate) payload_bytes: usize,
    #[arg(long)]
    pub(crate) cpu: usize,
    #[arg(long)]
    pub(crate) spin_us: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineKind {
    Uring,
    Epoll,
}

impl EngineKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            EngineKind::Uring => "uring",
            EngineKind::Epoll => "epoll",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// A loop of sends, no Fanblade code
    Bare,
    /// Ring, worker and engine
    Blade,
}

impl ServerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::Bare => "bare",
            ServerKind::Blade => "blade",
        }
    }
}
