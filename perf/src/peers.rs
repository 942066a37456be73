//! `peers`: server CPU per delivered message and user memory per idle session of other servers, beside the blade's data
//! path and a bare loop, all in one run on one machine.
//!
//! All servers are treated alike: the server has one CPU, and the clients, who spin, another. A message (or several at
//! once) is published, and the next one only when every client has all of them; nothing is idle, and nothing waits for
//! a clock. The servers take turns within each run, so that a machine that changes its speed changes it for all.

mod args;
mod contestant;
mod crowd;
mod report;
pub(crate) mod rounds;
mod sample;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fanblade_measure::cpu_time::cpu_time;
use fanblade_measure::memory::UserMemory;
use fanblade_measure::sys::pin;
use fanblade_wire::UnixNs;
use serde_json::Value;

use crate::floor::{self, EngineKind};
use crate::scenario::server::Server;
use crate::scenario::{Scenario, ServerKind, message, room};
pub(crate) use args::PeersArgs;
use contestant::{BLADE, Contestant, Missing};
use crowd::Crowd;
pub(crate) use report::WITH_LISTS;
use rounds::{Player, Rounds};
use sample::Sample;

pub(crate) fn run(args: &PeersArgs) -> anyhow::Result<()> {
    let cpus = fanblade_net::affinity::cpus_allowed()?;
    let PeersArgs { server_cpu, client_cpu, .. } = *args;
    ensure!(server_cpu != client_cpu, "server and clients need a CPU each: --server-cpu, --client-cpu");
    ensure!(
        cpus.contains(&server_cpu) && cpus.contains(&client_cpu),
        "CPUs {server_cpu} and {client_cpu} must be among those that may be used: {cpus:?}"
    );
    let scenario = scenario(args)?;
    room::check(&scenario).context("this machine is too small")?;
    fanblade_net::rlimit::raise_descriptors()?;
    pin(args.client_cpu)?;
    let (mut contestants, absent) = contestants(args, &scenario)?;
    if args.subjects_per_session.is_some() {
        let samples = with_lists(args, &scenario, &contestants)?;
        return report::write(args, &contestants, &samples, &absent, &[]);
    }
    let (mut samples, mut failures) = (Vec::new(), Vec::new());
    for run in 1..=args.runs {
        for &payload_bytes in &args.payloads {
            // A contestant that has failed is not tried again.
            contestants.retain(|contestant| match measure(args, &scenario, *contestant, payload_bytes) {
                Ok(sample) => {
                    eprintln!("run {run}  {}", report::line(args, &sample));
                    samples.push(sample);
                    true
                }
                Err(error) => {
                    eprintln!("run {run}  {}: {error:#}", contestant.name());
                    failures.push(Missing { name: contestant.name(), why: format!("{error:#}") });
                    false
                }
            });
        }
    }
    report::write(args, &contestants, &samples, &absent, &failures)
}

/// Measures all contestants at once, in turns.
fn with_lists(args: &PeersArgs, scenario: &Scenario, contestants: &[Contestant]) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for run in 1..=args.runs {
        let mut players = Vec::new();
        for contestant in contestants {
            let kind = match contestant {
                Contestant::Bare => ServerKind::Bare,
                Contestant::Server(kind) => *kind,
            };
            let settle = Duration::from_secs_f64(args.settle);
            let player = Player::start(kind, scenario, &[args.server_cpu], settle);
            players.push(player.with_context(|| contestant.name())?);
        }
        let idle = players.iter().map(Player::session_bytes).collect::<anyhow::Result<Vec<_>>>()?;
        for &payload_bytes in &args.payloads {
            let mut costs = vec![Vec::new(); players.len()];
            for &backlog in &args.backlogs {
                let (rounds, warmup_rounds) = (args.rounds, args.warmup_rounds);
                let rounds = Rounds { rounds, warmup_rounds, payload_bytes, backlog };
                let of_mode = rounds::play(&mut players, &rounds)?;
                costs.iter_mut().zip(of_mode).for_each(|(costs, cost)| costs.push(cost));
            }
            for (((contestant, player), idle), cpu_us) in contestants.iter().zip(&players).zip(&idle).zip(costs) {
                // The bare loop has an array of sockets, but no sessions.
                let has_sessions = *contestant != Contestant::Bare;
                let session_bytes = has_sessions.then_some(*idle);
                let bytes_after_messages = has_sessions.then_some(player.session_bytes()?);
                let (contestant, configuration) = (*contestant, player.configuration());
                let sample =
                    Sample { contestant, payload_bytes, cpu_us, session_bytes, bytes_after_messages, configuration };
                eprintln!("run {run}  {}", report::line(args, &sample));
                samples.push(sample);
            }
        }
        players.into_iter().try_for_each(Player::finish)?;
    }
    Ok(samples)
}

/// One subject and no pings: other scenarios measure those.
fn scenario(args: &PeersArgs) -> anyhow::Result<Scenario> {
    let subscribers = args.subscribers;
    let (subjects, lists) = match args.subjects_per_session {
        None => (1, String::new()),
        Some(count) => {
            let exponent = args.exponent;
            (args.subjects, format!("[watchlists]\nsubjects_per_session = {count}\nexponent = {exponent:?}\n"))
        }
    };
    let text = format!(
        "title = 'peers'\nsource = ''\nsubscribers = {subscribers}\nsubjects = {subjects}\nassign = 'in-turn'\nwarmup_s = 0.0\n\
         duration_s = 0.0\n[blade.limits]\nping_interval_ms = 3600000\n{lists}"
    );
    let scenario = Scenario { peer_path: args.peer_path.clone(), ..toml::from_str(&text)? };
    scenario.check()?;
    Ok(scenario)
}

