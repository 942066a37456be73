//! From runs to a result file.

use std::time::Duration;

use fanblade_measure::clock::microseconds;
use fanblade_measure::machine;
use fanblade_measure::memory::KernelMemory;
use fanblade_measure::report::{date, rounded};
use serde_json::{Value, json};

use super::cpus::Cpus;
use super::definition::{Kind, Scenario};
use super::publisher::Published;
use super::server::ServerKind;

/// One run, measured.
pub(super) struct Run {
    /// Orders the runs, to find the median one: the server's CPU per message, or per upgrade, or the median latency.
    pub(super) cost_us: f64,
    /// All figures of the run; the result has those of the median run.
    pub(super) figures: Value,
    /// How the server was configured.
    pub(super) configuration: Value,
    pub(super) summary: String,
    /// What went wrong.
    pub(super) failure: Option<String>,
}

/// Memory at several moments.
pub(super) struct Memory {
    /// By how many bytes the server's memory has grown.
    pub(super) user: u64,
    pub(super) kernel_before: KernelMemory,
    pub(super) kernel_open: KernelMemory,
    /// With only the clients' ends left.
    pub(super) kernel_without_server: Option<KernelMemory>,
}

impl Memory {
    fn figures(&self, subscribers: u32) -> Value {
        let each = |bytes: f64| rounded(bytes / f64::from(subscribers), 1);
        let grown = |before: u64, after: u64| each(after as f64 - before as f64);
        let server = self.kernel_without_server.as_ref();
        json!({
            "user": each(self.user as f64),
            "kernel": grown(self.kernel_before.slab, self.kernel_open.slab),
            "kernel_server_end": server.map(|it| grown(it.objects, self.kernel_open.objects)),
            "kernel_client_end": server.map(|it| grown(self.kernel_before.objects, it.objects)),
            "kernel_queues": grown(self.kernel_before.tcp_queues, self.kernel_open.tcp_queues),
        })
    }
}

/// What a run with messages has measured.
pub(super) struct Traffic {
    pub(super) opened: Value,
    pub(super) report: Value,
    pub(super) published: Published,
    pub(super) cpu: Duration,
    pub(super) memory: Memory,
    pub(super) counters: Value,
    pub(super) configuration: Value,
    pub(super) failure: Option<String>,
}

impl Traffic {
    pub(super) fn into_run(self, scenario: &Scenario) -> Run {
        let Traffic { opened, report: mut figures, published, cpu, memory, counters, configuration, failure } = self;
        let delivered = figures["delivered"].as_u64().unwrap_or(0);
        let others = ["slow", "stalled"].iter().filter_map(|class| figures[class]["delivered"].as_u64());
        let all = delivered + others.sum::<u64>();
        let cost_us = cpu.as_secs_f64() * 1e6 / all.max(1) as f64;
        let cpu_percent = 100.0 * cpu.as_secs_f64() / scenario.duration_s;
        let p99 = figures["latency_us"]["p99"].clone();
        if let Value::Object(figures) = &mut figures {
            figures.remove("event");
            let opening = ["seconds", "per_s", "handshake_us"].map(|name| (name.to_owned(), opened[name].clone()));
            let more = json!({
                "opening": serde_json::Map::from_iter(opening),
                "published": published.counts.iter().map(|count| u64::from(*count)).sum::<u64>(),
                "publisher_late_max_us": microseconds(published.late_max),
                "delivered_per_s": rounded(delivered as f64 / scenario.duration_s, 0),
                "cpu_us_per_message": (all > 0).then(|| rounded(cost_us, 3)),
                "server_cpu_percent": rounded(cpu_percent, 1),
                "bytes_per_session": memory.figures(scenario.subscribers),
                "server_counters": counters,
            });
            if let Value::Object(more) = more {
                figures.extend(more);
            }
        }
        let lost = &figures["lost"];
        let lists = lists_summary(&figures);
        let summary = if all == 0 {
            format!("held for {} s, {cpu_percent:.1} % of a core", scenario.duration_s)
        } else {
            format!(
                "{delivered} delivered, {lost} lost, {cost_us:.2} µs of server CPU each ({cpu_percent:.0} % of a core), \
                 p99 {p99} µs{lists}"
            )
        };
        Run { cost_us, figures, configuration, summary, failure }
    }
}

