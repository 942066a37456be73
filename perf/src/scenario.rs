//! `run`: a scenario, played by a server, a publisher and a swarm, and measured.
//!
//! The server has CPUs of its own; the clients, who spin, have others, and the publisher takes precedence on one of
//! theirs. A run starts a server, connects and subscribes clients, starts a publisher, warms up, measures during the
//! window, and ends all of them. Each subscriber of a subject must have received what the publisher has published of it
//! in the window.

mod cpus;
mod definition;
mod load;
pub(crate) mod message;
pub(crate) mod publisher;
mod results;
pub(crate) mod room;
pub(crate) mod server;
pub(crate) mod storm;
mod traffic;
mod watchlists;
mod wire;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fanblade_swarm::EngineKind;
use fanblade_swarm::xdp::cable::{self, Cable};

pub(crate) use cpus::Cpus;
pub(crate) use definition::{Kind, Scenario};
pub(crate) use server::ServerKind;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of the scenario; without one: list the scenarios
    scenario: Option<String>,
    /// Subscribers [default: the scenario's, which a machine of two cores carries]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: Option<u32>,
    /// Runs; an odd number has a median that was measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Seconds of the window that counts [default: the scenario's]
    #[arg(long)]
    duration: Option<f64>,
    /// Seconds of warm-up before the window [default: the scenario's]
    #[arg(long)]
    warmup: Option<f64>,
    /// Payload bytes of a message [default: the scenario's]
    #[arg(long)]
    payload_bytes: Option<u32>,
    /// The server [default: blade for wire-to-wire and batched scenarios, else datapath]
    #[arg(long)]
    server: Option<ServerKind>,
    /// A server of your own, for `--server uwebsockets`
    #[arg(long, value_name = "PROGRAM")]
    peer_path: Option<PathBuf>,
    /// What carries the subscribers; `xdp` needs root, and puts the server into a network namespace of its own
    #[arg(long, default_value = "sockets")]
    engine: EngineKind,
    /// The server's CPUs [default: the first half]
    #[arg(long, value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// The clients' and the publisher's CPUs [default: the others]
    #[arg(long, value_delimiter = ',')]
    client_cpus: Vec<usize>,
    /// The result file; `-` prints it [default: perf/results/SCENARIO-SERVER-SUBSCRIBERS-DATE.json]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let Some(name) = &args.scenario else {
        for name in definition::names()? {
            println!("{name:16} {}", Scenario::load(&name)?.title);
        }
        return Ok(());
    };
    // The command line overrides the scenario.
    let mut scenario = Scenario::load(name)?;
    scenario.subscribers = args.subscribers.unwrap_or(scenario.subscribers);
    scenario.duration_s = args.duration.unwrap_or(scenario.duration_s);
    scenario.warmup_s = args.warmup.unwrap_or(scenario.warmup_s);
    scenario.payload_bytes = args.payload_bytes.unwrap_or(scenario.payload_bytes);
    scenario.peer_path.clone_from(&args.peer_path);
    scenario.engine = args.engine;
    scenario.check()?;
    room::check(&scenario).with_context(|| format!("this machine is too small for {name}"))?;
    // The CPUs and the server; some scenarios need the blade itself.
    let cpus = cpus(args, &scenario)?;
    let wants_blade = scenario.kind == Kind::WireToWire || scenario.is_batched();
    let usual = if wants_blade { ServerKind::Blade } else { ServerKind::Datapath };
    let server = args.server.unwrap_or(usual);
    let has_windows = server != ServerKind::Datapath || !scenario.is_batched();
    ensure!(has_windows, "{name} is about [[batching]], which only the blade has: use --server blade");
    // The network is set up before anything else is started, so that everything is in the same network namespace.
    let _cable = match args.engine {
        EngineKind::Sockets => None,
        EngineKind::Xdp => {
            ensure!(scenario.kind == Kind::Traffic, "{name} measures the clients' sockets, too: use --engine sockets");
            let is_ours = [ServerKind::Blade, ServerKind::Datapath].contains(&server);
            ensure!(is_ours, "{} listens on loopback only: use --engine sockets", server.name());
            ensure!(scenario.watchlists.is_none(), "clients with lists need sockets: use --engine sockets");
            Some(Cable::lay_apart(cable::SERVER).context("cannot set up a network for the xdp engine")?)
        }
    };
    eprintln!("{name}: {}; {} subscribers", scenario.title, scenario.subscribers);
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        let run = match scenario.kind {
            Kind::Traffic => traffic::run(&scenario, server, &cpus),
            Kind::Storm => storm::run(&scenario, server, &cpus),
            Kind::WireToWire => wire::run(&scenario, server, &cpus),
        };
        let run = run.with_context(|| format!("run {number} of {name}"))?;
        eprintln!("run {number}: {}", run.summary);
        runs.push(run);
    }
    // The result is saved even if a run has failed.
    let report = results::report(name, &scenario, server, &cpus, &runs);
    let engine = if args.engine == EngineKind::Sockets { "" } else { "-xdp" };
    let stem = format!("{name}-{}{engine}-{}", server.name(), scenario.subscribers);
    fanblade_measure::report::save(&report, args.out.as_deref(), &stem)?;
    let failures: Vec<&str> = runs.iter().filter_map(|run| run.failure.as_deref()).collect();
    let verdict = if failures.is_empty() { "ok".to_owned() } else { format!("FAILED: {}", failures.join("; ")) };
    eprintln!("verdict: {verdict}: {}", results::sentence(&report));
    ensure!(failures.is_empty(), "{} of {} runs failed", failures.len(), runs.len());
    Ok(())
}

fn cpus(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<Cpus> {
    let allowed = fanblade_net::affinity::cpus_allowed()?;
    let half = allowed.len() / 2;
    let first = &allowed[..half.max(scenario.server_cpus as usize).min(allowed.len())];
    let second = &allowed[half..];
    let choose = |given: &[usize], usual: &[usize]| if given.is_empty() { usual.to_vec() } else { given.to_vec() };
    let cpus = Cpus { server: choose(&args.server_cpus, first), clients: choose(&args.client_cpus, second) };
    ensure!(!cpus.server.is_empty(), "server and clients need a CPU each; this process may use only {allowed:?}");
    for cpu in cpus.server.iter().chain(&cpus.clients) {
        ensure!(allowed.contains(cpu), "CPU {cpu} is not among those that may be used: {allowed:?}");
    }
    // In wire-to-wire runs, clients that share a CPU sleep.
    if scenario.kind != Kind::WireToWire && cpus.server.iter().any(|cpu| cpus.clients.contains(cpu)) {
        bail!(
            "the server's CPUs {:?} and the clients' CPUs {:?} overlap: the two would disturb each other",
            cpus.server,
            cpus.clients
        );
    }
    Ok(cpus)
}