/// The bare loop, the blade, and the peers that can be started here. A peer that was asked for must be among them.
fn contestants(args: &PeersArgs, scenario: &Scenario) -> anyhow::Result<(Vec<Contestant>, Vec<Missing>)> {
    let mut all = vec![Contestant::Bare, BLADE];
    let mut absent = Vec::new();
    let takes_lists = |kind: &&ServerKind| args.subjects_per_session.is_none() || **kind == ServerKind::Tungstenite;
    let usual = USUAL
        .iter()
        .filter(takes_lists)
        .chain(args.peer_path.as_ref().map(|_| &ServerKind::Uwebsockets))
        .copied()
        .collect();
    let peers = if args.servers.is_empty() { usual } else { args.servers.clone() };
    for kind in peers {
        if all.iter().any(|contestant| contestant.name() == kind.name()) {
            continue;
        }
        match kind.start(scenario, &[args.server_cpu]) {
            Ok(_) => all.push(Contestant::Server(kind)),
            Err(error) if args.servers.is_empty() => {
                eprintln!("{} is left out: {error:#}", kind.name());
                absent.push(Missing { name: kind.name(), why: format!("{error:#}") });
            }
            Err(error) => bail!("{}: {error:#}", kind.name()),
        }
    }
    Ok((all, absent))
}

fn measure(
    args: &PeersArgs,
    scenario: &Scenario,
    contestant: Contestant,
    payload_bytes: u16,
) -> anyhow::Result<Sample> {
    let Contestant::Server(kind) = contestant else { return bare(args, payload_bytes) };
    let mut server = kind.start(scenario, &[args.server_cpu])?;
    let sample = measure_server(args, scenario, contestant, payload_bytes, server.as_mut());
    sample.with_context(|| server.counters().unwrap_or_default().to_string())
}

fn measure_server(
    args: &PeersArgs,
    scenario: &Scenario,
    contestant: Contestant,
    payload_bytes: u16,
    server: &mut dyn Server,
) -> anyhow::Result<Sample> {
    let mut outlet = server.outlet()?;
    std::thread::sleep(SETTLING);
    let before = user_bytes(server)?;
    let mut crowd = Crowd::open(&server.manners(), scenario)?;
    crowd.idle(Duration::from_secs_f64(args.settle))?;
    let session_bytes = user_bytes(server)?.saturating_sub(before) as f64 / f64::from(args.subscribers);
    let pids = server.pids();
    let mut payload = Vec::new();
    let mut number = 0;
    let mut cpu_us = Vec::new();
    for &backlog in &args.backlogs {
        let mut round = || {
            for _ in 0..backlog {
                number += 1;
                message::write(&mut payload, None, number, UnixNs::now().0, payload_bytes.into());
                outlet.publish(0, &payload)?;
            }
            outlet.flush()?;
            crowd.await_messages(number)
        };
        (0..args.warmup_rounds).try_for_each(|_| round())?;
        let before = cpu_time(&pids)?;
        (0..args.rounds).try_for_each(|_| round())?;
        let cpu = cpu_time(&pids)? - before;
        let messages = f64::from(args.rounds) * f64::from(backlog) * f64::from(args.subscribers);
        cpu_us.push(cpu.as_secs_f64() * 1e6 / messages);
    }
    crowd.finish()?;
    let configuration = server.configuration();
    let (session_bytes, bytes_after_messages) = (Some(session_bytes), None);
    Ok(Sample { contestant, payload_bytes, cpu_us, session_bytes, bytes_after_messages, configuration })
}

fn bare(args: &PeersArgs, payload_bytes: u16) -> anyhow::Result<Sample> {
    let measured = floor::Measured {
        subscribers: args.subscribers,
        payload_bytes,
        rounds: args.rounds,
        warmup_rounds: args.warmup_rounds,
        backlogs: args.backlogs.clone(),
        server_cpu: args.server_cpu,
        client_cpu: args.client_cpu,
        spin_us: 0,
    };
    let samples = floor::measure(&measured, EngineKind::Uring, &[floor::ServerKind::Bare])?;
    Ok(Sample {
        contestant: Contestant::Bare,
        payload_bytes,
        cpu_us: samples.iter().map(|sample| sample.cpu_ns_per_message / 1e3).collect(),
        session_bytes: None,
        bytes_after_messages: None,
        configuration: Value::Null,
    })
}

fn user_bytes(server: &dyn Server) -> anyhow::Result<u64> {
    server.pids().into_iter().map(|pid| Ok(UserMemory::of(pid)?.pss)).sum()
}

const USUAL: [ServerKind; 4] = [ServerKind::Tungstenite, ServerKind::Nats, ServerKind::Nchan, ServerKind::Mosquitto];
/// What a server does after its start must not count for the sessions.
const SETTLING: Duration = Duration::from_millis(300);
