//! Servers under test. Each is a process (or several) of its own, pinned to CPUs of its own.

pub(crate) mod bare;
pub(crate) mod blade;
mod contract;
pub(crate) mod datapath;
mod mosquitto;
mod nats;
mod nchan;
mod peer;
mod process;
pub(crate) mod tungstenite;

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde_json::Value;

use super::definition::Scenario;
use super::message;
use super::publisher::Outlet;

/// A running server. Dropping it ends it.
pub(crate) trait Server {
    /// How its subscribers talk to it.
    fn manners(&self) -> Manners;

    /// The input for the server's publisher.
    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>>;

    /// The server's processes.
    fn pids(&self) -> Vec<u32>;

    /// The server's own counters, for the report.
    fn counters(&mut self) -> anyhow::Result<Value>;

    /// Bytes of memory that the server's code predicts, if it can be asked.
    fn predicted(&self) -> Option<Predicted> {
        None
    }

    /// The server's configuration, for the report.
    fn configuration(&self) -> Value;

    /// Ends the server at once, as a crash would.
    fn kill(&mut self);
}

/// User memory that a server's own code predicts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predicted {
    /// Bytes of a session without its subscriptions.
    pub(crate) session: usize,
    /// Bytes of a subscription in a list that no other session has.
    pub(crate) subscription: Option<f64>,
}

/// Predicts the bytes of a subscription in a scenario's lists, by the worker's own function.
fn subscription_predicted(scenario: &Scenario) -> Option<f64> {
    let each = scenario.watchlists?.subjects_per_session as usize;
    let (sessions, filters) = (scenario.subscribers as usize, scenario.subjects as usize);
    let bytes = fanblade_worker::bytes_of_own_lists(sessions, sessions * each, filters);
    Some(bytes as f64 / (sessions * each) as f64)
}

/// How subscribers talk to a server.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) addr: SocketAddrV4,
    /// Path and query of the URL, a template.
    pub(crate) target: String,
    pub(crate) protocol: Option<String>,
    /// Templates of what a client says once it is connected.
    pub(crate) subscribe: Vec<String>,
    pub(crate) is_binary: bool,
    /// The value of `--expect-preamble` of `fanblade-swarm`.
    pub(crate) preamble: String,
    /// The server joins messages, or cuts them into frames.
    pub(crate) joins_messages: bool,
    /// Templates of what a client says to leave a subject of its list, and to take another.
    pub(crate) change: Option<[String; 2]>,
}

impl Manners {
    /// Manners of a server whose clients say all in their request, and get text messages one by one from then on.
    pub(crate) fn plain(addr: SocketAddrV4, target: &str) -> Manners {
        Manners {
            addr,
            target: target.to_owned(),
            protocol: None,
            subscribe: Vec::new(),
            is_binary: false,
            preamble: "0".to_owned(),
            joins_messages: false,
            change: None,
        }
    }

    /// Manners of the blade and its data path, which answer a subscription first.
    fn of_blade(addr: SocketAddrV4, mode: &str) -> Manners {
        let target = format!("/v1/stream?subjects={}&mode={mode}", message::SUBJECT);
        Manners { preamble: "1".to_owned(), ..Manners::plain(addr, &target) }
    }

    /// The same for clients with `subjects` subjects each.
    pub(crate) fn of_blade_with_lists(addr: SocketAddrV4, mode: &str, subjects: u32) -> Manners {
        let target = format!("/v1/stream?subjects={}&mode={mode}", message::SUBJECTS);
        let request = |op: &str, more: &str| {
            format!(r#"{{"op":"{op}","id":{{subject}},"subjects":["{}"]{more}}}"#, message::SUBJECT)
        };
        let take = request("subscribe", &format!(r#","mode":"{mode}""#));
        Manners {
            preamble: subjects.div_ceil(SUBJECTS_PER_REPLY).to_string(),
            change: Some([request("unsubscribe", ""), take]),
            ..Manners::plain(addr, &target)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// `fanblade run`, fed by its publisher feed
    Blade,
    /// A loop of sends that knows each subscriber's subjects: the least that any server costs
    Bare,
    /// Ring, worker and engine of the blade in a process of ours, without feed and control
    Datapath,
    /// A tokio-tungstenite broadcast server: what people write themselves
    Tungstenite,
    /// nats-server, NATS over WebSocket
    Nats,
    /// nginx with Nchan
    Nchan,
    /// mosquitto, MQTT over WebSocket
    Mosquitto,
    /// uWebSockets, or any server: the program of --peer-path
    Uwebsockets,
}

impl ServerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::Blade => "blade",
            ServerKind::Bare => "bare",
            ServerKind::Datapath => "datapath",
            ServerKind::Tungstenite => "tungstenite",
            ServerKind::Nats => "nats",
            ServerKind::Nchan => "nchan",
            ServerKind::Mosquitto => "mosquitto",
            ServerKind::Uwebsockets => "uwebsockets",
        }
    }

    pub(crate) fn start(self, scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Box<dyn Server>> {
        let takes_lists = ![ServerKind::Nats, ServerKind::Nchan, ServerKind::Mosquitto].contains(&self);
        ensure!(
            takes_lists || scenario.watchlists.is_none(),
            "{} is measured with one subject for each subscriber only",
            self.name()
        );
        Ok(match self {
            ServerKind::Bare => Box::new(bare::Bare::start(scenario, cpus)?),
            ServerKind::Blade => Box::new(blade::Blade::start(scenario, cpus)?),
            ServerKind::Datapath => Box::new(datapath::Datapath::start(scenario, cpus)?),
            ServerKind::Tungstenite => Box::new(contract::tungstenite(scenario, cpus)?),
            ServerKind::Nats => Box::new(nats::start(scenario, cpus)?),
            ServerKind::Nchan => Box::new(nchan::start(scenario, cpus)?),
            ServerKind::Mosquitto => Box::new(mosquitto::start(scenario, cpus)?),
            ServerKind::Uwebsockets => {
                let path = scenario.peer_path.as_deref().context(PEER_PATH_MISSING)?;
                Box::new(contract::program(path, scenario, cpus)?)
            }
        })
    }
}

/// CPU time of processes, all threads, user and system. On loopback it includes their softirq work: what a send
/// triggers is done before the call returns, and charged to the caller.
pub(crate) fn cpu_time(pids: &[u32]) -> anyhow::Result<Duration> {
    let of = |pid: &u32| Ok(Duration::from(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?));
    pids.iter().map(of).sum::<anyhow::Result<Duration>>()
}

/// The same, once none of their threads runs. The kernel has not counted a running thread's time since its last tick
/// (`thread_group_cputime`), and a client may have the last message before the call that sent it returns.
pub(crate) fn cpu_time_at_rest(pids: &[u32]) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while started.elapsed() < TICK_MAX && any_runs(pids)? {
        std::thread::sleep(REST_LOOKS);
    }
    cpu_time(pids)
}

fn any_runs(pids: &[u32]) -> anyhow::Result<bool> {
    for pid in pids {
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // `PID (NAME) STATE …` (proc(5)); a thread that has ended meanwhile has none, and does not run.
            let stat = std::fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            if stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('R')) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Within this time a thread that goes on running has had a tick (`CONFIG_HZ` is 100 at least).
const TICK_MAX: Duration = Duration::from_millis(20);
const REST_LOOKS: Duration = Duration::from_micros(100);
/// The most subjects that one reply of the blade names.
const SUBJECTS_PER_REPLY: u32 = 64;
const PEER_PATH_MISSING: &str =
    "it is not in Debian: build a server that keeps the contract in docs/BENCHMARKS.md, and give --peer-path PROGRAM";
