//! The arithmetic of a blade's size.
//!
//! ```text
//! memory = system + process + ring + held + flows + workers + sessions × (user + kernel) + lists
//! ```
//! Everything but the sessions is decided first; they get the rest. What the code can compute (the ring, a session, a
//! list) is computed by the code's own functions; what only a measurement tells is a constant here, with its file under
//! perf/results, and a test compares the two.

use fanblade_abi::limits::WORKERS_MAX;
use fanblade_ring::limits::INDEX_LEN_MAX;
use fanblade_ring::{RingConfig, RingError};
use fanblade_worker::{Limits, bytes_of_own_lists, bytes_per_idle_session};

use super::machine::Machine;
use crate::config::{Bytes, SESSIONS_MAX, SUBSCRIPTIONS_MAX};

/// What the blade shall serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Subjects in the ring.
    pub(super) subjects: u32,
    /// Subjects in a list of each session's own; 0: sessions share their sets.
    pub(super) own_list: u32,
}

/// A blade on a machine. Amounts are in bytes unless named otherwise.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) wanted: Wanted,
    pub(super) workers: usize,
    pub(super) system: u64,
    pub(super) ring_config: RingConfig,
    pub(super) ring: u64,
    pub(super) held: u64,
    /// What each worker takes whatever its sessions.
    pub(super) worker: u64,
    /// What is left for sessions.
    pub(super) left: u64,
    /// Of a session, as the code predicts it and as it was measured.
    pub(super) user_predicted: u64,
    pub(super) user: u64,
    /// Lists of their own, of all sessions.
    pub(super) lists: u64,
    pub(super) sessions_per_worker: u64,
    /// What memory would allow is more than a worker may have.
    pub(super) is_capped: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(
        "a ring for {subjects} subjects takes {ring}, more than a quarter of {memory}; give --subjects a lower number, or the \
         machine more memory"
    )]
    Ring { subjects: u32, ring: Bytes, memory: Bytes },
    #[error("the ring: {0}")]
    RingConfig(#[from] RingError),
    #[error(
        "{memory} leave no room for a session: {fixed} are for system, ring and workers; give the machine more memory, or lower \
         --subjects or --own-list"
    )]
    NoRoom { memory: Bytes, fixed: Bytes },
    #[error("a list of {own_list} subjects out of {subjects}: --own-list must not be greater than --subjects")]
    List { own_list: u32, subjects: u32 },
}

impl Plan {
    pub(super) fn new(machine: &Machine, wanted: Wanted) -> Result<Plan, PlanError> {
        let Wanted { subjects, own_list } = wanted;
        if own_list > subjects {
            return Err(PlanError::List { own_list, subjects });
        }
        let memory = machine.memory_bytes;
        let workers = machine.workers;
        let system = (memory / SYSTEM_SHARE).max(SYSTEM_BYTES_MIN);
        let (ring_config, ring) = ring(memory, subjects)?;
        let held = (memory / HELD_SHARE).clamp(HELD_BYTES_MIN, HELD_BYTES_MAX);
        let lists_fixed = if own_list > 0 { WORKER_DELIVERIES_BYTES } else { 0 };
        let worker = WORKER_BYTES + lists_fixed + u64::from(subjects) * WORKER_SUBJECT_BYTES;
        let fixed = system + PROCESS_BYTES + ring + held + FLOWS_BYTES + workers as u64 * worker;
        let left = memory.checked_sub(fixed);
        let left = left.ok_or(PlanError::NoRoom { memory: Bytes(memory), fixed: Bytes(fixed) })?;
        // Of many sessions: what the engine allocates once is spread over them.
        let engine = fanblade_net::uring_bytes_per_session(1 << 20, u64::MAX);
        let user_predicted = (bytes_per_idle_session() + engine) as u64;
        let user = user_predicted.max(USER_BYTES_MEASURED);
        let lists = |sessions: u64| workers as u64 * lists_of_worker(sessions, wanted);
        let fits = |sessions: u64| {
            sessions * workers as u64 * (user + KERNEL_BYTES_MEASURED + FRAME_UNDER_WAY_BYTES) + lists(sessions) <= left
        };
        let sessions_per_worker = greatest(SESSIONS_MAX, fits);
        if sessions_per_worker == 0 {
            return Err(PlanError::NoRoom { memory: Bytes(memory), fixed: Bytes(fixed) });
        }
        Ok(Plan {
            wanted,
            workers,
            system,
            ring_config,
            ring,
            held,
            worker,
            left,
            user_predicted,
            user,
            lists: lists(sessions_per_worker),
            sessions_per_worker,
            is_capped: sessions_per_worker == SESSIONS_MAX && fits(SESSIONS_MAX + 1),
        })
    }

