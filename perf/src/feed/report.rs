//! The result file of `feed`.

use fanblade_market::Channel;
use fanblade_measure::machine;
use fanblade_measure::report::{self, Spread, rounded};
use fanblade_wire::float;
use serde_json::{Map, Value, json};

use super::args::FeedArgs;
use super::day::Day;
use super::path::{Figures, Stage};
use super::sample::Sample;

pub(super) fn write(args: &FeedArgs, day: &Day, played: &Figures, samples: &[Sample]) -> anyhow::Result<()> {
    // Figures of the day and of each stage.
    let per_message = |count: u64| rounded(count as f64 / played.messages as f64, 3);
    let updates = Channel::ALL.map(|channel| (channel.name().to_owned(), per_message(played.updates[channel.index()])));
    let mut stages = args.stages.clone();
    stages.sort_unstable();
    stages.dedup();
    let up_to: Map<String, Value> =
        stages.iter().map(|&stage| (stage.name().to_owned(), spread(stage, samples))).collect();
    let cpu_ns = |stage: Stage| up_to[stage.name()]["cpu_ns"].as_f64().unwrap_or_default();
    let before = [None].into_iter().chain(stages.iter().copied().map(Some));
    // A stage's own part is the difference to the stage before.
    let own = stages
        .iter()
        .zip(before)
        .map(|(&stage, before)| (stage.name().to_owned(), rounded(cpu_ns(stage) - before.map_or(0.0, cpu_ns), 1)));
    let whole = &up_to[stages.last().map_or("", |stage| stage.name())];
    let per_s = |cpu_ns: &Value| cpu_ns.as_f64().map(|ns| float::whole((1e9 / ns).round()));
    let report = json!({
        "measurement": "feed",
        "command": machine::command(),
        "date": report::date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "load_average": machine::load_average(),
        "cpu": args.cpu,
        "runs": args.runs,
        "day": {
            "symbols": args.day.symbols,
            "seed": args.day.seed,
            "messages": day.messages(),
            "warmup_messages": day.messages() - played.messages,
            "measured_messages": played.messages,
            "messages_per_packet": rounded(played.messages as f64 / played.packets as f64, 1),
            "frames_per_message": per_message(played.frames),
            "updates_per_message": updates.into_iter().collect::<Map<_, _>>(),
            "refreshed_copies_per_message": per_message(played.refreshed),
            "ring_bytes_per_message": rounded(played.ring_bytes as f64 / played.messages as f64, 0),
        },
        "up_to": up_to,
        "own_cpu_ns": own.collect::<Map<_, _>>(),
        "messages_per_s": {
            "median": per_s(&whole["cpu_ns"]),
            "least": per_s(&whole["cpu_ns_max"]),
            "most": per_s(&whole["cpu_ns_min"]),
        },
    });
    // A table for people.
    eprintln!("\nCPU per message, ns: median (least to most of {} runs), and the stage's own part", args.runs);
    for stage in stages.iter().map(|stage| stage.name()) {
        let it = &report["up_to"][stage];
        eprintln!(
            "  up to {stage:8} {} ({} to {}); {stage} {}",
            it["cpu_ns"], it["cpu_ns_min"], it["cpu_ns_max"], report["own_cpu_ns"][stage]
        );
    }
    eprintln!("  {} messages per second", report["messages_per_s"]["median"]);
    report::save(&report, args.out.as_deref(), "feed")
}

/// Median, least and most CPU time per message over the runs, and the median of wall-clock time.
fn spread(stage: Stage, samples: &[Sample]) -> Value {
    let of_stage = samples.iter().filter(|sample| sample.stage == stage);
    let of = |figure: fn(&Sample) -> f64| Spread::of(of_stage.clone().map(figure)).unwrap_or_default();
    let (cpu, wall) = (of(|sample| sample.cpu_ns_per_message), of(|sample| sample.wall_ns_per_message));
    json!({
        "cpu_ns": rounded(cpu.median, 1),
        "cpu_ns_min": rounded(cpu.least, 1),
        "cpu_ns_max": rounded(cpu.most, 1),
        "wall_ns": rounded(wall.median, 1),
    })
}
