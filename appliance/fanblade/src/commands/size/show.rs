//! A plan for people, line by line, and as the keys of a configuration.

use std::fmt;

use fanblade_abi::limits::WORKERS_MAX;

use super::machine::Machine;
use super::plan::{
    CPU_NS_PER_MESSAGE, FLOWS_BYTES, FRAME_UNDER_WAY_BYTES, HELD_SHARE, KERNEL_BYTES_MEASURED, LANE_BYTES_PER_UPDATE,
    PROCESS_BYTES, Plan, RING_SHARE, SYSTEM_SHARE, USER_BYTES_MEASURED,
};
use crate::config::SESSIONS_MAX;
use crate::terminal::figures;

/// The arithmetic.
pub(super) struct Text<'a>(pub(super) &'a Machine, pub(super) &'a Plan);

/// `[data]`, `[ring]` and `[limits]`.
pub(super) struct Toml<'a>(pub(super) &'a Machine, pub(super) &'a Plan);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Text(machine, plan) = self;
        let mut row = |name: &str, amount: String, how: String| {
            writeln!(f, "{}", format!("{name:<10} {amount:>12}   {how}").trim_end())
        };
        row("memory", bytes(machine.memory_bytes), machine.origin.to_owned())?;
        row("cores", machine.cores.to_string(), String::new())?;
        row("queues", machine.queues.map_or("unknown".to_owned(), |queues| queues.to_string()), queues(machine, plan))?;
        row("workers", plan.workers.to_string(), workers(machine))?;
        row("", String::new(), String::new())?;
        row("memory", bytes(machine.memory_bytes), String::new())?;
        let minus = |amount: u64| format!("- {}", bytes(amount));
        row(
            "system",
            minus(plan.system),
            format!("1/{SYSTEM_SHARE} of it, at least 256 MiB: kernel, page cache, other programs"),
        )?;
        row("process", minus(PROCESS_BYTES), "the program, its threads and the feed's books".to_owned())?;
        row("ring", minus(plan.ring), ring(plan))?;
        row(
            "held",
            minus(plan.held),
            format!("held_bytes_max, 1/{HELD_SHARE} of memory, from 16 MiB to 4 GiB: what slow sessions are owed"),
        )?;
        row("flows", minus(FLOWS_BYTES), "the kernel programs' table of flows".to_owned())?;
        let workers_how =
            format!("{} × {}: io_uring, buffers, {} subjects", plan.workers, bytes(plan.worker), plan.wanted.subjects);
        row("workers", minus(plan.workers as u64 * plan.worker), workers_how)?;
        row("left", format!("= {}", bytes(plan.left)), "for sessions".to_owned())?;
        row("", String::new(), String::new())?;
        let user =
            format!("user memory: {USER_BYTES_MEASURED} measured, {} predicted by the code", plan.user_predicted);
        row("session", format!("{} B", plan.user), user)?;
        row("", format!("+ {KERNEL_BYTES_MEASURED} B"), "the kernel's socket, measured".to_owned())?;
        row(
            "",
            format!("+ {FRAME_UNDER_WAY_BYTES} B"),
            "one frame that the client has not acknowledged yet".to_owned(),
        )?;
        if plan.wanted.own_list > 0 {
            let each = plan.lists.div_ceil(plan.sessions().max(1));
            let how =
                format!("a list of its own with {} subjects, at most, as the code predicts", plan.wanted.own_list);
            row("", format!("+ {each} B"), how)?;
        }
        let per_worker = format!("{} in each worker (sessions_max)", figures::count(plan.sessions_per_worker as f64));
        row("sessions", plan.sessions().to_string(), per_worker)?;
        let cpu_us = CPU_NS_PER_MESSAGE as f64 / 1e3;
        let sent = format!(
            "messages a second, at {cpu_us} µs of CPU each: one to every session takes {:.1} s",
            plan.sessions() as f64 / plan.messages_per_s() as f64
        );
        row("sends", figures::count(plan.messages_per_s() as f64), sent)?;
        for note in notes(machine, plan) {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Toml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toml(machine, plan) = self;
        let queues = machine.queues.map(|queues| format!(", {queues} queues")).unwrap_or_default();
        writeln!(
            f,
            "# fanblade size: {} of memory, {} cores{queues}; {} sessions",
            bytes(machine.memory_bytes),
            machine.cores,
            plan.sessions()
        )?;
        for note in notes(machine, plan) {
            writeln!(f, "# {note}")?;
        }
        let ring = &plan.ring_config;
        writeln!(f, "[data]\nworkers = {}", plan.workers)?;
        if !machine.cpus.is_empty() {
            writeln!(f, "cpus = {:?}", machine.cpus)?;
        }
        writeln!(
            f,
            "[ring]\nupdates = {}\njson = {}\nbinary = {}\nsubjects_max = {}",
            ring.index_len, ring.lane_len[0], ring.lane_len[1], ring.subjects_max
        )?;
        writeln!(f, "[limits]\nsessions_max = {}\nheld_bytes_max = {}", plan.sessions_per_worker, plan.held)?;
        if let Some(subscriptions_max) = plan.subscriptions_max() {
            writeln!(f, "subscriptions_max = {subscriptions_max}")?;
        }
        Ok(())
    }
}

