//! Campaigns: attacks on a running blade beside a subscriber that behaves well. Runs come in pairs, one without the
//! attack and one with it, in turn: the difference between the two shows what the subscriber notices of the attack,
//! with little influence of the machine's other load.

mod aim;
mod attacks;
mod engine;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use fanblade_measure::report::{Spread, date, rounded, save};
use fanblade_measure::{machine, sys};
use serde_json::{Value, json};

use attacks::{ATTACKS, Attack};
use engine::Engine;
use target::{Seen, Target};

/// Runs attacks; all of them if none is named. Results go to perf/results/campaign-DATE.json.
#[derive(Debug, clap::Args)]
pub(crate) struct CampaignArgs {
    /// Attacks to run; all of them if none is named
    names: Vec<String>,
    /// Only list the attacks, and what each does
    #[arg(long)]
    list: bool,
    /// The engine to attack; both if none is named
    #[arg(long, value_enum)]
    engine: Option<Engine>,
    /// Pairs of runs, one without the attack and one with it
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,
    /// Seconds of each run
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds from the blade's start until the subscriber connects, because a market's opening is a burst
    #[arg(long, default_value_t = 2.0)]
    settle: f64,
    /// Messages per second of the simulated market
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// The result file; `-` prints it [default: perf/results/campaign-DATE.json]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &CampaignArgs) -> anyhow::Result<()> {
    if args.list {
        ATTACKS.iter().for_each(|attack| println!("{:<18} {}", attack.name, attack.does));
        return Ok(());
    }
    let chosen = chosen(&args.names)?;
    let plan = Plan {
        settle: Duration::try_from_secs_f64(args.settle)?,
        duration: Duration::try_from_secs_f64(args.seconds)?,
        rate: args.rate,
    };
    ensure!(plan.duration >= RUN_MIN, "--seconds must be at least {}", RUN_MIN.as_secs());
    let engines = args.engine.map_or(vec![Engine::Uring, Engine::Epoll], |engine| vec![engine]);
    let mut results = BTreeMap::new();
    let mut failed = Vec::new();
    for attack in chosen {
        let mut by_engine = BTreeMap::new();
        for &engine in &engines {
            let pairs = (0..args.pairs).map(|pair| play(attack, engine, pair, &plan));
            let pairs = pairs.collect::<anyhow::Result<Vec<Pair>>>()?;
            let verdict = Verdict::of(&pairs);
            eprintln!("{:<18} {:<6} {verdict}", attack.name, engine.name());
            if !verdict.faults.is_empty() {
                failed.push(format!("{} over {}", attack.name, engine.name()));
            }
            by_engine.insert(engine.name(), verdict.json(&pairs));
        }
        results.insert(attack.name, json!({"does": attack.does, "engines": by_engine}));
    }
    let report = json!({
        "measurement": "campaign",
        "date": date(),
        "command": machine::command().replace("bench campaign", "campaign"),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "load_average": machine::load_average(),
        "pairs": args.pairs,
        "seconds": args.seconds,
        "settle_s": args.settle,
        "messages_per_s": args.rate,
        "p99_ms_more_max": P99_MORE_MAX_MS,
        "attacks": results,
    });
    save(&report, args.out.as_deref(), "campaign")?;
    if !failed.is_empty() {
        bail!("{} of {} campaigns failed: {}", failed.len(), results.len() * engines.len(), failed.join(", "));
    }
    Ok(())
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Attack>> {
    if names.is_empty() {
        return Ok(ATTACKS.iter().collect());
    }
    let find = |name: &String| {
        let known = ATTACKS.map(|attack| attack.name).join(", ");
        let found = ATTACKS.iter().find(|attack| attack.name == name);
        found.ok_or_else(|| anyhow::anyhow!("there is no campaign `{name}`; there are {known}"))
    };
    names.iter().map(find).collect()
}

/// What all runs have in common.
struct Plan {
    settle: Duration,
    duration: Duration,
    rate: u64,
}

/// One run without the attack, one with it.
struct Pair {
    without: Seen,
    with: Seen,
}

/// Pairs alternate which of the two runs comes first, so that a machine that becomes faster or slower favours neither.
fn play(attack: &Attack, engine: Engine, pair: u32, plan: &Plan) -> anyhow::Result<Pair> {
    let run = |is_attacked: bool| {
        let seen = one(attack, engine, is_attacked, plan)?;
        eprintln!(
            "{:<18} {:<6} {} {seen}",
            attack.name,
            engine.name(),
            if is_attacked { "with the attack:   " } else { "without the attack:" }
        );
        anyhow::Ok(seen)
    };
    if pair.is_multiple_of(2) {
        let without = run(false)?;
        Ok(Pair { without, with: run(true)? })
    } else {
        let with = run(true)?;
        Ok(Pair { without: run(false)?, with })
    }
}

fn one(attack: &Attack, engine: Engine, is_attacked: bool, plan: &Plan) -> anyhow::Result<Seen> {
    let target = Target::start(attack, engine, is_attacked, plan.rate)?;
    std::thread::sleep(plan.settle);
    let aim = target.aim();
    std::thread::scope(|scope| {
        // However this function ends, the attackers end.
        let _over = aim::Over(&aim);
        if is_attacked {
            for number in 0..ATTACKERS {
                let aim = &aim;
                scope.spawn(move || {
                    // The attack is on the blade, not on its share of the CPU.
                    let _ = sys::run_behind();
                    (attack.run)(aim, number);
                });
            }
        }
        target.watch(&aim, plan.duration)
    })
    .and_then(|seen| target.stop(seen, &aim))
}

/// The result of all pairs together.
struct Verdict {
    without: Spread,
    with: Spread,
    /// p99 with the attack less p99 without it, both medians.
    more_ms: f64,
    faults: Vec<String>,
}

impl Verdict {
    fn of(pairs: &[Pair]) -> Verdict {
        let p99 = |of: fn(&Pair) -> &Seen| Spread::of(pairs.iter().map(|pair| of(pair).p99_ms)).unwrap_or_default();
        let (without, with) = (p99(|pair| &pair.without), p99(|pair| &pair.with));
        let more_ms = with.median - without.median;
        let mut faults = Vec::new();
        if more_ms > P99_MORE_MAX_MS {
            faults.push(format!("p99 grew by {more_ms:.1} ms"));
        }
        let done: u64 = pairs.iter().map(|pair| pair.with.done).sum();
        if done == 0 {
            faults.push("the attackers did nothing".to_owned());
        }
        for pair in pairs {
            faults.extend(pair.without.faults.iter().map(|fault| format!("without the attack: {fault}")));
            faults.extend(pair.with.faults.iter().cloned());
        }
        faults.sort();
        faults.dedup();
        Verdict { without, with, more_ms, faults }
    }

    fn json(&self, pairs: &[Pair]) -> Value {
        let runs = |of: fn(&Pair) -> &Seen| pairs.iter().map(|pair| of(pair).json()).collect::<Vec<_>>();
        json!({
            "p99_ms_without": self.without.json("median", 3),
            "p99_ms_with": self.with.json("median", 3),
            "p99_ms_more": rounded(self.more_ms, 3),
            "faults": self.faults,
            "verdict": if self.faults.is_empty() { "holds" } else { "FAILED" },
            "without": runs(|pair| &pair.without),
            "with": runs(|pair| &pair.with),
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.faults.is_empty() { "holds" } else { "FAILED" };
        let (without, with) = (self.without.median, self.with.median);
        write!(f, "{word}: p99 {without:.2} ms without, {with:.2} ms with")?;
        self.faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
    }
}

/// By how much the subscriber's p99 may rise.
const P99_MORE_MAX_MS: f64 = 10.0;
/// Threads that attack; the attack says how many connections each has.
const ATTACKERS: usize = 2;
/// A shorter run has too few frames for a p99.
const RUN_MIN: Duration = Duration::from_secs(1);
