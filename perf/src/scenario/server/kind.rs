//! The kinds of servers, and how each is started.

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use super::{Server, bare, blade, contract, datapath, mosquitto, nats, nchan};
use crate::scenario::definition::Scenario;

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
            "{} can be measured with one subject for each subscriber only",
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

const PEER_PATH_MISSING: &str = "Debian has no package of it: build a server that keeps the contract in docs/BENCHMARKS.md, \
    and give --peer-path PROGRAM";
