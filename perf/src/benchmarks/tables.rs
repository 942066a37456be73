//! The generated part of docs/BENCHMARKS.md.

use std::fmt::Write as _;

use serde_json::Value;

use super::results::ResultFile;

/// All scenarios, each with its results and what others have published of it.
pub(super) fn markdown(results: &[ResultFile]) -> String {
    let mut page = String::new();
    if results.is_empty() {
        return "No results yet.\n".to_owned();
    }
    page += "![Messages a second against connections](plots/throughput.svg)\n";
    page += "![Memory of a session against connections](plots/memory.svg)\n";
    for of_one in results.chunk_by(|one, other| one.text("scenario") == other.text("scenario")) {
        let Some(first) = of_one.first() else { continue };
        // Writing into a string cannot fail.
        let _ = write!(page, "\n### {}: {}\n\n", first.text("scenario"), first.text("title"));
        let _ = writeln!(page, "{}", about(first));
        page += &match first.text("kind") {
            "storm" => storm(of_one),
            "wire-to-wire" => wire(of_one),
            _ => traffic(of_one),
        };
        page += &watchlists(of_one);
        let ours: Vec<String> = of_one.iter().map(|it| format!("[{0}](../perf/results/{0})", it.file)).collect();
        let _ = write!(page, "\nFrom {}", ours.join(", "));
        let _ = writeln!(page, "; `{}`.", first.text("command"));
        if of_one.iter().any(has_latencies) {
            let name = first.text("scenario");
            let _ = writeln!(page, "\n![Latency, {name}](plots/latency-{name}.svg)");
        }
    }
    page
}

/// Whether there is a distribution to plot.
pub(super) fn has_latencies(result: &ResultFile) -> bool {
    result.result["latency_ccdf"].as_array().is_some_and(|points| !points.is_empty())
}

fn about(scenario: &ResultFile) -> String {
    let source = match scenario.text("source").split_once("https://") {
        // Not every reader turns bare addresses into links.
        Some(("", _)) => format!("Source: [{0}]({0}).", scenario.text("source")),
        _ => format!("Source: {}.", scenario.text("source")),
    };
    match scenario.text("remarks") {
        "" => format!("{source}\n"),
        remarks => format!("{source} {remarks}\n"),
    }
}

fn traffic(results: &[ResultFile]) -> String {
    let mut table = String::from(
        "| system | cores | subscribers | messages/s | a core | CPU µs each | mean ms | p50 | p99 | p99.9 | p99.99 | max \
         | lost | bytes a session, user / kernel |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for it in results {
        let cores = it.result["cpus"]["server"].as_array().map_or(0, Vec::len);
        let ms = |name: &str| decimal(it.number(&format!("/latency_us/{name}")).map(|us| us / 1e3), 2);
        let per_s = it.number("/delivered_per_s").filter(|per_s| *per_s > 0.0);
        let memory = |name: &str| decimal(it.number(&format!("/bytes_per_session/{name}")), 0);
        let clients = if it.text("engine") == "xdp" { ", clients without sockets" } else { "" };
        let _ = writeln!(
            table,
            "| **{}**{clients} | {cores} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} / {} |",
            it.text("server"),
            whole(it.number("/subscribers")),
            whole(per_s),
            whole(per_s.map(|per_s| per_s / cores.max(1) as f64)),
            with_spread(it, "cpu_us_per_message", 2),
            ms("mean"),
            ms("p50"),
            ms("p99"),
            ms("p999"),
            ms("p9999"),
            ms("max"),
            whole(it.number("/lost_in_all_runs")),
            memory("user"),
            memory("kernel"),
        );
    }
    let published = results.first().and_then(|it| it.result["published_by_others"].as_array());
    // Others publish neither CPU time nor losses.
    for it in published.into_iter().flatten() {
        let number = |name: &str| it[name].as_f64();
        let ms = |name: &str| decimal(it["latency_ms"][name].as_f64(), 1);
        let a_core = number("messages_per_s").zip(number("cores")).map(|(per_s, cores)| per_s / cores);
        let _ = writeln!(
            table,
            "| {}, {} | {} | {} | {} | {} | – | {} | {} | {} | {} | – | {} | – | – |",
            it["system"].as_str().unwrap_or_default(),
            it["machine"].as_str().unwrap_or_default(),
            whole(number("cores")),
            whole(number("subscribers")),
            whole(number("messages_per_s")),
            whole(a_core),
            ms("mean"),
            ms("p50"),
            ms("p99"),
            ms("p999"),
            ms("max"),
        );
    }
    table
}

