//! The subscribers of one subject of any server, in this thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use fanblade_wire::frame::Opcode;

use crate::scenario::message::{SEQUENCE, TIMESTAMP};
use crate::scenario::server::Manners;
use crate::swarm::plan::{Plan, Upgrade};
use crate::swarm::reading::{Boundary, Reading};
use crate::swarm::sockets::Sockets;
use crate::swarm::subscribers::{Subscribers, Window};

pub(super) struct Crowd {
    sockets: Sockets,
    subscribers: Subscribers,
    count: u32,
}

impl Crowd {
    /// Returns once all have subscribed.
    pub(super) fn open(manners: &Manners, count: u32) -> anyhow::Result<Crowd> {
        let plan = Arc::new(plan(manners, count)?);
        let mut crowd =
            Crowd { sockets: Sockets::new(&plan, 0..count)?, subscribers: Subscribers::new(&plan, 0..count), count };
        crowd.subscribers.make_room(count as usize);
        crowd.sockets.open();
        let end = Instant::now() + plan.patience;
        while crowd.subscribers.ready() < count || !crowd.sockets.settle() {
            crowd.turn()?;
            ensure!(Instant::now() < end, "{} of {count} clients are subscribed", crowd.subscribers.ready());
        }
        crowd.subscribers.begin(Window { from_ns: 0, to_ns: u64::MAX });
        Ok(crowd)
    }

    /// Lets time pass, and answers what pings there are.
    pub(super) fn idle(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Spins until every client has received so many messages.
    pub(super) fn await_messages(&mut self, number: u64) -> anyhow::Result<()> {
        let due = number * u64::from(self.count);
        let end = Instant::now() + PATIENCE;
        let mut spins = 0u32;
        while self.subscribers.messages() < due {
            self.turn()?;
            spins += 1;
            if spins.is_multiple_of(1024) && Instant::now() > end {
                bail!("{} of {due} messages were not delivered", due - self.subscribers.messages());
            }
        }
        Ok(())
    }

    /// Whether all was as it should be.
    pub(super) fn finish(self) -> anyhow::Result<()> {
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

fn plan(manners: &Manners, count: u32) -> anyhow::Result<Plan> {
    let parsed = |text: &str| text.parse().map_err(anyhow::Error::msg);
    let upgrade = Upgrade { protocol: manners.protocol.clone(), ..Upgrade::to(manners.addr, &manners.target)? };
    let opcode = if manners.is_binary { Opcode::Binary } else { Opcode::Text };
    let subscribe = manners.subscribe.iter().map(|text| Ok((opcode, parsed(text)?)));
    let plan = Plan {
        subscribe: subscribe.collect::<anyhow::Result<_>>()?,
        reading: Reading {
            timestamp: Some(TIMESTAMP.parse().map_err(anyhow::Error::msg)?),
            sequence: Some(SEQUENCE.parse().map_err(anyhow::Error::msg)?),
            boundary: if manners.joins_messages { Boundary::Timestamp } else { Boundary::Frame },
            preamble: manners.preamble.parse().map_err(anyhow::Error::msg)?,
        },
        ..Plan::simple(manners.addr, count, Some(upgrade))
    };
    plan.sources.check(count)?;
    Ok(plan)
}

/// For one round.
const PATIENCE: Duration = Duration::from_secs(60);
