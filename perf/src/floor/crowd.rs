//! The subscribers of one subject, who know every byte that is due to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use fanblade_swarm::plan::{Plan, Upgrade};
use fanblade_swarm::sockets::{Audience, Sockets};
use fanblade_swarm::speech::Pong;

use crate::message::Messages;

pub(crate) struct Crowd {
    sockets: Sockets,
    readers: Readers,
}

struct Readers {
    messages: Messages,
    positions: Vec<Position>,
    /// Text frames that come before the first message.
    preamble: usize,
    /// Clients that have received the preamble.
    ready: usize,
    received: u64,
}

enum Position {
    /// The preamble so far.
    Preamble(Vec<u8>),
    /// Bytes of messages that the client has received.
    At(u64),
}

impl Crowd {
    /// `upgrade`: the handshake of each client, and how many frames come before the first message. None: bare TCP.
    pub(super) fn open(
        addr: std::net::SocketAddrV4,
        count: u32,
        upgrade: Option<(Upgrade, usize)>,
        payload_len: usize,
    ) -> anyhow::Result<Crowd> {
        let (upgrade, preamble) = upgrade.map_or((None, 0), |(upgrade, preamble)| (Some(upgrade), preamble));
        let plan = Arc::new(Plan::simple(addr, count, upgrade));
        plan.sources.check(count)?;
        let mut crowd = Crowd {
            sockets: Sockets::new(&plan, 0..count)?,
            readers: Readers {
                messages: Messages::new(payload_len),
                positions: (0..count).map(|_| Position::Preamble(Vec::new())).collect(),
                preamble,
                ready: 0,
                received: 0,
            },
        };
        crowd.sockets.open();
        let end = Instant::now() + plan.patience;
        while crowd.readers.ready < count as usize || !crowd.sockets.settle() {
            crowd.sockets.turn(&mut crowd.readers)?;
            ensure!(Instant::now() < end, "only {} of {count} clients subscribed in time", crowd.readers.ready);
        }
        Ok(crowd)
    }

    /// Spins until every connection has received every message before `number`, and checks each byte.
    pub(crate) fn await_messages(&mut self, number: u64, patience: Duration) -> anyhow::Result<()> {
        let Crowd { sockets, readers } = self;
        let position = number * readers.messages.frame_len() as u64;
        let total = position * readers.positions.len() as u64;
        let end = Instant::now() + patience;
        let mut spins = 0u32;
        while readers.received < total {
            sockets.turn(readers)?;
            spins += 1;
            if spins.is_multiple_of(1024) && Instant::now() > end {
                let is_behind = |it: &&Position| !matches!(it, Position::At(at) if *at >= position);
                let behind = readers.positions.iter().filter(is_behind).count();
                bail!("{behind} of {} clients still wait for messages before {number}", readers.positions.len());
            }
        }
        ensure!(readers.received == total, "the clients received more than was sent");
        Ok(())
    }
}

impl Audience for Readers {
    fn opened(&mut self, client: u32) -> anyhow::Result<()> {
        if self.preamble == 0 {
            self.positions[client as usize] = Position::At(0);
            self.ready += 1;
        }
        Ok(())
    }

    fn received(&mut self, client: u32, bytes: &[u8], _: u64, _: &mut Vec<Pong>) -> anyhow::Result<()> {
        let position = &mut self.positions[client as usize];
        match position {
            Position::At(at) => {
                ensure!(self.messages.check(*at, bytes), "connection {client} received other bytes than were sent");
                *at += bytes.len() as u64;
                self.received += bytes.len() as u64;
            }
            Position::Preamble(so_far) => {
                so_far.extend_from_slice(bytes);
                let mut at = 0;
                for _ in 0..self.preamble {
                    let Some(len) = frame_len(&so_far[at..]) else { return Ok(()) };
                    at += len;
                }
                let text = String::from_utf8_lossy(so_far);
                ensure!(at == so_far.len(), "the server sent more than was expected: {text}");
                *position = Position::At(0);
                self.ready += 1;
            }
        }
        Ok(())
    }

    fn ended(&mut self, client: u32, errno: i32) -> anyhow::Result<bool> {
        bail!("connection {client} has ended (errno {errno})")
    }
}

/// The length of the whole, short frame that `bytes` begin with.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])),
        len => 2 + usize::from(len & 0x7f),
    };
    (len <= bytes.len()).then_some(len)
}
