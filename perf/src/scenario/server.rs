//! Servers under test. Each is a process (or several) of its own, pinned to CPUs of its own.

pub(crate) mod bare;
pub(crate) mod blade;
mod contract;
pub(crate) mod datapath;
mod kind;
mod manners;
mod mosquitto;
mod nats;
mod nchan;
mod peer;
mod process;
pub(crate) mod tungstenite;

use serde_json::Value;

use super::definition::Scenario;
use super::publisher::Outlet;
pub(crate) use kind::ServerKind;
pub(crate) use manners::Manners;

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
