//! A run without messages: everybody connects at once, again and again. The same clients also connect to a bare loop
//! that accepts and upgrades and does nothing else: the least that any server on kernel sockets costs.

pub(crate) mod bare;

use std::time::Duration;

use anyhow::Context as _;
use fanblade_measure::cpu_time::cpu_time;
use fanblade_measure::report::{Spread, rounded};
use serde_json::{Value, json};

use super::cpus::Cpus;
use super::definition::Scenario;
use super::load::Load;
use super::results::Run;
use super::server::{Manners, ServerKind};

pub(super) fn run(scenario: &Scenario, kind: ServerKind, cpus: &Cpus) -> anyhow::Result<Run> {
    let bare = bare::Bare::start(scenario, cpus)?;
    let bare_cycles = cycles(scenario, cpus, &bare.manners(), || cpu_time(&[bare.pid()]))?;
    drop(bare);
    let mut server = kind.start(scenario, &cpus.server)?;
    let subscribing = server.manners();
    let upgrading = Manners {
        preamble: "0".to_owned(),
        subscribe: Vec::new(),
        target: path(&subscribing.target),
        ..subscribing.clone()
    };
    let pids = server.pids();
    let server_cycles = cycles(scenario, cpus, &upgrading, || cpu_time(&pids))?;
    let subscribing_cycles = cycles(scenario, cpus, &subscribing, || cpu_time(&pids))?;
    let (counters, configuration) = (server.counters()?, server.configuration());
    server.kill();
    let median = |cycles: &[Cycle], of: fn(&Cycle) -> f64| Spread::of(cycles.iter().map(of)).unwrap_or_default().median;
    let rate = |cycles: &[Cycle]| median(cycles, |cycle| cycle.per_s);
    let cost = |cycles: &[Cycle]| median(cycles, |cycle| cycle.cpu_us);
    let (server_rate, bare_rate) = (rate(&server_cycles), rate(&bare_cycles));
    let (server_cost, bare_cost) = (cost(&server_cycles), cost(&bare_cycles));
    let figures = json!({
        "server_upgrades_per_s": rounded(server_rate, 0),
        "bare_upgrades_per_s": rounded(bare_rate, 0),
        "server_to_bare_rate": rounded(server_rate / bare_rate, 3),
        "server_cpu_us_per_upgrade": rounded(server_cost, 2),
        "bare_cpu_us_per_upgrade": rounded(bare_cost, 2),
        "subscribing_per_s": rounded(rate(&subscribing_cycles), 0),
        "subscribing_cpu_us": rounded(cost(&subscribing_cycles), 2),
        "server_handshake_us": server_cycles.last().map(|it| it.handshake.clone()),
        "bare_handshake_us": bare_cycles.last().map(|it| it.handshake.clone()),
        "server_counters": counters,
    });
    let summary = format!(
        "{server_rate:.0} upgrades a second at {server_cost:.1} µs of server CPU; the bare loop {bare_rate:.0} at \
         {bare_cost:.1} µs"
    );
    Ok(Run { cost_us: server_cost, figures, configuration, summary, failure: None })
}

/// One cycle, in which everybody connected.
struct Cycle {
    per_s: f64,
    cpu_us: f64,
    handshake: Value,
}

fn cycles(
    scenario: &Scenario,
    cpus: &Cpus,
    manners: &Manners,
    cpu: impl Fn() -> anyhow::Result<Duration>,
) -> anyhow::Result<Vec<Cycle>> {
    let count = scenario.cycles.to_string();
    let mut before = cpu()?;
    let mut load = Load::start(scenario, manners, &cpus.clients, &["--cycles", &count])?;
    let mut cycles = Vec::new();
    for _ in 0..scenario.cycles {
        let opened = load.event("opened")?;
        // Includes the closing of the cycle before, which is part of a storm.
        let now = cpu()?;
        let per_s = opened["upgrades_per_s"].as_f64().context("the swarm's event `opened` lacks the rate")?;
        let cpu_us = (now - before).as_secs_f64() * 1e6 / f64::from(scenario.subscribers);
        cycles.push(Cycle { per_s, cpu_us, handshake: opened["handshake_us"].clone() });
        before = now;
    }
    load.event("report")?;
    load.end()?;
    // Time for the server to see that the clients have gone before the next cycle begins.
    std::thread::sleep(Duration::from_secs(1));
    Ok(cycles)
}

/// The path without the query, because the query subscribes.
fn path(target: &str) -> String {
    target.split('?').next().unwrap_or_default().to_owned()
}