/// Further figures of a run with lists, for people.
fn lists_summary(figures: &Value) -> String {
    let beside = &figures["beside_bare"];
    if !beside.is_object() {
        return String::new();
    }
    format!(
        "; {} changes of lists; alone: {} times the bare loop, {} with a backlog of 8, {} µs a change, {} with long lists; {} bytes a subscription, \
         {} after messages",
        figures["changes"]["made"],
        beside["one"]["ratio"],
        beside["backlog_8"]["ratio"],
        beside["change"]["cpu_us"],
        beside["change_of_a_long_list"]["cpu_us"],
        figures["bytes_per_subscription"]["measured"],
        figures["bytes_per_subscription"]["measured_after_messages"],
    )
}

/// The result file. Its figures are those of the median run, by the server's CPU; its lost messages are those of all
/// runs.
pub(super) fn report(name: &str, scenario: &Scenario, server: ServerKind, cpus: &Cpus, runs: &[Run]) -> Value {
    let mut order: Vec<&Run> = runs.iter().collect();
    order.sort_by(|one, other| one.cost_us.total_cmp(&other.cost_us));
    let median = order[order.len() / 2];
    let mut report = json!({
        "measurement": "scenario",
        "scenario": name,
        "kind": scenario.kind,
        "title": scenario.title,
        "source": scenario.source,
        "remarks": scenario.remarks,
        "command": machine::command(),
        "date": date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "load_average": machine::load_average(),
        "server": server.name(),
        "configuration": median.configuration,
        "cpus": {"server": cpus.server, "clients": cpus.clients},
        "cpu_method": CPU_METHOD,
        "memory_method": MEMORY_METHOD,
        "lists_method": scenario.watchlists.map(|_| LISTS_METHOD),
        "subscribers": scenario.subscribers,
        "subjects": scenario.subjects,
        "assign": scenario.assign,
        "watchlists": scenario.watchlists,
        "payload_bytes": scenario.payload_bytes,
        "mode": scenario.mode,
        "phases": scenario.phases,
        "messages_per_s_of_a_subject": scenario.messages_per_s(),
        "warmup_s": scenario.warmup_s,
        "duration_s": scenario.duration_s,
        "published_by_others": scenario.published,
        "verdict": if runs.iter().all(|run| run.failure.is_none()) { "ok" } else { "FAILED" },
    });
    if let (Value::Object(report), Value::Object(figures)) = (&mut report, median.figures.clone()) {
        report.extend(figures.into_iter().filter(|(name, _)| !PER_RUN.contains(&name.as_str())));
    }
    if scenario.kind != Kind::Storm {
        let total: u64 = runs.iter().filter_map(|run| run.figures["lost"].as_u64()).sum();
        report["lost_in_all_runs"] = total.into();
    }
    report["spread"] = spread(runs);
    report["runs"] = runs.iter().map(brief).collect();
    report
}

/// Least and most over the runs.
fn spread(runs: &[Run]) -> Value {
    let mut spread = serde_json::Map::new();
    for pointer in SPREAD {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.figures.pointer(pointer)?.as_f64()).collect();
        let least = values.iter().copied().reduce(f64::min);
        let most = values.iter().copied().reduce(f64::max);
        if let Some((least, most)) = least.zip(most) {
            spread.insert(pointer[1..].replace('/', "_"), json!([least, most]));
        }
    }
    spread.into()
}

/// A run without its histograms, and what went wrong in it.
fn brief(run: &Run) -> Value {
    let mut figures = run.figures.clone();
    if let Value::Object(figures) = &mut figures {
        figures.retain(|name, _| !["latency_ccdf", "slow", "stalled", "server_counters"].contains(&name.as_str()));
        if let Some(position) = figures.get_mut("position").and_then(Value::as_object_mut) {
            position.remove("tenths_mean_us");
        }
        figures.insert("failure".to_owned(), json!(run.failure));
    }
    figures
}

