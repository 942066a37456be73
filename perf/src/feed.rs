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

mod args;
mod day;
mod path;
mod report;
mod sample;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::time::{ClockId, clock_gettime};

pub(crate) use args::{DayArgs, FeedArgs};
pub(crate) use day::Day;
pub(crate) use path::{Desk, Path, Stage};
use sample::Sample;

pub(crate) fn run(args: &FeedArgs) -> anyhow::Result<()> {
    let cpus = fanblade_net::affinity::cpus_allowed()?;
    ensure!(cpus.contains(&args.cpu), "CPU {} is not among those that may be used: {cpus:?}", args.cpu);
    fanblade_net::affinity::pin_thread(args.cpu).with_context(|| format!("cannot pin to CPU {}", args.cpu))?;
    let day = args.day.make()?;
    let warmup = day.packets_of(args.warmup_messages);
    ensure!(warmup < day.packets(), "the day has only {} messages, all within the warm-up", day.messages());
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
            ensure!(figures.faults == 0, "the day was not played exactly: {figures:?}");
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
    let figures = last.context("there was no run")?;
    report::write(args, &day, &figures, &samples)
}

/// CPU time of this thread, which other work on the machine lengthens less than wall-clock time.
fn cpu_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
