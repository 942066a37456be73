//! What the exchange plays, where, and what goes wrong on the way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fanblade_feed::Session;
use fanblade_feed::simulator::SimulatorConfig;

use super::error::{ExchangeError, TargetError};
use super::faults::{Faults, Odds, Percent};
use super::line::Line;
use super::pace::{Pace, Rate};
use super::publisher::Plan;
use super::source::Source;
use super::store::Store;
use super::target::Target;
use super::tell::Tell;

/// Plain settings; whoever reads them from somewhere has checked them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where messages come from.
    pub origin: Origin,
    /// The number of messages to publish, at most.
    pub messages_max: u64,
    /// None: the capture's, the first word of the file's name, or the simulator's.
    pub session: Option<Session>,
    /// Line A.
    pub to: Target,
    /// Line B.
    pub to_b: Option<Target>,
    /// The pace: by the messages' own timestamps, or in full packets as fast as `rate` permits.
    pub speed: fanblade_feed::pace::Pace,
    /// Messages a second at most, where they have no times of their own.
    pub rate: Rate,
    /// Packets lost on line A.
    pub drop_a: Percent,
    /// Packets lost on line B.
    pub drop_b: Percent,
    /// Packets that come after up to three later ones, on each line.
    pub reorder: Percent,
    /// Packets that come twice, on each line.
    pub duplicate: Percent,
    /// Decides which packets meet a fault.
    pub seed: u64,
    /// Where to serve re-requests by UDP.
    pub requests: Option<SocketAddr>,
    /// Requests that are not answered.
    pub drop_requests: Percent,
    /// Where to serve the messages by SoupBinTCP.
    pub soup: Option<SocketAddr>,
    /// Where to serve snapshots by GLIMPSE.
    pub glimpse: Option<SocketAddr>,
    /// Who may log in to these two. None: anybody.
    pub login: Option<Login>,
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// How long the end of the session is repeated, and everything is still served.
    pub linger: Duration,
    /// The most bytes in a packet.
    pub packet_len_max: u16,
    /// Routers that a packet may pass.
    pub ttl: u32,
}

/// Where messages come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A BinaryFILE or a packet capture.
    File(PathBuf),
    /// A market that does not exist.
    Simulator(SimulatorConfig),
}

/// What a login has to say.
#[derive(Debug, Clone, Copy)]
pub struct Login {
    /// The name, padded.
    pub user: [u8; 6],
    /// The password, padded.
    pub password: [u8; 10],
}

impl Settings {
    /// The messages, the store for them, and their session.
    pub(super) fn source(&self, tell: Tell) -> Result<(Source, Store, Session), ExchangeError> {
        let (source, store, session) = match &self.origin {
            Origin::File(path) => Source::file(path, self.messages_max, tell)?,
            Origin::Simulator(config) => {
                let (source, store) = Source::simulator(config, self.messages_max, tell)?;
                (source, store, config.session)
            }
        };
        Ok((source, store, self.session.unwrap_or(session)))
    }

    pub(super) fn plan(&self, session: Session) -> Plan {
        Plan {
            session,
            pace: Pace::new(self.speed, self.rate),
            packet_len_max: self.packet_len_max.into(),
            heartbeat: self.heartbeat,
            linger: self.linger,
        }
    }

    pub(super) fn lines(&self, tell: Tell) -> Result<Vec<Line>, TargetError> {
        let lines = [Some((&self.to, self.drop_a)), self.to_b.as_ref().map(|target| (target, self.drop_b))];
        let lines = lines.into_iter().flatten().zip(0..);
        lines
            .map(|((target, drop), stream)| {
                let odds = Odds { drop, reorder: self.reorder, duplicate: self.duplicate };
                Line::new(target.clone(), self.ttl, Faults::new(odds, self.seed, stream), tell)
            })
            .collect()
    }
}
