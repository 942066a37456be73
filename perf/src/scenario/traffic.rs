//! A run with messages.

use std::time::Duration;

use anyhow::Context as _;
use fanblade_measure::cpu_time::cpu_time;
use fanblade_measure::memory::{KernelMemory, UserMemory};
use fanblade_swarm::EngineKind;
use fanblade_swarm::plan::Habit;
use fanblade_swarm::window::Window;
use fanblade_wire::UnixNs;
use serde_json::{Value, json};

use super::cpus::Cpus;
use super::definition::Scenario;
use super::load::Load;
use super::publisher::{Published, Publisher, Schedule};
use super::results::{Memory, Run, Traffic};
use super::server::{Server, ServerKind};
use super::watchlists;

pub(super) fn run(scenario: &Scenario, kind: ServerKind, cpus: &Cpus) -> anyhow::Result<Run> {
    let mut server = kind.start(scenario, &cpus.server)?;
    let mut outlet = server.outlet()?;
    // Measured before the clients start: the ring's pages, the subjects and the rest of earlier runs do not belong to
    // the sessions.
    let (kernel_before, user_before) = (settled()?, user_memory(server.as_ref())?);
    // The clients connect and subscribe.
    let mut load = Load::start(scenario, &server.manners(), &cpus.clients, &[])?;
    let opened = load.event("opened").with_context(|| counters(server.as_mut()))?;
    eprintln!("  {} clients connected, {} a second", opened["connections"], opened["per_s"]);
    // The publisher begins; the swarm says which window counts.
    outlet.flush()?;
    let schedule = Schedule {
        subjects: scenario.subjects,
        payload_len: scenario.payload_bytes as usize,
        names_subjects: scenario.watchlists.is_some(),
        phases: scenario.phases.clone(),
        cpu: cpus.clients.last().copied(),
    };
    let publisher = Publisher::start(schedule, outlet)?;
    let event = load.event("window")?;
    let at = |name: &str| event[name].as_u64().context("the swarm's event `window` lacks its times");
    let window = Window { from_ns: at("from_ns")?, to_ns: at("to_ns")? };
    publisher.count(window);
    // Measured within the warm-up, before much has been published.
    let mut memory = Memory {
        user: user_memory(server.as_ref())?.saturating_sub(user_before),
        kernel_before,
        kernel_open: KernelMemory::now()?,
        kernel_without_server: None,
    };
    // The server's CPU time over the window.
    sleep_until(window.from_ns)?;
    let from = cpu_time(&server.pids())?;
    sleep_until(window.to_ns)?;
    let cpu = cpu_time(&server.pids())? - from;
    // The swarm reports when nothing more comes. Then the publisher stops, and the server and the clients end.
    let mut report = load.event("report")?;
    let user_at_end = user_memory(server.as_ref())?.saturating_sub(user_before);
    let published = publisher.stop()?;
    let counters = server.counters()?;
    let (configuration, predicted) = (server.configuration(), server.predicted());
    server.kill();
    if scenario.split_memory {
        memory.kernel_without_server = Some(settled()?);
    } else if scenario.engine == EngineKind::Xdp {
        // The server's connections end while the clients can still answer; otherwise they would last for a minute.
        settled()?;
    }
    load.end()?;
    drop(server);
    // Was everything delivered that was due?
    let failure = match scenario.watchlists {
        None => {
            let expected = expected(scenario, &published);
            failure(scenario, &mut report, expected)
        }
        Some(lists) => {
            let each = |bytes: u64| bytes as f64 / f64::from(scenario.subscribers);
            let (idle, at_end) = (each(memory.user), each(user_at_end));
            let bytes = watchlists::bytes_per_subscription(lists, idle, at_end, predicted);
            report["bytes_per_subscription"] = bytes;
            let failure = failure_of_lists(scenario, &mut report, &published);
            report["beside_bare"] =
                watchlists::beside_bare(scenario, kind, cpus).context("cannot measure beside the bare loop")?;
            failure
        }
    };
    let traffic = Traffic { opened, report, published, cpu, memory, counters, configuration, failure };
    Ok(traffic.into_run(scenario))
}

