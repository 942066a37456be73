//! The subscribers of any server, in this thread: all of one subject, or each with a list of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use fanblade_swarm::plan::{Changes, Plan, Upgrade};
use fanblade_swarm::reading::{Boundary, Reading};
use fanblade_swarm::sockets::Sockets;
use fanblade_swarm::subscribers::Subscribers;
use fanblade_swarm::template::Template;
use fanblade_swarm::window::Window;
use fanblade_wire::frame::Opcode;

use crate::scenario::Scenario;
use crate::scenario::message::{NUMBER, SEQUENCE, TIMESTAMP};
use crate::scenario::server::Manners;

pub(crate) struct Crowd {
    sockets: Sockets,
    subscribers: Subscribers,
    count: u32,
}

impl Crowd {
    /// Returns once all have subscribed.
    pub(crate) fn open(manners: &Manners, scenario: &Scenario) -> anyhow::Result<Crowd> {
        let count = scenario.subscribers;
        let plan = Arc::new(plan(manners, scenario)?);
        let mut crowd =
            Crowd { sockets: Sockets::new(&plan, 0..count)?, subscribers: Subscribers::new(&plan, 0..count), count };
        crowd.subscribers.make_room(count as usize);
        crowd.sockets.open();
        let end = Instant::now() + plan.patience;
        while crowd.subscribers.ready() < count || !crowd.sockets.settle() {
            crowd.turn()?;
            ensure!(Instant::now() < end, "only {} of {count} clients subscribed in time", crowd.subscribers.ready());
        }
        crowd.subscribers.begin(Window { from_ns: 0, to_ns: u64::MAX });
        Ok(crowd)
    }

    /// Lets time pass, and answers pings.
    pub(crate) fn idle(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Spins until every client has received `number` messages.
    pub(super) fn await_messages(&mut self, number: u64) -> anyhow::Result<()> {
        self.await_deliveries(number * u64::from(self.count))
    }

    /// How many clients have a subject.
    pub(crate) fn members(&self, subject: u32) -> u32 {
        self.subscribers.members(subject)
    }

    /// Changes `count` lists, some at a time; returns when all changes have been answered.
    pub(crate) fn change(&mut self, count: u64) -> anyhow::Result<()> {
        self.subscribers.order_changes(count);
        let end = Instant::now() + PATIENCE;
        while !self.subscribers.is_settled() {
            self.turn()?;
            ensure!(Instant::now() < end, "not all of {count} changes of lists were answered in time");
        }
        Ok(())
    }

    /// Spins until all clients together have received `due` messages.
    pub(crate) fn await_deliveries(&mut self, due: u64) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut spins = 0u32;
        while self.subscribers.messages() < due {
            self.turn()?;
            spins += 1;
            if spins.is_multiple_of(1024) && Instant::now() > end {
                bail!("{} of {due} messages were not delivered in time", due - self.subscribers.messages());
            }
        }
        Ok(())
    }

    /// Checks that all was as it should be.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let complaints = Subscribers::finish(vec![self.subscribers]).complaints();
        ensure!(complaints.is_empty(), "{}", complaints.join("; "));
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        self.sockets.turn(&mut self.subscribers)?;
        if let Some(trouble) = self.subscribers.trouble() {
            bail!("{} of {} clients were subscribed: {trouble}", self.subscribers.ready(), self.count);
        }
        Ok(())
    }
}

fn plan(manners: &Manners, scenario: &Scenario) -> anyhow::Result<Plan> {
    let count = scenario.subscribers;
    let parsed = |text: &str| text.parse::<Template>().map_err(anyhow::Error::msg);
    let upgrade = Upgrade { protocol: manners.protocol.clone(), ..Upgrade::to(manners.addr, &manners.target)? };
    let opcode = if manners.is_binary { Opcode::Binary } else { Opcode::Text };
    let subscribe = manners.subscribe.iter().map(|text| Ok((opcode, parsed(text)?)));
    let change = manners
        .change
        .as_ref()
        .map(|[leave, take]| anyhow::Ok(Changes { per_s: 0.0, leave: parsed(leave)?, take: parsed(take)? }));
    let plan = Plan {
        subjects: scenario.subjects(),
        lists: scenario.lists()?,
        changes: change.transpose()?,
        subscribe: subscribe.collect::<anyhow::Result<_>>()?,
        reading: Reading {
            timestamp: Some(TIMESTAMP.parse().map_err(anyhow::Error::msg)?),
            sequence: Some(SEQUENCE.parse().map_err(anyhow::Error::msg)?),
            subject: Some(NUMBER.parse().map_err(anyhow::Error::msg)?),
            boundary: if manners.joins_messages { Boundary::Timestamp } else { Boundary::Frame },
            preamble: manners.preamble.parse().map_err(anyhow::Error::msg)?,
        },
        ..Plan::simple(manners.addr, count, Some(upgrade))
    };
    plan.sources.check(count)?;
    Ok(plan)
}

/// How long to wait for one round.
const PATIENCE: Duration = Duration::from_secs(60);