    /// Sessions of the whole blade.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions_per_worker * self.workers as u64
    }

    /// What cores beyond [`WORKERS_MAX`] workers do: nothing.
    pub(super) fn idle_cores(machine: &Machine) -> usize {
        // `fanblade tune` says why it leaves CPUs of this machine to others.
        if machine.cpus.is_empty() { machine.cores.saturating_sub(WORKERS_MAX as usize + 2) } else { 0 }
    }

    /// `subscriptions_max`, if the default is too low.
    pub(super) fn subscriptions_max(&self) -> Option<u32> {
        Some(self.wanted.own_list).filter(|own_list| *own_list > Limits::default().subscriptions_max)
    }

    /// Messages a second that the workers can send, one at a time.
    pub(super) fn messages_per_s(&self) -> u64 {
        self.workers as u64 * (1_000_000_000 / CPU_NS_PER_MESSAGE)
    }

    /// Pages that the kernel's TCP needs when every session has a frame under way: the last value of tcp_mem.
    pub(super) fn tcp_pages(&self) -> u64 {
        self.sessions() * FRAME_UNDER_WAY_BYTES / PAGE_BYTES
    }
}

/// Parses `--subjects`.
pub(super) fn subjects(text: &str) -> Result<u32, String> {
    within(text, 1, SUBJECTS_MAX, "subjects")
}

/// Parses `--own-list`.
pub(super) fn own_list(text: &str) -> Result<u32, String> {
    within(text, 0, SUBSCRIPTIONS_MAX, "subjects in a list (`subscriptions_max`)")
}

fn within(text: &str, min: u64, max: u64, what: &str) -> Result<u32, String> {
    let number =
        text.trim().parse::<u64>().map_err(|_| format!("`{text}` is not a number; from {min} to {max} {what}"))?;
    let number = u32::try_from(number).ok().filter(|_| (min..=max).contains(&number));
    number.ok_or_else(|| format!("from {min} to {max} {what}"))
}

/// The ring: as many updates as the subjects need, then twice as many again and again while it stays within its share.
fn ring(memory: u64, subjects: u32) -> Result<(RingConfig, u64), PlanError> {
    let least = (2 * subjects as usize).next_power_of_two().max(UPDATES_MIN);
    let of = |updates: usize| -> Result<(RingConfig, u64), PlanError> {
        let lane = updates * LANE_BYTES_PER_UPDATE;
        let config =
            RingConfig { index_len: updates, lane_len: [lane, lane, 0, 0], subjects_max: subjects, checksums: false };
        let bytes = config.bytes()? as u64;
        Ok((config, bytes))
    };
    let mut best = of(least)?;
    if best.1 > memory / RING_SHARE_MAX {
        return Err(PlanError::Ring { subjects, ring: Bytes(best.1), memory: Bytes(memory) });
    }
    while best.0.index_len < UPDATES_MAX {
        let next = of(best.0.index_len * 2)?;
        if next.1 > memory / RING_SHARE {
            break;
        }
        best = next;
    }
    Ok(best)
}

/// The most memory for the lists of so many sessions of one worker.
fn lists_of_worker(sessions: u64, wanted: Wanted) -> u64 {
    if wanted.own_list == 0 || sessions == 0 {
        return 0;
    }
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let subscriptions = sessions * u64::from(wanted.own_list);
    bytes_of_own_lists(size(sessions), size(subscriptions), size(u64::from(wanted.subjects).min(subscriptions))) as u64
}

/// The greatest number up to `max` for which `holds`; it holds for all numbers up to that.
fn greatest(max: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut good, mut bad) = (0, max + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if holds(middle) { good = middle } else { bad = middle }
    }
    good
}

