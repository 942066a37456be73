//! The result file of `peers`, and what it prints for people.

use fanblade_measure::machine;
use fanblade_measure::report::{self, Spread, rounded};
use serde_json::{Map, Value, json};

use super::args::PeersArgs;
use super::contestant::{BLADE, Contestant, Missing};
use super::sample::Sample;
use crate::floor::mode;

/// One sample as a line for people.
pub(super) fn line(args: &PeersArgs, sample: &Sample) -> String {
    let costs = args.backlogs.iter().zip(&sample.cpu_us).map(|(backlog, us)| format!("{} {us:.2}", mode(*backlog)));
    let mut memory = sample.session_bytes.map_or(String::new(), |bytes| format!(", {bytes:.0} bytes a session"));
    if let Some(bytes) = sample.bytes_after_messages {
        memory += &format!(", {bytes:.0} after messages");
    }
    format!(
        "{:11} {:5} bytes: {} µs of server CPU per message{memory}",
        sample.contestant.name(),
        sample.payload_bytes,
        costs.collect::<Vec<_>>().join(", ")
    )
}

pub(super) fn write(
    args: &PeersArgs,
    contestants: &[Contestant],
    samples: &[Sample],
    absent: &[Missing],
    failures: &[Missing],
) -> anyhow::Result<()> {
    let reasons = |missing: &[Missing]| missing.iter().map(|it| (it.name.into(), it.why.as_str().into())).collect();
    let (absent, failed): (Map<String, Value>, Map<String, Value>) = (reasons(absent), reasons(failures));
    let servers: Map<String, Value> =
        contestants.iter().map(|it| (it.name().to_owned(), server(args, *it, samples))).collect();
    let mut report = json!({
        "measurement": if args.subjects_per_session.is_some() { WITH_LISTS } else { "peers" },
        "command": machine::command(),
        "date": report::date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "load_average": machine::load_average(),
        "subscribers": args.subscribers,
        "watchlists": args.subjects_per_session.map(|count| {
            json!({"subjects": args.subjects, "subjects_per_session": count, "exponent": args.exponent})
        }),
        "payload_bytes": args.payloads,
        "backlogs": args.backlogs,
        "runs": args.runs,
        "rounds": args.rounds,
        "warmup_rounds": args.warmup_rounds,
        "cpus": {"server": args.server_cpu, "clients": args.client_cpu},
        "cpu_method": if args.subjects_per_session.is_some() { LISTS_METHOD } else { CPU_METHOD },
        "memory_method": if args.subjects_per_session.is_some() { LISTS_MEMORY_METHOD } else { MEMORY_METHOD },
        "servers": servers,
        "absent": absent,
        "failed": failed,
    });
    let peers: Vec<&str> = contestants.iter().filter(|it| it.is_peer()).map(|it| it.name()).collect();
    let verdict = verdict(args, &report, &peers);
    report["comparison"] = verdict.comparison;
    report["verdict"] = verdict.sentence.clone().into();
    print(args, contestants, &report);
    let name = args.subjects_per_session.map_or("peers".to_owned(), |count| format!("peers-{count}-subjects"));
    report::save(&report, args.out.as_deref(), &name)?;
    eprintln!("verdict: {}", verdict.sentence);
    anyhow::ensure!(failures.is_empty(), "not measured: {}", failed.keys().cloned().collect::<Vec<_>>().join(", "));
    Ok(())
}

/// `{"configuration": …, "bytes_per_session": {…}, "payload_64": {"one": {"cpu_us": 5.1, …}, "backlog_8": {…}}, …}`
fn server(args: &PeersArgs, contestant: Contestant, samples: &[Sample]) -> Value {
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.contestant == contestant).collect();
    let mut server = Map::new();
    server.insert("configuration".into(), own.first().map_or(Value::Null, |it| it.configuration.clone()));
    let memory = || own.iter().filter_map(|sample| sample.session_bytes);
    server.insert("bytes_per_session".into(), spread(memory(), "user", 0));
    if let Some(count) = args.subjects_per_session {
        let each = memory().map(|bytes| bytes / f64::from(count));
        server.insert("bytes_per_subscription".into(), spread(each, "user", 1));
        let after = own.iter().filter_map(|sample| sample.bytes_after_messages);
        server.insert("bytes_per_session_after_messages".into(), spread(after, "user", 0));
    }
    for &payload_bytes in &args.payloads {
        let modes = args.backlogs.iter().enumerate().map(|(at, &backlog)| {
            let of_payload = own.iter().filter(|sample| sample.payload_bytes == payload_bytes);
            let costs = of_payload.filter_map(|sample| sample.cpu_us.get(at).copied());
            (mode(backlog), spread(costs, "cpu_us", 3))
        });
        server.insert(format!("payload_{payload_bytes}"), modes.collect::<Map<_, _>>().into());
    }
    server.into()
}

