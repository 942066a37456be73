//! The result file of `floor`.

use fanblade_measure::machine;
use fanblade_measure::report::{self, Spread, rounded};
use serde_json::{Map, Value, json};

use super::args::{FloorArgs, ServerKind};
use super::sample::Sample;

pub(super) fn write(args: &FloorArgs, samples: &[Sample]) -> anyhow::Result<()> {
    let mut report = json!({
        "measurement": "floor",
        "command": machine::command(),
        "date": report::date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "subscribers": args.measured.subscribers,
        "payload_bytes": args.measured.payload_bytes,
        "runs": args.runs,
        "rounds": args.measured.rounds,
        "warmup_rounds": args.measured.warmup_rounds,
        "cpus": {"server": args.measured.server_cpu, "clients": args.measured.client_cpu},
        "messages_lost": 0,
    });
    for &engine in &args.engines {
        let of_engine: Vec<&Sample> = samples.iter().filter(|sample| sample.engine == engine).collect();
        report[engine.name()] = results(args, &of_engine);
    }
    print(args, &report);
    report::save(&report, args.out.as_deref(), "floor")
}

/// `{"bare": {"one": {…}, "backlog_8": {…}}, "blade": {…}, "blade_to_bare": {"one": {"median": 1.04, …}, …}}`
fn results(args: &FloorArgs, samples: &[&Sample]) -> Value {
    let mut results = Map::new();
    for &server in &args.servers {
        let modes = args.measured.backlogs.iter().map(|&backlog| {
            let of_mode = samples.iter().filter(|sample| sample.server == server && sample.backlog == backlog);
            let of_mode: Vec<&Sample> = of_mode.copied().collect();
            (mode(backlog), spread(&of_mode))
        });
        results.insert(server.name().into(), modes.collect::<Map<_, _>>().into());
    }
    if args.servers.contains(&ServerKind::Bare) && args.servers.contains(&ServerKind::Blade) {
        let ratios = args.measured.backlogs.iter().map(|&backlog| (mode(backlog), ratio(samples, backlog)));
        results.insert("blade_to_bare".into(), ratios.collect::<Map<_, _>>().into());
    }
    results.into()
}

/// The blade's CPU time divided by the bare loop's in the same run: median, least and most over the runs.
fn ratio(samples: &[&Sample], backlog: u8) -> Value {
    let of = |server: ServerKind| {
        let own = move |it: &&&Sample| it.server == server && it.backlog == backlog;
        samples.iter().filter(own).map(|it| it.cpu_ns_per_message)
    };
    let ratios = of(ServerKind::Blade).zip(of(ServerKind::Bare)).map(|(blade, bare)| blade / bare);
    Spread::of(ratios).unwrap_or_default().json("median", 3)
}

/// The name of a mode in results.
pub(crate) fn mode(backlog: u8) -> String {
    if backlog == 1 { "one".into() } else { format!("backlog_{backlog}") }
}

/// Median, least and most CPU time per message over the runs, and the median of wall-clock time.
fn spread(samples: &[&Sample]) -> Value {
    let of = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().copied().map(figure)).unwrap_or_default();
    let (cpu, wall) = (of(|sample| sample.cpu_ns_per_message), of(|sample| sample.wall_ns_per_message));
    json!({
        "cpu_ns": rounded(cpu.median, 0),
        "cpu_ns_min": rounded(cpu.least, 0),
        "cpu_ns_max": rounded(cpu.most, 0),
        "wall_ns": rounded(wall.median, 0),
    })
}

/// Prints a table for people.
fn print(args: &FloorArgs, report: &Value) {
    eprintln!("\nserver CPU per delivered message, ns: median (least to most of {} runs)", args.runs);
    for engine in &args.engines {
        for &backlog in &args.measured.backlogs {
            let mode = mode(backlog);
            for server in &args.servers {
                let it = &report[engine.name()][server.name()][&mode];
                let (engine, server) = (engine.name(), server.name());
                eprintln!(
                    "  {engine:5}  {mode:10}  {server:5}  {} ({} to {})",
                    it["cpu_ns"], it["cpu_ns_min"], it["cpu_ns_max"]
                );
            }
            let ratio = &report[engine.name()]["blade_to_bare"][&mode];
            if ratio.is_object() {
                let [median, least, most] = ["median", "min", "max"].map(|it| &ratio[it]);
                eprintln!("  {:5}  {mode:10}  blade : bare = {median} ({least} to {most})", engine.name());
            }
        }
    }
}
