//! `instructions`: how many instructions the sequencer's thread spends on a message of each type, from its bytes to the
//! ring.
//!
//! Callgrind (of valgrind) counts them. It runs the same program whatever else the machine does: two counts of one
//! program agree to a fraction of a percent, where times differ by ten. The program is
//! `fanblade-perf instructions-day`: it plays a simulated day over the path of `feed`, with a function of its own for
//! each type of message, which tells its instructions from the others'.
//!
//! Behind the ring, [`delivery`] counts what a delivered message and a session cost the worker.
//!
//! Not counted: waiting for memory, the kernel, and reading the clock, which is a system call under valgrind.

mod callgrind;
pub(crate) mod day;
mod delivery;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fanblade_feed::itch;
use fanblade_measure::machine;
use fanblade_measure::report::{self, rounded};
use serde_json::{Map, Value, json};

use callgrind::Cost;

#[derive(Debug, Args)]
pub(crate) struct InstructionsArgs {
    /// Instruments of the simulated market
    #[arg(long, default_value_t = 1_000)]
    symbols: usize,
    /// Messages of the day, including those before the open
    #[arg(long, default_value_t = 250_000)]
    messages: u64,
    /// Warm-up messages, not counted except for types that come only before the open
    #[arg(long, default_value_t = 50_000)]
    warmup_messages: u64,
    /// Fail if a message costs more than in this result file by more than the tolerance
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// The tolerance, in percent
    #[arg(long, default_value_t = 3.0)]
    tolerance: f64,
    /// The result file; `-` prints it [default: perf/results/instructions-DATE.json]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &InstructionsArgs) -> anyhow::Result<()> {
    // Read before the long part, so that a missing file is noticed at once.
    let baseline = args.baseline.as_deref().map(read).transpose()?;
    let counted = count(args)?;
    let types: Map<String, Value> = day::KINDS
        .iter()
        .filter_map(|(kind, function)| Some((*kind, counted.costs.get(*function)?)))
        .map(|(kind, cost)| (char::from(kind).to_string(), of_type(kind, cost)))
        .collect();
    let all = counted.costs.get("counted_day").context("callgrind's output lacks the day")?.instructions;
    let in_messages: u64 = day::KINDS
        .iter()
        .filter(|(kind, _)| !day::BEFORE_THE_OPEN.contains(kind))
        .filter_map(|(_, function)| counted.costs.get(*function))
        .map(|cost| cost.instructions)
        .sum();
    let per_message = |instructions: u64| rounded(instructions as f64 / counted.messages as f64, 0);
    let delivery = delivery::count()?;
    let report = json!({
        "measurement": "instructions",
        "command": machine::command(),
        "date": report::date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "valgrind": counted.valgrind,
        "day": {
            "symbols": args.symbols,
            "messages": args.messages,
            "warmup_messages": args.warmup_messages,
            "messages_per_packet": rounded(counted.messages as f64 / counted.packets as f64, 1),
        },
        "by_type": types,
        "per_message": per_message(all),
        // Session, numbering, framing, waking.
        "per_message_of_packets": per_message(all.saturating_sub(in_messages)),
        // The worker's instructions, on the epoll engine.
        "per_delivery": rounded(delivery.one, 1),
        "per_delivery_of_8": rounded(delivery.of_eight, 1),
        "per_session": rounded(delivery.session, 0),
    });
    print(&report);
    report::save(&report, args.out.as_deref(), "instructions")?;
    baseline.map_or(Ok(()), |baseline| compare(&report, &baseline, args.tolerance))
}

/// What callgrind has counted.
struct Counted {
    valgrind: String,
    packets: u64,
    messages: u64,
    costs: HashMap<String, Cost>,
}

fn count(args: &InstructionsArgs) -> anyhow::Result<Counted> {
    let version = Command::new("valgrind").arg("--version").output();
    let version = version.context("cannot run valgrind; `cargo xtask setup` installs it")?;
    let out = tempfile::NamedTempFile::new().context("cannot make a file for callgrind's output")?;
    let mut valgrind = callgrind::command(out.path())?;
    valgrind
        .arg("instructions-day")
        .args(["--symbols", &args.symbols.to_string(), "--messages", &args.messages.to_string()])
        .args(["--warmup-messages", &args.warmup_messages.to_string()]);
    let played = valgrind.stderr(Stdio::inherit()).output().context("cannot start valgrind")?;
    ensure!(played.status.success(), "the day under valgrind ended with {}", played.status);
    let played: Value = serde_json::from_slice(&played.stdout).context("cannot read the day's figures")?;
    let text = std::fs::read_to_string(out.path()).context("cannot read callgrind's output")?;
    Ok(Counted {
        valgrind: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
        packets: played["packets"].as_u64().context("the day's figures lack `packets`")?,
        messages: played["messages"].as_u64().context("the day's figures lack `messages`")?,
        costs: callgrind::costs(&text).into_iter().map(|(name, cost)| (name.to_owned(), cost)).collect(),
    })
}

fn of_type(kind: u8, cost: &Cost) -> Value {
    let name = itch::KINDS.iter().find(|(known, _, _)| *known == kind).map_or("", |(_, _, name)| name);
    json!({
        "name": name,
        "messages": cost.calls,
        "instructions": rounded(cost.instructions as f64 / cost.calls.max(1) as f64, 0),
    })
}

fn print(report: &Value) {
    eprintln!("instructions per message, from its bytes to the ring, on average");
    for (kind, it) in report["by_type"].as_object().into_iter().flatten() {
        let name = it["name"].as_str().unwrap_or_default();
        eprintln!("  {kind} {name:20} {:>6}  ({} messages)", it["instructions"], it["messages"]);
    }
    eprintln!("  all, with framing      {:>6}", report["per_message"]);
    eprintln!("instructions of a worker (epoll)");
    eprintln!("  per delivered message  {:>6}", report["per_delivery"]);
    eprintln!("  the same, eight at once{:>6}", report["per_delivery_of_8"]);
    eprintln!("  per session            {:>6}", report["per_session"]);
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    ensure!(report["measurement"] == "instructions", "{} is not a result of `bench instructions`", path.display());
    Ok(report)
}

/// Fails if the report counts more than the baseline, beyond the tolerance.
fn compare(report: &Value, baseline: &Value, tolerance: f64) -> anyhow::Result<()> {
    ensure!(
        report["day"] == baseline["day"],
        "the baseline counted another day: {}; this one is {}",
        baseline["day"],
        report["day"]
    );
    let mut worse = Vec::new();
    let types = report["by_type"].as_object().into_iter().flatten();
    let figures = types
        .filter(|(_, it)| it["messages"].as_u64() >= Some(MESSAGES_TELLING_MIN))
        .map(|(kind, it)| (format!("type {kind}"), &it["instructions"], &baseline["by_type"][kind]["instructions"]));
    let others = ["per_message", "per_delivery", "per_delivery_of_8", "per_session"];
    let others = others.into_iter().map(|name| (name.to_owned(), &report[name], &baseline[name]));
    for (what, now, then) in figures.chain(others) {
        let (Some(now), Some(then)) = (now.as_f64(), then.as_f64()) else { continue };
        let change = (now / then - 1.0) * 100.0;
        eprintln!("{what:17} {then:>6} then, {now:>6} now: {change:+.1} %");
        if change > tolerance {
            worse.push(format!("{what} {change:+.1} %"));
        }
    }
    if worse.is_empty() { Ok(()) } else { bail!("more instructions than the baseline: {}", worse.join(", ")) }
}

/// With fewer messages, the figure of a type is not compared.
const MESSAGES_TELLING_MIN: u64 = 100;