/// What readers must have received: what was published of each subject, times its readers.
fn expected(scenario: &Scenario, published: &Published) -> u64 {
    let (subjects, habits) = (scenario.subjects(), scenario.habits());
    let readers = (0..scenario.subscribers).filter(|&client| habits.of(client) == Habit::Reader);
    readers.map(|client| u64::from(published.counts[subjects.of(client) as usize])).sum()
}

/// What the swarm complains of, and what it cannot know: messages that nobody received.
fn failure(scenario: &Scenario, report: &mut Value, expected: u64) -> Option<String> {
    let delivered = report["delivered"].as_u64().unwrap_or(0);
    let lost = expected.saturating_sub(delivered);
    report["expected"] = expected.into();
    report["lost"] = lost.max(report["lost"].as_u64().unwrap_or(0)).into();
    let verdict = report["verdict"].as_str().unwrap_or_default();
    if verdict != "ok" {
        return Some(verdict.trim_start_matches("FAILED: ").to_owned());
    }
    if delivered > expected {
        return Some(format!("{delivered} messages were delivered, but only {expected} were due"));
    }
    let is_idle = scenario.phases.is_empty();
    (lost > 0 || (delivered == 0 && !is_idle)).then(|| format!("{lost} of {expected} messages were not delivered"))
}

/// The same if clients have lists: the swarm itself knows what each should get, except for messages that nobody
/// received.
fn failure_of_lists(scenario: &Scenario, report: &mut Value, published: &Published) -> Option<String> {
    let seen = report["subjects_seen"].take();
    let Some(all) = report.as_object_mut() else { return Some("the swarm has reported nothing".to_owned()) };
    let due = all.remove("due").unwrap_or_default();
    all.remove("subjects_seen");
    let seen = seen.as_array().map_or(&[][..], Vec::as_slice);
    let (mut unseen, mut invented) = (0, 0);
    // A subject without a number is left out: nobody had it all the time.
    for (seen, count) in seen.iter().zip(&published.counts).filter_map(|(seen, count)| Some((seen.as_u64()?, *count))) {
        unseen += u64::from(count).saturating_sub(seen);
        invented += seen.saturating_sub(count.into());
    }
    report["expected"] = due;
    report["reached_nobody"] = unseen.into();
    let verdict = report["verdict"].as_str().unwrap_or_default();
    if verdict != "ok" {
        return Some(verdict.trim_start_matches("FAILED: ").to_owned());
    }
    if unseen + invented > 0 {
        return Some(format!("{unseen} messages reached nobody, and {invented} were never published"));
    }
    let (delivered, expected) = (report["delivered"].as_u64()?, report["expected"].as_u64()?);
    if delivered < expected || (expected == 0 && !scenario.phases.is_empty()) {
        return Some(format!("{delivered} messages were delivered, and at least {expected} were due"));
    }
    None
}

fn user_memory(server: &dyn Server) -> anyhow::Result<u64> {
    let of = |pid: u32| UserMemory::of(pid).map(|it| it.anonymous + it.io_uring);
    server.pids().into_iter().map(of).sum()
}

fn counters(server: &mut dyn Server) -> String {
    server.counters().unwrap_or_else(|error| json!(error.to_string())).to_string()
}

/// The kernel's memory, once it has stopped shrinking: sockets and rings are taken down after their process has ended.
fn settled() -> anyhow::Result<KernelMemory> {
    let mut memory = KernelMemory::now()?;
    for _ in 0..60 {
        std::thread::sleep(SETTLING);
        let now = KernelMemory::now()?;
        if memory.objects.abs_diff(now.objects) < 1 << 20 {
            return Ok(now);
        }
        memory = now;
    }
    Ok(memory)
}

fn sleep_until(ns: u64) -> anyhow::Result<()> {
    std::thread::sleep(Duration::from_nanos(ns.saturating_sub(UnixNs::now().0)));
    Ok(())
}

const SETTLING: Duration = Duration::from_millis(500);
