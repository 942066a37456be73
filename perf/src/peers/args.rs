//! The options of `peers`.

use std::path::PathBuf;

use clap::Args;
use fanblade_swarm::lists::LIST_LEN_MAX;

use crate::scenario::ServerKind;

#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// Peers to measure beside the bare loop and the data path [default: those that are installed]
    #[arg(long, value_delimiter = ',')]
    pub(super) servers: Vec<ServerKind>,
    /// A server of your own, for `uwebsockets`
    #[arg(long, value_name = "PROGRAM")]
    pub(super) peer_path: Option<PathBuf>,
    /// Subscribers: all of one subject, or each with a list of its own
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) subscribers: u32,
    /// Lists: each subscriber has this many subjects of its own, drawn by a power law, and all servers run at the same
    /// time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(LIST_LEN_MAX)))]
    pub(super) subjects_per_session: Option<u32>,
    /// Number of subjects, with lists
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(super) subjects: u32,
    /// With lists: exponent of the power law by which subjects are chosen; 0: all are equally popular
    #[arg(long, default_value_t = 1.0)]
    pub(super) exponent: f64,
    /// Bytes of a message's payload (64 to 65535), without what the server wraps around it
    #[arg(long, value_delimiter = ',', default_value = "64,512", value_parser = clap::value_parser!(u16).range(64..))]
    pub(super) payloads: Vec<u16>,
    /// Messages published at once, for each mode
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(super) backlogs: Vec<u8>,
    /// Runs of each server; an odd number has a median that was measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(super) runs: u32,
    /// Measured rounds of a run, in each mode
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) rounds: u32,
    /// Warm-up rounds before the measured ones
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) warmup_rounds: u32,
    /// Seconds between the last subscription and the first message
    #[arg(long, default_value_t = 3.0)]
    pub(super) settle: f64,
    /// The server's CPU
    #[arg(long, default_value_t = 0)]
    pub(super) server_cpu: usize,
    /// The clients' and the publisher's CPU
    #[arg(long, default_value_t = 1)]
    pub(super) client_cpu: usize,
    /// The result file; `-` prints it [default: perf/results/peers-DATE.json]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
}