/// As the configuration's default: all of Nasdaq.
pub(super) const SUBJECTS_DEFAULT: u32 = 1 << 16;
/// The ring's index holds twice as many updates.
const SUBJECTS_MAX: u64 = INDEX_LEN_MAX as u64 / 2;
/// The kernel, the page cache and other programs have this part of the memory, and at least [`SYSTEM_BYTES_MIN`].
pub(super) const SYSTEM_SHARE: u64 = 16;
const SYSTEM_BYTES_MIN: u64 = 256 << 20;
/// The program itself: code, threads, books of a day. A blade with the default ring (161 MiB) took 198 MiB with the
/// simulated market: perf/results/campaign-2026-11-29.json.
pub(super) const PROCESS_BYTES: u64 = 64 << 20;
/// The ring grows beyond what the subjects need up to this part of the memory, and to [`UPDATES_MAX`]; a ring that
/// needs more than a quarter is refused.
pub(super) const RING_SHARE: u64 = 64;
const RING_SHARE_MAX: u64 = 4;
const UPDATES_MIN: usize = 1 << 14;
const UPDATES_MAX: usize = 1 << 22;
/// As in the configuration's defaults: 64 MiB for 131,072 updates.
pub(super) const LANE_BYTES_PER_UPDATE: usize = 512;
/// `held_bytes_max`: what slow sessions may be owed. The default, 512 MiB, is this part of 16 GiB.
pub(super) const HELD_SHARE: u64 = 32;
const HELD_BYTES_MIN: u64 = 16 << 20;
const HELD_BYTES_MAX: u64 = 4 << 30;
/// The kernel programs' table of flows (`fanblade_abi::limits::FLOWS_MAX`).
pub(super) const FLOWS_BYTES: u64 = 18 << 20;
/// A worker whatever its sessions: rings of io_uring, read buffers, boxes kept for those who fall behind (2 MiB).
const WORKER_BYTES: u64 = 8 << 20;
/// Frames on their way to sessions with lists of their own (`DELIVERIES_MAX` of the worker: 16 MiB, and as much again).
const WORKER_DELIVERIES_BYTES: u64 = 32 << 20;
/// A subject in a worker's tables. 10,000 sessions with lists out of 8,000 subjects took 1,298 bytes each in
/// perf/results/peers-50-subjects-2026-11-29.json, some 400 bytes a subject more than sessions and lists account for.
const WORKER_SUBJECT_BYTES: u64 = 512;
/// User memory of a session after messages, pings and a notice to all: perf/results/idle-100000-2026-11-29.json,
/// `/user_bytes_per_session/after_a_notice_to_all/total`.
pub(super) const USER_BYTES_MEASURED: u64 = 146;
/// The kernel's socket, the server's end: perf/results/c10m-ladder-blade-1000000-2026-11-24.json,
/// `/bytes_per_session/kernel_server_end`.
pub(super) const KERNEL_BYTES_MEASURED: u64 = 5_141;
/// A frame that the client has not acknowledged yet takes a page of the kernel's memory (firmware-config/checks.toml,
/// `net.ipv4.tcp_mem`).
pub(super) const FRAME_UNDER_WAY_BYTES: u64 = 4_096;
const PAGE_BYTES: u64 = 4_096;
/// CPU time of a delivered message, one at a time: perf/results/floor-2026-11-25.json, `/uring/blade/one/cpu_ns`.
pub(super) const CPU_NS_PER_MESSAGE: u64 = 8_890;

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(gib: u64, cores: usize) -> Machine {
        let workers = fanblade_blade::workers_for(cores);
        Machine { memory_bytes: gib << 30, cores, workers, cpus: Vec::new(), queues: None, origin: "as given" }
    }

    const PLAIN: Wanted = Wanted { subjects: SUBJECTS_DEFAULT, own_list: 0 };

    #[test]
    fn figures_are_those_that_were_measured() {
        let read = |file: &str, pointer: &str| {
            let path = format!("{}/../../perf/results/{file}.json", env!("CARGO_MANIFEST_DIR"));
            let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            report.pointer(pointer).unwrap().as_f64().unwrap()
        };
        let user = read("idle-100000-2026-11-29", "/user_bytes_per_session/after_a_notice_to_all/total");
        assert_eq!(user.ceil(), USER_BYTES_MEASURED as f64);
        let kernel = read("c10m-ladder-blade-1000000-2026-11-24", "/bytes_per_session/kernel_server_end");
        assert_eq!(kernel.ceil(), KERNEL_BYTES_MEASURED as f64);
        let cpu_ns = read("floor-2026-11-25", "/uring/blade/one/cpu_ns");
        assert!((cpu_ns / CPU_NS_PER_MESSAGE as f64 - 1.0).abs() < 0.005, "{cpu_ns}");
        let predicted = read("idle-100000-2026-11-29", "/user_bytes_per_session_predicted/total");
        let plan = Plan::new(&machine(8, 4), PLAIN).unwrap();
        assert!(plan.user_predicted as f64 <= predicted && plan.user == USER_BYTES_MEASURED, "{plan:?}");
    }

    #[test]
    fn all_the_memory_is_accounted_for_and_no_more() {
        let lists = Wanted { subjects: 8_000, own_list: 50 };
        for (gib, cores) in [(1, 1), (4, 2), (16, 8), (128, 32), (512, 128), (4_096, 4)] {
            for wanted in [PLAIN, lists, Wanted { subjects: 100, own_list: 0 }] {
                let plan = Plan::new(&machine(gib, cores), wanted).unwrap();
                let per_session = plan.user + KERNEL_BYTES_MEASURED + FRAME_UNDER_WAY_BYTES;
                let fixed = plan.system
                    + PROCESS_BYTES
                    + plan.ring
                    + plan.held
                    + FLOWS_BYTES
                    + plan.workers as u64 * plan.worker;
                let used = fixed + plan.sessions() * per_session + plan.lists;
                assert!(used <= gib << 30, "{gib} GiB, {cores} cores: {plan:?}");
                let spare = (gib << 30) - used;
                // One session more in each worker would not fit.
                let next = plan.workers as u64 * (per_session + lists_of_worker(plan.sessions_per_worker + 1, wanted))
                    - plan.lists;
                assert!(plan.is_capped || spare < next, "{gib} GiB, {cores} cores: {spare} bytes are left over");
            }
        }
    }

    #[test]
    fn small_and_large_machines_have_plans_that_fit_them() {
        let small = Plan::new(&machine(1, 1), PLAIN).unwrap();
        assert_eq!((small.workers, small.ring_config.index_len), (1, 131_072));
        assert!((30_000..80_000).contains(&small.sessions()), "{small:?}");
        let medium = Plan::new(&machine(4, 2), PLAIN).unwrap();
        assert_eq!(medium.workers, 1);
        assert!((250_000..450_000).contains(&medium.sessions()), "{medium:?}");
        let large = Plan::new(&machine(128, 32), PLAIN).unwrap();
        assert_eq!((large.workers, large.ring_config.index_len), (30, 1 << 20));
        assert!((10_000_000..15_000_000).contains(&large.sessions()), "{large:?}");
        // Lists of their own cost sessions.
        let lists = Plan::new(&machine(128, 32), Wanted { own_list: 50, ..PLAIN }).unwrap();
        assert!(lists.sessions() < large.sessions() && lists.lists > 0);
        assert_eq!(lists.subscriptions_max(), None);
        let long = Plan::new(&machine(128, 32), Wanted { own_list: 5_000, ..PLAIN }).unwrap();
        assert_eq!(long.subscriptions_max(), Some(5_000));
        assert!(long.sessions() < lists.sessions());
    }

    #[test]
    fn what_exceeds_a_fixed_limit_is_known() {
        let huge = Plan::new(&machine(4_096, 4), PLAIN).unwrap();
        assert!(huge.is_capped && huge.sessions() == 2 * SESSIONS_MAX, "{huge:?}");
        let wide = machine(512, 128);
        let plan = Plan::new(&wide, PLAIN).unwrap();
        assert_eq!((plan.workers, Plan::idle_cores(&wide)), (WORKERS_MAX as usize, 62));
        assert!(!plan.is_capped);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_way_out() {
        let told = |gib, wanted| Plan::new(&machine(gib, 2), wanted).unwrap_err().to_string();
        let ring = told(1, Wanted { subjects: 1_000_000, own_list: 0 });
        assert!(ring.contains("1000000 subjects") && ring.contains("give --subjects a lower number"), "{ring}");
        let tiny = Machine { memory_bytes: 300 << 20, ..machine(0, 1) };
        let told_tiny = Plan::new(&tiny, Wanted { subjects: 100, own_list: 0 }).unwrap_err().to_string();
        assert!(told_tiny.contains("300 MiB leave no room"), "{told_tiny}");
        assert!(told(4, Wanted { subjects: 10, own_list: 11 }).contains("must not be greater than --subjects"));
        assert!(subjects("0").unwrap_err().contains("from 1 to"));
        assert!(subjects("many").unwrap_err().contains("`many` is not a number"));
        assert!(subjects("99999999999").unwrap_err().contains("from 1 to 33554432 subjects"));
        assert!(own_list("65537").unwrap_err().contains("from 0 to 65536"));
        assert_eq!(own_list("0"), Ok(0));
    }
}
