//! `feed`: what one message of the exchange costs the sequencer's thread, from packet to ring.
//!
//! A simulated day is made in memory before anything is measured. Then its packets are played over the blade's own
//! path, in one pinned thread, up to one stage after the other:
//!
//! ```text
//! feed     MoldUDP64: session, numbering, framing
//! market   + ITCH decoding, orders, books, which images changed
//! encode   + subject, JSON, binary
//! publish  + the ring, time stamps, waking
//! ```
//! Runs alternate between the stages, so that a machine that changes its speed changes it for all. Each run begins with
//! an empty market and ring, and its first messages are not counted.

mod day;
mod path;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use fanblade_feed::simulator::SimulatorConfig;
use nix::time::{ClockId, clock_gettime};

pub(crate) use day::Day;
use path::Figures;
pub(crate) use path::{Desk, Path, Stage};

#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    #[command(flatten)]
    day: DayArgs,
    /// Messages before the measured ones: the directory, the quotes before the open, books that grow
    #[arg(long, default_value_t = 300_000)]
    warmup_messages: u64,
    /// Runs of each stage; an odd number has a median that was measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Stages to measure
    #[arg(long, value_delimiter = ',', default_value = "feed,market,encode,publish")]
    stages: Vec<Stage>,
    /// CPU to pin the thread to
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// The result file; `-` prints it [default: perf/results/feed-DATE.json]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// The day to play.
#[derive(Debug, Clone, Args)]
pub(crate) struct DayArgs {
    /// Instruments of the simulated market
    #[arg(long, default_value_t = 8_000)]
    symbols: usize,
    /// Messages of the day, including those before the open
    #[arg(long, default_value_t = 2_300_000)]
    messages: u64,
    /// Seed of the simulated market
    #[arg(long, default_value_t = 1)]
    seed: u64,
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

/// One run up to one stage.
struct Sample {
    stage: Stage,
    cpu_ns_per_message: f64,
    wall_ns_per_message: f64,
}

pub(crate) fn run(args: &FeedArgs) -> anyhow::Result<()> {
    let cpus = fanblade_net::affinity::cpus_allowed()?;
    ensure!(cpus.contains(&args.cpu), "the CPUs here are {cpus:?}");
    fanblade_net::affinity::pin_thread(args.cpu).with_context(|| format!("cannot pin to CPU {}", args.cpu))?;
    let day = args.day.make()?;
    let warmup = day.packets_of(args.warmup_messages);
    ensure!(warmup < day.packets(), "the day has no more than {} messages", day.messages());
    let mut samples = Vec::new();
    let mut last = None;
    for run in 1..=args.runs {
        for &stage in &args.stages {
            let mut path = Path::new(stage)?;
            path.play(&day, 0..warmup, Desk::message);
            let before = path.figures();
            let (cpu, wall) = (cpu_time()?, Instant::now());
            path.play(&day, warmup..day.packets(), Desk::message);
            let (cpu, wall) = (cpu_time()? - cpu, wall.elapsed());
            let figures = path.figures().since(&before);
            ensure!(figures.faults == 0, "the day was not played as it is: {figures:?}");
            let messages = figures.messages as f64;
            let sample = Sample {
                stage,
                cpu_ns_per_message: cpu.as_nanos() as f64 / messages,
                wall_ns_per_message: wall.as_nanos() as f64 / messages,
            };
            eprintln!("run {run}  up to {:8} {:6.1} ns of CPU per message", stage.name(), sample.cpu_ns_per_message);
            samples.push(sample);
            last = Some(figures);
        }
    }
    let figures = last.context("no run")?;
    report::write(args, &day, &figures, &samples)
}

/// CPU time of this thread, which other work on the machine lengthens less than wall-clock time.
fn cpu_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
