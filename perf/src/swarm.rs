//! A swarm of subscribers on loopback: each connection is a direct descriptor of an io_uring, so that there may be
//! more of them than the process may have descriptors. It spins: a client that sleeps would charge the server for
//! waking it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fanblade_wire::client::{KEY, UpgradeRequest, read_response};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};

use crate::direct::{Direct, Received};
use crate::message::Messages;

pub(crate) struct Swarm {
    rings: Vec<Direct>,
    /// Bytes of messages that each connection has received.
    positions: Vec<u64>,
    messages: Messages,
    received: u64,
}

impl Swarm {
    pub(crate) fn new(payload_len: usize) -> Swarm {
        Swarm { rings: Vec::new(), positions: Vec::new(), messages: Messages::new(payload_len), received: 0 }
    }

    /// Connects `count` clients. With a `target` each of them makes a WebSocket handshake for it, and skips what the
    /// server has to say before the first message: `preamble` text frames.
    pub(crate) fn connect(
        &mut self,
        addr: SocketAddr,
        count: usize,
        target: Option<(&str, usize)>,
    ) -> anyhow::Result<()> {
        for _ in 0..count {
            let at = self.positions.len();
            let mut stream = connect_from(source(at), addr).with_context(|| format!("connection {at}"))?;
            if let Some((target, preamble)) = target {
                subscribe(&mut stream, addr, target, preamble).with_context(|| format!("connection {at}"))?;
            }
            if at == self.rings.len() * SLOTS_PER_RING {
                self.rings.push(Direct::new(SLOTS_PER_RING, true)?);
            }
            let ring = self.rings.last_mut().context("no ring")?;
            ring.install(at % SLOTS_PER_RING, stream.into())?;
            ring.receive(at % SLOTS_PER_RING)?;
            self.positions.push(0);
        }
        Ok(())
    }

    /// Spins until every connection has received every message before `number`, and checks each byte.
    pub(crate) fn await_messages(&mut self, number: u64, patience: Duration) -> anyhow::Result<()> {
        let Swarm { rings, positions, messages, received } = self;
        let position = number * messages.frame_len() as u64;
        let total = position * positions.len() as u64;
        let end = Instant::now() + patience;
        let mut spins = 0u32;
        while *received < total {
            for (ring, positions) in rings.iter_mut().zip(positions.chunks_mut(SLOTS_PER_RING)) {
                ring.harvest(|slot, got| {
                    let bytes = match got {
                        Received::Bytes(bytes) => bytes,
                        Received::End(errno) => bail!("connection {slot} has ended (errno {errno})"),
                    };
                    let position = &mut positions[slot];
                    ensure!(messages.check(*position, bytes), "connection {slot}: not the messages that were sent");
                    *position += bytes.len() as u64;
                    *received += bytes.len() as u64;
                    Ok(())
                })?;
            }
            spins += 1;
            if spins.is_multiple_of(1024) && Instant::now() > end {
                let behind = positions.iter().filter(|&&it| it < position).count();
                bail!("{behind} of {} clients still wait for messages before {number}", positions.len());
            }
        }
        ensure!(*received == total, "more was received than sent");
        Ok(())
    }
}

/// A table that every limit of descriptors from 16,384 on permits.
const SLOTS_PER_RING: usize = 16_384;

/// Connections per source address; ephemeral ports are some 28,000.
const CONNECTIONS_PER_SOURCE: usize = 8_000;

/// The address that client number `at` connects from.
pub(crate) fn source(at: usize) -> Ipv4Addr {
    let number = (at / CONNECTIONS_PER_SOURCE) as u32 + 2;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number)
}

/// A blocking connection from `source`, at a port of the kernel's choice.
pub(crate) fn connect_from(source: Ipv4Addr, addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let SocketAddr::V4(addr) = addr else { bail!("{addr}: the swarm speaks IPv4") };
    ensure!(addr.ip().is_loopback(), "{addr}: the swarm speaks to loopback only");
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The port is chosen at connect, by the whole 4-tuple.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(addr))?;
    Ok(socket.into())
}

fn subscribe(stream: &mut TcpStream, addr: SocketAddr, target: &str, preamble: usize) -> anyhow::Result<()> {
    let mut request = Vec::new();
    let host = addr.to_string();
    UpgradeRequest { host: &host, target, key: KEY, protocol: None, token: None }.write(&mut request);
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&request)?;
    let mut bytes = Vec::new();
    // Where the next frame begins, once the head of the response is whole.
    let mut at = None;
    let mut frames = 0;
    while frames < preamble {
        let mut chunk = [0; 4096];
        let len = match stream.read(&mut chunk) {
            // With a timeout set, a signal or io_uring's own work ends the call (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        ensure!(len > 0, "the server has closed the connection: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..len]);
        if at.is_none() {
            at = read_response(&bytes, KEY)?.map(|response| response.head_len);
        }
        while let Some(len) = at.and_then(|at| frame_len(&bytes[at..])) {
            at = at.map(|at| at + len);
            frames += 1;
        }
    }
    ensure!(at == Some(bytes.len()), "the server has said more than was expected: {}", String::from_utf8_lossy(&bytes));
    stream.set_read_timeout(None)?;
    Ok(())
}

/// The length of the whole, short frame that `bytes` begin with.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let len = match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])),
        len => 2 + usize::from(len & 0x7f),
    };
    (len <= bytes.len()).then_some(len)
}
