//! The clients: each connection a direct descriptor of an io_uring, so that there may be more of them than the
//! process may have descriptors. Each checks every text that it gets, and answers pings.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fanblade_wire::client::{KEY, ServerFrames, UpgradeRequest, read_response};
use fanblade_wire::frame::Opcode;

use super::script::{self, Line};
use crate::direct::{Direct, Received};
use crate::swarm::{connect_from, source};

pub(crate) struct Crowd {
    rings: Vec<Direct>,
    /// Of a ring; the table of direct descriptors is limited as descriptors are.
    slots: usize,
    clients: Vec<Client>,
    subjects: usize,
    /// What every client is to be sent, in all.
    script: Vec<Line>,
    /// Clients that have got all of it.
    current: usize,
    pongs: u64,
}

struct Client {
    frames: ServerFrames,
    /// Lines of the script that it has got.
    lines: usize,
}

impl Crowd {
    pub(crate) fn new(subjects: usize, descriptors: u64) -> Crowd {
        let slots = SLOTS_PER_RING_MAX.min(usize::try_from(descriptors).unwrap_or(usize::MAX));
        let (rings, clients, script) = (Vec::new(), Vec::new(), Vec::new());
        Crowd { rings, slots, clients, subjects, script, current: 0, pongs: 0 }
    }

    /// Opens `count` connections more, all at once; each subscribes to one subject.
    pub(crate) fn open(&mut self, addr: SocketAddr, count: usize) -> anyhow::Result<()> {
        let first = self.clients.len();
        let mut streams = Vec::with_capacity(count);
        let mut request = Vec::new();
        let host = addr.to_string();
        for at in first..first + count {
            let mut stream = connect_from(source(at), addr).with_context(|| format!("connection {at}"))?;
            request.clear();
            let target = format!("/v1/stream?subjects={}&mode=all", script::subject(at % self.subjects));
            UpgradeRequest { host: &host, target: &target, key: KEY, protocol: None, token: None }.write(&mut request);
            stream.write_all(&request)?;
            streams.push(stream);
        }
        for (mut stream, at) in streams.into_iter().zip(first..) {
            await_subscribed(&mut stream, &script::subject(at % self.subjects))
                .with_context(|| format!("connection {at}"))?;
            if at == self.rings.len() * self.slots {
                self.rings.push(Direct::new(self.slots, true)?);
            }
            let ring = self.rings.last_mut().context("no ring")?;
            ring.install(at % self.slots, stream.into())?;
            ring.receive(at % self.slots)?;
            self.clients.push(Client { frames: ServerFrames::new(PAYLOAD_LEN_MAX), lines: 0 });
        }
        self.current = self.clients.len();
        Ok(())
    }

    /// Waits until every client has got all so far and this.
    pub(crate) fn await_line(&mut self, line: Line) -> anyhow::Result<()> {
        self.script.push(line);
        self.current = 0;
        let end = Instant::now() + PATIENCE;
        while self.current < self.clients.len() {
            self.harvest()?;
            let missing = self.clients.len() - self.current;
            ensure!(Instant::now() < end, "{missing} of {} clients still wait for {line:?}", self.clients.len());
        }
        Ok(())
    }

    /// Only answers pings, once and for a while: any text is one too many.
    pub(crate) fn hold(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            while self.harvest()? {}
            if Instant::now() >= end {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Pings answered.
    pub(crate) fn pongs(&self) -> u64 {
        self.pongs
    }

    /// Takes what has come; `false` when that was nothing. There may be more than the rings have buffers for.
    fn harvest(&mut self) -> anyhow::Result<bool> {
        let mut has_received = false;
        let Crowd { rings, slots, clients, subjects, script, current, pongs } = self;
        let mut pinged = Vec::new();
        for (number, (ring, clients)) in rings.iter_mut().zip(clients.chunks_mut(*slots)).enumerate() {
            ring.harvest(|slot, got| {
                let at = number * *slots + slot;
                let bytes = match got {
                    Received::Bytes(bytes) => bytes,
                    Received::End(errno) => bail!("connection {at} was lost (errno {errno})"),
                };
                has_received = true;
                let Client { frames, lines } = &mut clients[slot];
                let mut fault = None;
                frames.push(bytes, |opcode, payload| {
                    let expected = match (opcode, script.get(*lines)) {
                        (Opcode::Ping, _) => return pinged.push(slot),
                        (Opcode::Text, Some(Line::Message(number))) => {
                            script::message(*subjects, at % *subjects, *number)
                        }
                        (Opcode::Text, Some(Line::Notice)) => script::NOTICE.into(),
                        _ => format!("nothing ({opcode:?})"),
                    };
                    *lines += 1;
                    if payload != expected.as_bytes() {
                        fault = Some(format!("{:?} instead of {expected}", String::from_utf8_lossy(payload)));
                    }
                    *current += usize::from(*lines == script.len());
                })?;
                fault.map_or(Ok(()), |fault| bail!("connection {at} got {fault}"))
            })?;
            for slot in pinged.drain(..) {
                *pongs += 1;
                ring.reply(slot, PONG)?;
            }
        }
        Ok(has_received)
    }
}

/// Reads the answer to the upgrade, and the one to the subscription in its address.
fn await_subscribed(stream: &mut TcpStream, subject: &str) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    let mut frames = ServerFrames::new(PAYLOAD_LEN_MAX);
    let mut replies = Vec::new();
    let mut is_open = false;
    while replies.is_empty() {
        let mut chunk = [0; 1024];
        let len = stream.read(&mut chunk)?;
        ensure!(len > 0, "the server has closed it: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..len]);
        if !is_open && let Some(response) = read_response(&bytes, KEY)? {
            is_open = true;
            bytes.drain(..response.head_len);
        }
        if is_open {
            frames.push(&bytes, |_, payload| replies.push(String::from_utf8_lossy(payload).into_owned()))?;
            bytes.clear();
        }
    }
    let expected = format!(r#"[{{"subject":"{subject}""#);
    ensure!(replies.len() == 1 && replies[0].contains(&expected), "{replies:?} instead of {expected}");
    ensure!(frames.is_between_frames(), "more than the reply to the subscription");
    Ok(())
}

/// An empty pong, masked with zeros (RFC 6455, 5.5.3): the pings are empty.
const PONG: &[u8] = &[0x8a, 0x80, 0, 0, 0, 0];
const SLOTS_PER_RING_MAX: usize = 16_384;
const PAYLOAD_LEN_MAX: usize = 4_096;
/// For one line of the script, or one handshake.
const PATIENCE: Duration = Duration::from_secs(60);