/// What lists that differ between sessions cost, for results with such lists.
fn watchlists(results: &[ResultFile]) -> String {
    let with_lists: Vec<&ResultFile> = results.iter().filter(|it| it.result["watchlists"].is_object()).collect();
    if with_lists.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "\n| system | subscribers | subjects each | bytes a subscription, idle / after messages / predicted | bytes a session left \
         once all have gone | CPU µs a message beside the bare loop, one at a time | backlog of 8 | CPU µs a change of a list \
         | changes made | replied after ms, p50 / p99 |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for it in with_lists {
        let beside = |mode: &str| {
            let figure = |name: &str| decimal(it.number(&format!("/beside_bare/{mode}/{name}")), 2);
            let ratio = decimal(it.number(&format!("/beside_bare/{mode}/ratio")), 3);
            format!("{} : {} = {ratio}", figure("cpu_us"), figure("bare_cpu_us"))
        };
        let ms = |name: &str| decimal(it.number(&format!("/changes/reply_us/{name}")).map(|us| us / 1e3), 2);
        let change = |name: &str| {
            let figure = |figure: &str| it.number(&format!("/beside_bare/{name}/{figure}"));
            let len = figure("subjects_per_session")?;
            Some(format!("{} of {}", decimal(figure("cpu_us"), 1), whole(Some(len))))
        };
        let changes: Vec<String> = ["change", "change_of_a_long_list"].into_iter().filter_map(change).collect();
        let _ = writeln!(
            table,
            "| **{}** | {} | {} of {} | {} / {} / {} | {} | {} | {} | {} | {} | {} / {} |",
            it.text("server"),
            whole(it.number("/subscribers")),
            whole(it.number("/watchlists/subjects_per_session")),
            whole(it.number("/subjects")),
            decimal(it.number("/bytes_per_subscription/measured"), 1),
            decimal(it.number("/bytes_per_subscription/measured_after_messages"), 1),
            decimal(it.number("/bytes_per_subscription/predicted"), 1),
            whole(it.number("/beside_bare/bytes_per_session_left")),
            beside("one"),
            beside("backlog_8"),
            changes.join(", "),
            whole(it.number("/changes/made")),
            ms("p50"),
            ms("p99"),
        );
    }
    table
}

fn storm(results: &[ResultFile]) -> String {
    let mut table = String::from(
        "| server | subscribers | upgrades/s | bare loop | ratio | CPU µs each | bare loop | with a subscription/s |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for it in results {
        let _ = writeln!(
            table,
            "| **{}** | {} | {} | {} | {} | {} | {} | {} |",
            it.text("server"),
            whole(it.number("/subscribers")),
            whole(it.number("/server_upgrades_per_s")),
            whole(it.number("/bare_upgrades_per_s")),
            decimal(it.number("/server_to_bare_rate"), 3),
            with_spread(it, "server_cpu_us_per_upgrade", 1),
            decimal(it.number("/bare_cpu_us_per_upgrade"), 1),
            whole(it.number("/subscribing_per_s")),
        );
    }
    table
}

fn wire(results: &[ResultFile]) -> String {
    let mut table = String::from(
        "| subscribers | p50 µs | p99 | p99.9 | max | packet to ring, p50 / p99 | ring to frame | frame to client \
         | first of the fan-out | last | lost |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for it in results {
        let us = |pointer: &str| decimal(it.number(pointer), 1);
        let both = |of: &str| format!("{} / {}", us(&format!("/{of}/p50")), us(&format!("/{of}/p99")));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            whole(it.number("/subscribers")),
            with_spread(it, "latency_us_p50", 1),
            with_spread(it, "latency_us_p99", 1),
            us("/latency_us/p999"),
            us("/latency_us/max"),
            both("stages_us/kernel_to_publish"),
            both("stages_us/publish_to_frame"),
            both("stages_us/frame_to_client"),
            both("position/first_us"),
            both("position/last_us"),
            whole(it.number("/lost_in_all_runs")),
        );
    }
    table
}

/// `5.25 (5.00 to 5.50)`: the figure of the median run, and the least and most of all runs.
fn with_spread(it: &ResultFile, name: &str, digits: usize) -> String {
    let pointer = format!("/{}", name.replacen("latency_us_", "latency_us/", 1));
    let value = decimal(it.number(&pointer), digits);
    match &it.result["spread"][name] {
        Value::Array(ends) if it.result["runs"].as_array().is_some_and(|runs| runs.len() > 1) => {
            let end = |at: usize| decimal(ends.get(at).and_then(Value::as_f64), digits);
            format!("{value} ({} to {})", end(0), end(1))
        }
        _ => value,
    }
}

pub(super) fn decimal(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

/// With commas between thousands.
pub(super) fn whole(value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