/// One line for people.
pub(super) fn sentence(report: &Value) -> String {
    if report["kind"] == "storm" {
        return format!(
            "{} subscribers; {} connections a second, {} with the bare loop; {} µs of server CPU each, {} with the bare loop",
            report["subscribers"],
            report["server_upgrades_per_s"],
            report["bare_upgrades_per_s"],
            report["server_cpu_us_per_upgrade"],
            report["bare_cpu_us_per_upgrade"],
        );
    }
    if report["kind"] == "wire-to-wire" {
        let latency = &report["latency_us"];
        return format!(
            "{} subscribers; from the packet's receive stamp to the client: p50 {} p99 {} p99.9 {} max {} µs; {} lost",
            report["subscribers"],
            latency["p50"],
            latency["p99"],
            latency["p999"],
            latency["max"],
            report["lost_in_all_runs"],
        );
    }
    let memory = &report["bytes_per_session"];
    if report["latency_us"].is_null() {
        return format!(
            "{} subscribers held; bytes per session: user {}, kernel {}, its server's end {}",
            report["subscribers"], memory["user"], memory["kernel"], memory["kernel_server_end"],
        );
    }
    let latency = &report["latency_us"];
    format!(
        "{} subscribers, {} messages a second, {} lost; {} µs of server CPU each; latency p50 {} p99 {} p99.9 {} max {} µs; \
         bytes per session: user {}, kernel {}",
        report["subscribers"],
        report["delivered_per_s"],
        report["lost_in_all_runs"],
        report["cpu_us_per_message"],
        latency["p50"],
        latency["p99"],
        latency["p999"],
        latency["max"],
        memory["user"],
        memory["kernel"],
    ) + &lists_summary(report)
}

const CPU_METHOD: &str = "CPU time of the server's processes over the window (user and system, all threads, by \
    CLOCK_PROCESS_CPUTIME_ID); on loopback a send does the softirq work of both directions before it returns, so that \
    this time holds it (kernels without CONFIG_IRQ_TIME_ACCOUNTING); divided by all messages delivered";
const MEMORY_METHOD: &str = "growth from before the first connection to after the last subscription, divided by the \
    subscribers; user: anonymous memory and io_uring queues of the server's processes by smaps; kernel: Slab of \
    /proc/meminfo, both ends of a connection, or the only one by the xdp engine; its ends apart: objects in use by \
    /proc/slabinfo, which fall by the server's end when the server is killed and its clients stay; queues: bytes in TCP sockets by /proc/net/sockstat";
const LISTS_METHOD: &str = "beside_bare: the server's CPU per delivered message without changes of lists, and the bare \
    loop's with the same lists in the same run; both are there at once and take turns, a round each: messages of one \
    subject after the other (backlog_8: of eight subjects with one write) until every subscriber has had one on average; \
    the next is published when everybody who wants the last has it. change: CPU per unsubscribe and subscribe, with the \
    snapshot, sixteen at a time and nothing published; change_of_a_long_list: the same of fewer sessions with longer \
    lists. bytes_per_session_left: what the server has not given back once all sessions have ended. \
    bytes_per_subscription: user bytes per session less the predicted ones of the session itself, divided by its \
    subjects. cpu_us_per_message, of the window, holds the changes, too";
/// Figures that only the single runs have.
const PER_RUN: [&str; 2] = ["verdict", "connections"];
const SPREAD: [&str; 18] = [
    "/cpu_us_per_message",
    "/delivered_per_s",
    "/latency_us/p50",
    "/latency_us/p99",
    "/latency_us/p999",
    "/latency_us/max",
    "/latency_us/mean",
    "/opening/per_s",
    "/bytes_per_session/user",
    "/server_upgrades_per_s",
    "/server_cpu_us_per_upgrade",
    "/bytes_per_subscription/measured",
    "/bytes_per_subscription/measured_after_messages",
    "/beside_bare/one/ratio",
    "/beside_bare/backlog_8/ratio",
    "/beside_bare/change/cpu_us",
    "/beside_bare/change_of_a_long_list/cpu_us",
    "/beside_bare/bytes_per_session_left",
];