/// What exceeds a fixed limit, and what else must be set.
fn notes(machine: &Machine, plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.is_capped {
        notes.push(format!(
            "memory would hold more sessions, but a worker has at most {SESSIONS_MAX} (sessions_max): more cores, not more memory"
        ));
    }
    let idle = Plan::idle_cores(machine);
    if idle > 0 {
        notes
            .push(format!("{idle} cores are left over: a blade has at most {WORKERS_MAX} workers; run a second blade"));
    }
    if plan.tcp_pages() > TCP_MEM_PAGES {
        notes.push(format!(
            "net.ipv4.tcp_mem allows {TCP_MEM_PAGES} pages at most as `fanblade doctor` wants it; a frame to every session at once \
             takes {}: raise its last value",
            plan.tcp_pages()
        ));
    }
    notes
}

fn workers(machine: &Machine) -> String {
    if let [sequencer, workers @ ..] = machine.cpus.as_slice() {
        return format!("on CPUs {workers:?}, the sequencer on {sequencer}: `fanblade tune --dry-run` says why");
    }
    match machine.cores {
        1 | 2 => "at least one; it shares a core with the sequencer and everything else".to_owned(),
        cores => format!("{cores} cores - 2 for the sequencer and everything else, at most {WORKERS_MAX}"),
    }
}

fn queues(machine: &Machine, plan: &Plan) -> String {
    match machine.queues {
        None => "give each worker a queue, where the card has enough (docs/PLACEMENT.md)".to_owned(),
        Some(queues) if queues < plan.workers => {
            format!("fewer than workers: the interrupts of {queues} of {} CPUs do the receiving for all", plan.workers)
        }
        Some(_) => format!("use as many as workers: ethtool -L IF combined {}", plan.workers),
    }
}

fn ring(plan: &Plan) -> String {
    let ring = &plan.ring_config;
    format!(
        "{} subjects, {} updates × (128 B + 2 × {LANE_BYTES_PER_UPDATE} B): what they need, or 1/{RING_SHARE} of memory",
        ring.subjects_max, ring.index_len
    )
}

fn bytes(amount: u64) -> String {
    figures::bytes(amount as f64)
}

/// The last value of `net.ipv4.tcp_mem` in firmware-config/checks.toml, in pages.
const TCP_MEM_PAGES: u64 = 1_572_864;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_limit_is_the_one_that_doctor_wants() {
        let checks: toml::Table = include_str!("../../../../../firmware-config/checks.toml").parse().unwrap();
        let sysctls = checks["sysctl"].as_array().unwrap();
        let tcp_mem = sysctls.iter().find(|check| check["name"].as_str() == Some("net.ipv4.tcp_mem")).unwrap();
        assert_eq!(tcp_mem["at_least"][2].as_integer(), i64::try_from(TCP_MEM_PAGES).ok());
    }
}
