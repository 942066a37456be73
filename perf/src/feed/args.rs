//! The options of `feed`, and of the day that it plays.

use std::path::PathBuf;

use clap::Args;
use fanblade_feed::simulator::SimulatorConfig;

use super::day::Day;
use super::path::Stage;

#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    #[command(flatten)]
    pub(super) day: DayArgs,
    /// Messages before the measured ones: the directory, the quotes before the open, books that grow
    #[arg(long, default_value_t = 300_000)]
    pub(super) warmup_messages: u64,
    /// Runs of each stage; an odd number has a median that was measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(super) runs: u32,
    /// Stages to measure
    #[arg(long, value_delimiter = ',', default_value = "feed,market,encode,publish")]
    pub(super) stages: Vec<Stage>,
    /// CPU to pin the thread to
    #[arg(long, default_value_t = 0)]
    pub(super) cpu: usize,
    /// The result file; `-` prints it [default: perf/results/feed-DATE.json]
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
}

/// The day to play.
#[derive(Debug, Clone, Args)]
pub(crate) struct DayArgs {
    /// Instruments of the simulated market
    #[arg(long, default_value_t = 8_000)]
    pub(super) symbols: usize,
    /// Messages of the day, including those before the open
    #[arg(long, default_value_t = 2_300_000)]
    pub(super) messages: u64,
    /// Seed of the simulated market
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

impl DayArgs {
    pub(crate) fn make(&self) -> anyhow::Result<Day> {
        let config = SimulatorConfig {
            seed: self.seed,
            symbols: self.symbols,
            messages_max: Some(self.messages),
            ..SimulatorConfig::default()
        };
        Day::simulated(&config)
    }
}
