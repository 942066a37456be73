//! Lists that differ from session to session: what such a session costs beside the bare loop with the same lists, and
//! what a change of a list costs. Both are measured apart from the latencies, with both servers running at the same
//! time.

use std::time::Duration;

use fanblade_measure::report::rounded;
use fanblade_measure::sys::pin;
use serde_json::{Value, json};

use super::cpus::Cpus;
use super::definition::{Scenario, Watchlists};
use super::server::{Predicted, ServerKind};
use crate::floor::mode;
use crate::peers::rounds::{self, Player, Rounds};

/// Measures in a thread of its own, on the clients' CPU.
pub(super) fn beside_bare(scenario: &Scenario, kind: ServerKind, cpus: &Cpus) -> anyhow::Result<Value> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            cpus.clients.first().map_or(Ok(()), |cpu| pin(*cpu))?;
            measure(scenario, kind, cpus)
        });
        thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread of the clients has panicked")))
    })
}

fn measure(scenario: &Scenario, kind: ServerKind, cpus: &Cpus) -> anyhow::Result<Value> {
    let start = |kind: ServerKind, scenario: &Scenario| Player::start(kind, scenario, &cpus.server, SETTLING);
    let mut players = vec![start(ServerKind::Bare, scenario)?, start(kind, scenario)?];
    let mut figures = json!({});
    for backlog in [1, 8] {
        let payload_bytes = u16::try_from(scenario.payload_bytes).unwrap_or(u16::MAX);
        let rounds = Rounds { rounds: ROUNDS, warmup_rounds: WARMUP_ROUNDS, payload_bytes, backlog };
        let costs = rounds::play(&mut players, &rounds)?;
        let [bare, server] = costs[..] else { anyhow::bail!("not two players") };
        eprintln!("  {}: bare loop {bare:.2} µs, {} {server:.2} µs", mode(backlog), kind.name());
        figures[mode(backlog)] = json!({
            "bare_cpu_us": rounded(bare, 3),
            "cpu_us": rounded(server, 3),
            "ratio": rounded(server / bare, 3),
        });
    }
    let Some(mut server) = players.pop() else { anyhow::bail!("no player") };
    players.into_iter().try_for_each(Player::finish)?;
    let changes_lists = server.changes_lists();
    if changes_lists {
        figures["change"] = change(&mut server, scenario)?;
    }
    let left = server.finish_and_settle()?;
    eprintln!("  {left:.0} bytes a session are left once all have gone");
    figures["bytes_per_session_left"] = rounded(left, 1);
    if changes_lists {
        let scenario = with_long_lists(scenario);
        let mut server = start(kind, &scenario)?;
        figures["change_of_a_long_list"] = change(&mut server, &scenario)?;
        server.finish()?;
    }
    Ok(figures)
}

/// CPU per change of a list, while nothing is published.
fn change(server: &mut Player, scenario: &Scenario) -> anyhow::Result<Value> {
    let changes = u64::from(scenario.subscribers).clamp(CHANGES_MIN, CHANGES_MAX);
    let cpu_us = server.change(changes)?;
    let len = scenario.subjects_per_session();
    eprintln!("  {changes} changes of lists of {len}: {cpu_us:.1} µs each");
    Ok(json!({
        "subjects_per_session": len,
        "subscribers": scenario.subscribers,
        "changes": changes,
        "cpu_us": rounded(cpu_us, 2),
    }))
}

/// The scenario with fewer sessions and longer lists: what a change costs must not grow with the list.
fn with_long_lists(scenario: &Scenario) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.subscribers = scenario.subscribers.min(LONG_LIST_SUBSCRIBERS_MAX);
    if let Some(watchlists) = &mut scenario.watchlists {
        watchlists.subjects_per_session = LONG_LIST.min(scenario.subjects - 1);
    }
    scenario
}

/// User memory of a subscription: the growth of the server's process per session, less what the code predicts for the
/// session itself, divided by the session's subscriptions.
pub(super) fn bytes_per_subscription(
    watchlists: Watchlists,
    per_session: f64,
    after_messages: f64,
    predicted: Option<Predicted>,
) -> Value {
    let each = f64::from(watchlists.subjects_per_session);
    let without = |bytes: f64| predicted.map(|it| rounded((bytes - it.session as f64) / each, 1));
    json!({
        "measured": without(per_session),
        "measured_after_messages": without(after_messages),
        "predicted": predicted.and_then(|it| it.subscription).map(|bytes| rounded(bytes, 1)),
        "with_its_share_of_the_session": rounded(per_session / each, 1),
        "session_predicted": predicted.map(|it| it.session),
    })
}

const ROUNDS: u32 = 10;
const WARMUP_ROUNDS: u32 = 2;
const CHANGES_MIN: u64 = 1_000;
const CHANGES_MAX: u64 = 20_000;
const LONG_LIST: u32 = 200;
const LONG_LIST_SUBSCRIBERS_MAX: u32 = 5_000;
/// Time between the last subscription and the first message.
const SETTLING: Duration = Duration::from_secs(1);
