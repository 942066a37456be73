//! The options of `idle`.

use std::path::PathBuf;

use clap::Args;

use crate::floor::EngineKind;

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// Sessions
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=4_000_000))]
    pub(super) connections: u32,
    /// Sessions per subject; their subscriptions are equal
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) per_subject: u32,
    /// The server's engine
    #[arg(long, default_value = "uring")]
    pub(super) engine: EngineKind,
    /// Connections opened at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    pub(super) burst: u16,
    /// Messages per subject
    #[arg(long, default_value_t = 3)]
    pub(super) messages: u64,
    /// Silence after which the server pings a session; the sessions are held until each has been pinged
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    pub(super) ping_interval_ms: u32,
    /// The result file; `-` prints it [default: perf/results/idle-CONNECTIONS-DATE.json]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
}