/// Median, least and most.
fn spread(values: impl IntoIterator<Item = f64>, name: &str, digits: i32) -> Value {
    Spread::of(values).map_or(Value::Null, |spread| spread.json(name, digits))
}

struct Verdict {
    sentence: String,
    comparison: Value,
}

/// Whether the blade costs at most what the best peer costs, by medians, for every payload and mode.
fn verdict(args: &PeersArgs, report: &Value, peers: &[&str]) -> Verdict {
    let (mut comparison, mut beaten) = (Map::new(), Vec::new());
    let mut ratio_most: f64 = 0.0;
    for payload in &args.payloads {
        for &backlog in &args.backlogs {
            let (payload, mode) = (format!("payload_{payload}"), mode(backlog));
            let cost = |name: &str| report["servers"][name][&payload][&mode]["cpu_us"].as_f64();
            let best = peers.iter().filter_map(|name| Some((*name, cost(name)?)));
            let best = best.min_by(|one, other| one.1.total_cmp(&other.1));
            let (Some((peer, least)), Some(blade)) = (best, cost(BLADE.name())) else { continue };
            let to_bare = cost(Contestant::Bare.name()).map(|bare| rounded(blade / bare, 3));
            comparison.insert(
                format!("{payload}_{mode}"),
                json!({"best_peer": peer, "blade_to_best_peer": rounded(blade / least, 3), "blade_to_bare": to_bare}),
            );
            ratio_most = ratio_most.max(blade / least);
            if blade > least {
                beaten.push(format!("{peer} {least:.2} µs, Fanblade {blade:.2} ({payload}, {mode})"));
            }
        }
    }
    let sentence = if comparison.is_empty() {
        "there is no peer to compare with".to_owned()
    } else if beaten.is_empty() {
        format!("ok: Fanblade costs at most {ratio_most:.2} times the best of {}", peers.join(", "))
    } else {
        format!("NOT MET: {}", beaten.join("; "))
    };
    Verdict { sentence, comparison: comparison.into() }
}

/// Prints a table for people.
fn print(args: &PeersArgs, contestants: &[Contestant], report: &Value) {
    eprintln!("\nserver CPU per delivered message, µs: median (least to most of {} runs)", args.runs);
    for payload in &args.payloads {
        for &backlog in &args.backlogs {
            for contestant in contestants {
                let it = &report["servers"][contestant.name()][format!("payload_{payload}")][mode(backlog)];
                eprintln!(
                    "  {payload:5} bytes  {:10}  {:11}  {} ({} to {})",
                    mode(backlog),
                    contestant.name(),
                    it["cpu_us"],
                    it["min"],
                    it["max"]
                );
            }
        }
    }
}

const CPU_METHOD: &str = "CPU time of the server's processes over the measured rounds (user and system, all threads, by \
    CLOCK_PROCESS_CPUTIME_ID), divided by the messages delivered; on loopback a send does the softirq work of both \
    directions before it returns, so that this time holds it. Clients spin; the next round is published when every client \
    has all of the last; a backlog is published with one write";
/// Name of the result file with lists, and of its measurement.
pub(crate) const WITH_LISTS: &str = "peers-watchlists";
const LISTS_METHOD: &str = "CPU time of the server's processes (user and system, all threads, by CLOCK_PROCESS_CPUTIME_ID) \
    over their own rounds, divided by the messages delivered; all servers are there at once and take turns, a round each: \
    messages of one subject after the other (a backlog: of as many subjects with one write) until every subscriber has \
    had one on average; the next is published when all of its subject's subscribers have the last. Lists are the same for \
    all. On loopback a send does the softirq work of both directions before it returns";
const LISTS_MEMORY_METHOD: &str = "growth of anonymous memory and io_uring queues (smaps) of the server's processes from \
    before the first connection to after the last subscription, before any message, divided by the subscribers; per \
    subscription: that of a session, its own part included, divided by its subjects; what a server has set aside at its \
    start is not in it";
const MEMORY_METHOD: &str = "growth of Pss (smaps_rollup) of the server's processes from before the first connection to \
    after the last subscription, before any message, divided by the subscribers; what a server has set aside at its start \
    is not in it";
