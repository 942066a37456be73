//! Connects everybody: a limited number at a time, with each step sent again that gets no answer.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use fanblade_measure::clock::nanoseconds;
use fanblade_swarm_abi::{ANSWERED, ASKED, CALLED, OPEN, OVER, READY, REFUSED, Settings};
use fanblade_wire::float::whole;

use super::packet::{DATA, DATA_LEN_MAX, Ends, SYN, Wire};
use super::table::Table;
use crate::engine::Opened;
use crate::plan::Plan;
use crate::tally::Latency;

pub(super) struct Openings<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    table: &'a Table,
    wire: &'a mut Wire,
    under_way: Vec<Opening>,
    /// The next client to connect.
    next: u32,
    begun: Instant,
    upgrade_time: Duration,
    handshakes: Latency,
    bytes: Vec<u8>,
}

struct Opening {
    client: u32,
    begun: Instant,
    sent: Instant,
    step: Step,
}

/// What was sent last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Syn,
    Request,
    /// Or nothing, where there is none.
    Subscription,
}

impl<'a> Openings<'a> {
    pub(super) fn new(plan: &'a Plan, settings: &'a Settings, table: &'a Table, wire: &'a mut Wire) -> Openings<'a> {
        Openings {
            plan,
            settings,
            table,
            wire,
            under_way: Vec::new(),
            next: 0,
            begun: Instant::now(),
            upgrade_time: Duration::ZERO,
            handshakes: Latency::default(),
            bytes: Vec::new(),
        }
    }

    /// Connects everybody; returns when the last client is ready.
    pub(super) fn run(mut self) -> anyhow::Result<Opened> {
        let rate = self.plan.connect_rate.map_or(f64::INFINITY, f64::from);
        let patience = self.plan.patience + Duration::from_secs_f64(f64::from(self.plan.connections) / rate);
        while self.next < self.plan.connections || !self.under_way.is_empty() {
            let due = u32::try_from(whole(self.begun.elapsed().as_secs_f64() * rate)).unwrap_or(u32::MAX);
            let mut has_moved = false;
            while self.next < self.plan.connections.min(due.saturating_add(1))
                && self.under_way.len() < usize::from(self.plan.in_flight)
            {
                self.call(self.next)?;
                self.next += 1;
                has_moved = true;
            }
            let mut at = 0;
            while let Some(opening) = self.under_way.get(at) {
                let (client, step) = (opening.client, opening.step);
                if self.go_on(at)? {
                    self.under_way.swap_remove(at);
                    has_moved = true;
                } else {
                    has_moved |= self.under_way.get(at).is_some_and(|it| it.client == client && it.step != step);
                    at += 1;
                }
            }
            if !has_moved {
                let ready = self.next as usize - self.under_way.len();
                ensure!(self.begun.elapsed() < patience, "only {ready} clients were subscribed after {patience:?}");
                std::thread::sleep(LOOK);
            }
        }
        Ok(Opened { time: self.begun.elapsed(), upgrade_time: self.upgrade_time, handshakes: self.handshakes })
    }

    fn call(&mut self, client: u32) -> anyhow::Result<()> {
        let now = Instant::now();
        self.under_way.push(Opening { client, begun: now, sent: now, step: Step::Syn });
        self.table.clear(client);
        self.table.sent(client, FIRST);
        self.table.enter(client, CALLED);
        self.say(self.under_way.len() - 1)
    }

    /// Looks at one of the clients under way. Returns whether it is ready.
    fn go_on(&mut self, at: usize) -> anyhow::Result<bool> {
        let Opening { client, begun, sent, step } = self.under_way[at];
        let entry = self.table.read(client);
        match (entry.state, step) {
            (ANSWERED, Step::Syn) => {
                self.under_way[at].step = Step::Request;
                self.table.sent(client, FIRST.wrapping_add(self.write(client, Step::Request)?));
                self.table.enter(client, ASKED);
                self.say(at)?;
            }
            (OPEN, Step::Request) => {
                self.handshakes.record(nanoseconds(begun.elapsed()));
                self.upgrade_time = self.begun.elapsed();
                self.under_way[at].step = Step::Subscription;
                let len = self.write(client, Step::Subscription)?;
                if len > 0 {
                    self.table.sent(client, entry.sent.wrapping_add(len));
                    self.say(at)?;
                }
                return Ok(entry.flags & READY != 0);
            }
            (OPEN, Step::Subscription) if entry.flags & READY != 0 => return Ok(true),
            (REFUSED, _) => bail!("client {client}: the server answered {} instead of 101", entry.left),
            (OVER, Step::Syn) => bail!("client {client}: connecting: Connection refused"),
            (OVER, _) => bail!("client {client}: the server has ended the connection"),
            _ if sent.elapsed() > PATIENCE => self.say(at)?,
            _ => {}
        }
        Ok(false)
    }

    /// Sends the packet of the present step, for the first time or again.
    fn say(&mut self, at: usize) -> anyhow::Result<()> {
        let opening = &mut self.under_way[at];
        opening.sent = Instant::now();
        let (client, step) = (opening.client, opening.step);
        let ends = Ends::new(self.settings, client, self.plan.addr);
        let next = self.table.read(client).next;
        let from = match step {
            Step::Syn => return self.wire.send(&ends, FIRST.wrapping_sub(1), 0, SYN, &[]),
            Step::Request => FIRST,
            Step::Subscription => FIRST.wrapping_add(self.write(client, Step::Request)?),
        };
        if self.write(client, step)? == 0 {
            return Ok(());
        }
        self.wire.send(&ends, from, next, DATA, &self.bytes)
    }

    /// Writes what a client says; returns how many bytes.
    fn write(&mut self, client: u32, step: Step) -> anyhow::Result<u32> {
        self.bytes.clear();
        match step {
            Step::Syn => {}
            Step::Request => self.plan.write_upgrade(client, &mut self.bytes),
            Step::Subscription => self.plan.write_subscription(client, &mut self.bytes),
        }
        ensure!(self.bytes.len() <= DATA_LEN_MAX, "what a client says has more than {DATA_LEN_MAX} bytes");
        Ok(u32::try_from(self.bytes.len())?)
    }
}

/// Sequence number of our first byte of data.
const FIRST: u32 = 1;
/// The pause between two looks if nothing has happened.
const LOOK: Duration = Duration::from_micros(50);
/// After this time a packet is sent again. If the server has the first one, the second does no harm.
const PATIENCE: Duration = Duration::from_secs(1);
