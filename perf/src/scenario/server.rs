//! Servers under test. Each is a process (or several) of its own, pinned to CPUs of its own.

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
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde_json::Value;

use super::definition::Scenario;
use super::message;
use super::publisher::Outlet;

/// A server that runs, and ends when it is dropped.
pub(crate) trait Server {
    /// How its subscribers talk to it.
    fn manners(&self) -> Manners;

    /// An input for its publisher.
    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>>;

    /// Its processes.
    fn pids(&self) -> Vec<u32>;

    /// What it counts itself, for the report.
    fn counters(&mut self) -> anyhow::Result<Value>;

    /// How it was configured, for the report.
    fn configuration(&self) -> Value;

    /// Ends it at once, as a crash would.
    fn kill(&mut self);
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
    /// As `fanblade-swarm` wants it.
    pub(crate) preamble: String,
    /// The server joins messages, or cuts them into frames.
    pub(crate) joins_messages: bool,
}

impl Manners {
    /// Of a server whose clients say all in their request, and get text messages one by one from then on.
    pub(crate) fn plain(addr: SocketAddrV4, target: &str) -> Manners {
        Manners {
            addr,
            target: target.to_owned(),
            protocol: None,
            subscribe: Vec::new(),
            is_binary: false,
            preamble: "0".to_owned(),
            joins_messages: false,
        }
    }

    /// Of the blade and its data path, which answer a subscription first.
    fn of_blade(addr: SocketAddrV4, mode: &str) -> Manners {
        let target = format!("/v1/stream?subjects={}&mode={mode}", message::SUBJECT);
        Manners { preamble: "1".to_owned(), ..Manners::plain(addr, &target) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServerKind {
    /// `fanblade run`, fed by its publisher feed
    Blade,
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
            ServerKind::Datapath => "datapath",
            ServerKind::Tungstenite => "tungstenite",
            ServerKind::Nats => "nats",
            ServerKind::Nchan => "nchan",
            ServerKind::Mosquitto => "mosquitto",
            ServerKind::Uwebsockets => "uwebsockets",
        }
    }

    pub(crate) fn start(self, scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Box<dyn Server>> {
        Ok(match self {
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

/// CPU time of processes, all threads, user and system. On loopback it holds their softirq work, too: what a send sets
/// off is done before the call returns, and charged to the caller.
pub(crate) fn cpu_time(pids: &[u32]) -> anyhow::Result<Duration> {
    let of = |pid: &u32| Ok(Duration::from(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?.now()?));
    pids.iter().map(of).sum::<anyhow::Result<Duration>>()
}

const PEER_PATH_MISSING: &str =
    "it is not in Debian: build a server that keeps the contract in docs/BENCHMARKS.md, and give --peer-path PROGRAM";
