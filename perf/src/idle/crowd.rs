//! The clients, who know every text that is due to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use fanblade_swarm::plan::{Plan, Subjects, Upgrade};
use fanblade_swarm::sockets::{Audience, Sockets};
use fanblade_swarm::speech::Pong;
use fanblade_wire::client::ServerFrames;
use fanblade_wire::frame::Opcode;

use super::script::{self, Line};

pub(crate) struct Crowd {
    sockets: Sockets,
    readers: Readers,
}

struct Readers {
    plan: Arc<Plan>,
    clients: Vec<Client>,
    /// What every client must receive in all, after the answer to its subscription.
    script: Vec<Line>,
    /// Clients that have received all of it.
    current: usize,
    pongs: u64,
}

struct Client {
    frames: ServerFrames,
    is_subscribed: bool,
    /// Lines of the script that the client has received.
    lines: usize,
}

impl Crowd {
    /// Opens `count` connections, `in_flight` at the same time; each subscribes to one subject.
    pub(crate) fn open(
        addr: std::net::SocketAddrV4,
        count: u32,
        subjects: Subjects,
        in_flight: u16,
    ) -> anyhow::Result<Crowd> {
        let target = format!("/v1/stream?subjects={}&mode=all", script::SUBJECT);
        let plan = Plan { subjects, in_flight, ..Plan::simple(addr, count, Some(Upgrade::to(addr, &target)?)) };
        let plan = Arc::new(plan);
        plan.sources.check(count)?;
        let client = || Client { frames: ServerFrames::new(PAYLOAD_LEN_MAX), is_subscribed: false, lines: 0 };
        let clients = (0..count).map(|_| client()).collect();
        let mut crowd = Crowd {
            sockets: Sockets::new(&plan, 0..count)?,
            readers: Readers { plan, clients, script: Vec::new(), current: 0, pongs: 0 },
        };
        crowd.sockets.open();
        crowd.await_current("its subscription")?;
        Ok(crowd)
    }

    /// Adds a line to the script, and waits until every client has received all of the script.
    pub(crate) fn await_line(&mut self, line: Line) -> anyhow::Result<()> {
        self.readers.script.push(line);
        self.readers.current = 0;
        self.await_current(&format!("{line:?}"))
    }

    fn await_current(&mut self, what: &str) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.readers.current < self.readers.clients.len() {
            self.sockets.turn(&mut self.readers)?;
            let missing = self.readers.clients.len() - self.readers.current;
            ensure!(Instant::now() < end, "{missing} of {} clients still wait for {what}", self.readers.clients.len());
        }
        Ok(())
    }

    /// Answers pings for a while, and fails if any text comes.
    pub(crate) fn hold(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            while self.sockets.turn(&mut self.readers)? > 0 {}
            if Instant::now() >= end {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Pings answered so far.
    pub(crate) fn pongs(&self) -> u64 {
        self.readers.pongs
    }
}

impl Audience for Readers {
    fn opened(&mut self, _: u32) -> anyhow::Result<()> {
        Ok(())
    }

    fn received(&mut self, client: u32, bytes: &[u8], _: u64, pongs: &mut Vec<Pong>) -> anyhow::Result<()> {
        let Readers { plan, clients, script, current, pongs: answered } = self;
        let subject = plan.subjects.of(client) as usize;
        let subjects = plan.subjects.count as usize;
        let Client { frames, is_subscribed, lines } = &mut clients[client as usize];
        let mut fault = None;
        frames.push(bytes, |opcode, payload| {
            if opcode == Opcode::Ping {
                *answered += 1;
                return pongs.push(Pong { client, payload: payload.to_vec() });
            }
            if !*is_subscribed {
                let expected = format!(r#"[{{"subject":"{}""#, script::subject(subject));
                let text = String::from_utf8_lossy(payload);
                if opcode != Opcode::Text || !text.contains(&expected) {
                    fault = Some(format!("{text:?} instead of {expected}"));
                }
                *is_subscribed = true;
                *current += 1;
                return;
            }
            let expected = match (opcode, script.get(*lines)) {
                (Opcode::Text, Some(Line::Message(number))) => script::message(subjects, subject, *number),
                (Opcode::Text, Some(Line::Notice)) => script::NOTICE.into(),
                _ => format!("nothing ({opcode:?})"),
            };
            *lines += 1;
            if payload != expected.as_bytes() {
                fault = Some(format!("{:?} instead of {expected}", String::from_utf8_lossy(payload)));
            }
            *current += usize::from(*lines == script.len());
        })?;
        fault.map_or(Ok(()), |fault| bail!("connection {client} got {fault}"))
    }

    fn ended(&mut self, client: u32, errno: i32) -> anyhow::Result<bool> {
        bail!("connection {client} was lost (errno {errno})")
    }
}

const PAYLOAD_LEN_MAX: usize = 4_096;
/// How long to wait for one line of the script, or for all handshakes.
const PATIENCE: Duration = Duration::from_secs(120);
