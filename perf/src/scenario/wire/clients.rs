//! The subscribers: few, so that each copy is remembered with its times.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fanblade_measure::clock::nanoseconds;
use fanblade_swarm::marker::Marker;
use fanblade_wire::UnixNs;
use fanblade_wire::client::{KEY, ServerFrames, UpgradeRequest, read_response};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::stamps::place;

pub(super) struct Clients {
    clients: Vec<Client>,
    sequence: Marker,
    control: Vec<u8>,
    buffer: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    frames: ServerFrames,
}

/// When a client's copy of a message was in its socket, and when the client had it; 0: not yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Receipt {
    pub(super) arrived_ns: u64,
    pub(super) taken_ns: u64,
}

impl Clients {
    /// Connects and subscribes everybody.
    pub(super) fn connect(addr: SocketAddrV4, subject: &str, count: u32) -> anyhow::Result<Clients> {
        let connect = |_| Client::connect(addr, subject);
        let clients = (0..count).map(connect).collect::<anyhow::Result<_>>()?;
        let sequence = SEQUENCE.parse().map_err(anyhow::Error::msg)?;
        Ok(Clients { clients, sequence, control: nix::cmsg_space!(TimeSpec), buffer: vec![0; BUFFER_LEN] })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        self.clients.iter().map(|client| &client.stream)
    }

    /// Takes what a client's socket has, and notes the messages in `receipts`, which has a row for each message with a
    /// place for each client. Returns how many messages there were.
    pub(super) fn receive(&mut self, number: usize, receipts: &mut [Receipt]) -> anyhow::Result<usize> {
        let count = self.clients.len();
        let Clients { clients, sequence, control, buffer } = self;
        let client = clients.get_mut(number).context("no such client")?;
        let mut parts = [IoSliceMut::new(buffer)];
        let (len, arrived_ns) = {
            let received = recvmsg::<()>(client.stream.as_raw_fd(), &mut parts, Some(control), MsgFlags::MSG_DONTWAIT)?;
            let stamp = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(time) => Some(nanoseconds(time.into())),
                _ => None,
            });
            (received.bytes, stamp)
        };
        let taken_ns = UnixNs::now().0;
        ensure!(len > 0, "the blade has ended a connection");
        let arrived_ns = arrived_ns.context("the kernel gave no time stamp for received bytes")?;
        let (mut taken, mut stranger) = (0, None);
        client.frames.push(&buffer[..len], |_, payload| {
            if !payload.starts_with(UPDATE) {
                return;
            }
            let Some(sequence) = sequence.find(payload).filter(|sequence| *sequence > 0) else { return };
            match place(sequence).and_then(|place| receipts.get_mut(place * count + number)) {
                Some(receipt) if receipt.taken_ns == 0 => *receipt = Receipt { arrived_ns, taken_ns },
                _ => stranger = Some(sequence),
            }
            taken += 1;
        })?;
        if let Some(sequence) = stranger {
            bail!("message {sequence} came to client {number} twice, or was never sent");
        }
        Ok(taken)
    }
}

impl Client {
    fn connect(addr: SocketAddrV4, subject: &str) -> anyhow::Result<Client> {
        let mut stream = TcpStream::connect(addr).context("cannot connect to the blade")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = Vec::new();
        let target = format!("/v1/stream?subjects={subject}&mode=all");
        UpgradeRequest { host: "blade", target: &target, key: KEY, protocol: None, token: None }.write(&mut request);
        stream.write_all(&request)?;
        let mut bytes = Vec::new();
        let head_len = loop {
            read_some(&mut stream, &mut bytes)?;
            if let Some(response) = read_response(&bytes, KEY)? {
                break response.head_len;
            }
        };
        bytes.drain(..head_len);
        let (mut frames, mut is_subscribed) = (ServerFrames::new(BUFFER_LEN), false);
        loop {
            frames.push(&bytes, |_, payload| is_subscribed |= payload.starts_with(br#"{"op":"subscribed""#))?;
            if is_subscribed {
                break;
            }
            bytes.clear();
            read_some(&mut stream, &mut bytes)?;
        }
        stream.set_nonblocking(true)?;
        setsockopt(&stream, sockopt::ReceiveTimestampns, &true)?;
        Ok(Client { stream, frames })
    }
}

fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut chunk = [0; 4_096];
    let len = stream.read(&mut chunk)?;
    ensure!(len > 0, "the blade has ended a connection");
    bytes.extend_from_slice(&chunk[..len]);
    Ok(())
}

/// What an update begins with, and where its number stands in it: `{"s":"…","q":N,…`.
const UPDATE: &[u8] = br#"{"s":"#;
const SEQUENCE: &str = r#"text:,"q":"#;
const BUFFER_LEN: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
