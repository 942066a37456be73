//! Servers whose subscribers have lists of their own. All servers run at the same time and take turns, one round each,
//! so that a machine that changes its speed changes it for all. A round has as many messages as it takes to give every
//! subscriber one on average, of one subject after the other; the next is published only when everybody who wants the
//! last has it.

use std::time::Duration;

use anyhow::Context as _;
use fanblade_measure::cpu_time::cpu_time_at_rest;
use fanblade_measure::memory::UserMemory;
use fanblade_wire::UnixNs;
use serde_json::Value;

use super::crowd::Crowd;
use crate::scenario::publisher::Outlet;
use crate::scenario::server::Server;
use crate::scenario::{Scenario, ServerKind, message};

/// A server and its subscribers, all connected.
pub(crate) struct Player {
    pub(crate) name: &'static str,
    server: Box<dyn Server>,
    outlet: Box<dyn Outlet>,
    crowd: Crowd,
    subscribers: u32,
    /// Messages published so far of each subject, and the subject whose turn it is.
    numbers: Vec<u32>,
    next: u32,
    delivered: u64,
    /// User memory before the first connection.
    before: u64,
}

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) rounds: u32,
    pub(crate) warmup_rounds: u32,
    pub(crate) payload_bytes: u16,
    /// Messages published at once, each of another subject.
    pub(crate) backlog: u8,
}

impl Player {
    /// Starts a server on these CPUs, and subscribes everybody; must be called by the thread that plays.
    pub(crate) fn start(
        kind: ServerKind,
        scenario: &Scenario,
        cpus: &[usize],
        settle: Duration,
    ) -> anyhow::Result<Player> {
        let mut server = kind.start(scenario, cpus)?;
        let outlet = server.outlet()?;
        std::thread::sleep(SETTLING);
        let before = user_bytes(server.as_ref())?;
        let crowd = Crowd::open(&server.manners(), scenario);
        let mut crowd = crowd.with_context(|| server.counters().unwrap_or_default().to_string())?;
        crowd.idle(settle)?;
        Ok(Player {
            name: kind.name(),
            server,
            outlet,
            crowd,
            subscribers: scenario.subscribers,
            numbers: vec![0; scenario.subjects as usize],
            next: 0,
            delivered: 0,
            before,
        })
    }

    /// User memory per subscriber: by how much the server has grown.
    pub(crate) fn session_bytes(&self) -> anyhow::Result<f64> {
        let grown = user_bytes(self.server.as_ref())?.saturating_sub(self.before);
        Ok(grown as f64 / f64::from(self.subscribers))
    }

    pub(crate) fn configuration(&self) -> Value {
        self.server.configuration()
    }

    /// Whether subscribers can change their lists.
    pub(crate) fn changes_lists(&self) -> bool {
        self.server.manners().change.is_some()
    }

    /// CPU time per change of a list, in microseconds, with nothing published meanwhile.
    pub(crate) fn change(&mut self, count: u64) -> anyhow::Result<f64> {
        let before = cpu_time_at_rest(&self.server.pids())?;
        self.crowd.change(count)?;
        let cpu = cpu_time_at_rest(&self.server.pids())? - before;
        Ok(cpu.as_secs_f64() * 1e6 / count as f64)
    }

    /// Checks that all was as it should be.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.crowd.finish().with_context(|| self.name)
    }

    /// The same; then all subscribers go. Returns how much is left of the user memory that they took, per subscriber.
    pub(crate) fn finish_and_settle(self) -> anyhow::Result<f64> {
        self.crowd.finish().with_context(|| self.name)?;
        let mut left = user_bytes(self.server.as_ref())?;
        for _ in 0..LEAVING_LOOKS_MAX {
            std::thread::sleep(LEAVING);
            let now = user_bytes(self.server.as_ref())?;
            if now == std::mem::replace(&mut left, now) {
                break;
            }
        }
        Ok(left.saturating_sub(self.before) as f64 / f64::from(self.subscribers))
    }

    /// Plays one round; returns how many messages were delivered.
    fn round(&mut self, rounds: &Rounds, payload: &mut Vec<u8>) -> anyhow::Result<u64> {
        let mut delivered = 0;
        while delivered < u64::from(self.subscribers) {
            for _ in 0..rounds.backlog {
                let subject = self.next;
                self.next = if subject as usize + 1 == self.numbers.len() { 0 } else { subject + 1 };
                let number = &mut self.numbers[subject as usize];
                *number += 1;
                let len = usize::from(rounds.payload_bytes);
                message::write(payload, Some(subject), u64::from(*number), UnixNs::now().0, len);
                self.outlet.publish(subject, payload)?;
                delivered += u64::from(self.crowd.members(subject));
            }
            self.outlet.flush()?;
            self.crowd.await_deliveries(self.delivered + delivered)?;
        }
        self.delivered += delivered;
        Ok(delivered)
    }
}

/// CPU time per delivered message of each player, in microseconds.
pub(crate) fn play(players: &mut [Player], rounds: &Rounds) -> anyhow::Result<Vec<f64>> {
    let mut payload = Vec::new();
    for _ in 0..rounds.warmup_rounds {
        for player in players.iter_mut() {
            player.round(rounds, &mut payload).with_context(|| player.name)?;
        }
    }
    let mut cost = vec![(Duration::ZERO, 0); players.len()];
    for _ in 0..rounds.rounds {
        for (player, (cpu, messages)) in players.iter_mut().zip(&mut cost) {
            let before = cpu_time_at_rest(&player.server.pids())?;
            *messages += player.round(rounds, &mut payload).with_context(|| player.name)?;
            *cpu += cpu_time_at_rest(&player.server.pids())? - before;
        }
    }
    Ok(cost.iter().map(|(cpu, messages)| cpu.as_secs_f64() * 1e6 / *messages as f64).collect())
}

fn user_bytes(server: &dyn Server) -> anyhow::Result<u64> {
    let of = |pid: u32| UserMemory::of(pid).map(|it| it.anonymous + it.io_uring);
    server.pids().into_iter().map(of).sum()
}

/// What a server does after its start must not count for the sessions.
const SETTLING: Duration = Duration::from_millis(300);
/// A server that frees nothing for this long has freed what it will.
const LEAVING: Duration = Duration::from_secs(2);
const LEAVING_LOOKS_MAX: u32 = 20;
