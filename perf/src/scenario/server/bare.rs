//! `bare`: the least that any server on the kernel's sockets costs if each subscriber has a list of its own: for each
//! subject an array of sockets, and one send to each socket for which there is something. No Fanblade code but the
//! listener's options, the opening handshake and the head of a frame.
//!
//! Subscribers name their lists in the address, as in [`super::contract`], and stay as long as the server does.
//! Messages are published through a pipe, as in [`super::datapath`]; messages that come together are due together.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fanblade_net::ListenOptions;
use fanblade_swarm::sockets::ring::SLOTS_MAX;
use fanblade_wire::frame::{Opcode, write_frame};
use fanblade_wire::handshake::{Head, parse};
use serde_json::{Value, json};

use super::datapath::{Input, Pipe, read_some, split};
use super::{Manners, Server, contract};
use crate::direct::Direct;
use crate::scenario::definition::Scenario;
use crate::scenario::publisher::Outlet;

#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    #[arg(long)]
    subscribers: u32,
    #[arg(long)]
    subjects: u32,
}

/// The process itself.
pub(crate) fn run(args: &BareArgs) -> anyhow::Result<()> {
    fanblade_net::rlimit::raise_descriptors()?;
    let listener = fanblade_net::listen("127.0.0.1:0".parse()?, &ListenOptions::default())?;
    println!("{}", listener.local_addr());
    std::io::stdout().flush()?;
    let listener = TcpListener::from(OwnedFd::from(listener));
    listener.set_nonblocking(false)?;
    let mut tables = Vec::new();
    let mut wanted = vec![Vec::new(); args.subjects as usize];
    for subscriber in 0..args.subscribers {
        if subscriber % SLOTS_MAX == 0 {
            let slots = (args.subscribers - subscriber).min(SLOTS_MAX) as usize;
            tables.push(Table { ring: Direct::new(slots)?, sends: Vec::new() });
        }
        let (socket, list) = welcome(listener.accept().context("cannot accept a connection")?.0)?;
        for subject in list {
            let subscribers =
                wanted.get_mut(subject as usize).with_context(|| format!("there is no subject {subject}"))?;
            subscribers.push(subscriber);
        }
        let table = tables.last_mut().context("there is no table of sockets")?;
        table.ring.install((subscriber % SLOTS_MAX) as usize, socket)?;
    }
    let mut pass = Pass::new(args.subscribers, tables);
    let mut stdin = std::io::stdin().lock();
    let mut bytes = Vec::new();
    while read_some(&mut stdin, &mut bytes)? {
        let mut rest = &bytes[..];
        while let Some((subject, payload, behind)) = split(rest) {
            rest = behind;
            pass.add(
                payload,
                wanted.get(subject as usize).context("the publisher names a subject that does not exist")?,
            );
        }
        pass.send()?;
        let left = rest.len();
        bytes.drain(..bytes.len() - left);
    }
    Ok(())
}

/// Upgrades a subscriber, and reads its list from the address.
fn welcome(mut socket: TcpStream) -> anyhow::Result<(OwnedFd, Vec<u32>)> {
    let (mut request, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        let len = socket.read(&mut chunk)?;
        ensure!(len > 0, "a subscriber has closed its connection before its upgrade");
        request.extend_from_slice(&chunk[..len]);
        let mut answer = Vec::new();
        match parse(&request, 0) {
            Head::Incomplete => continue,
            Head::Reject(_) => bail!("not an upgrade request: {}", String::from_utf8_lossy(&request)),
            Head::Upgrade(upgrade) => upgrade.response(None, &mut answer),
        }
        let target = std::str::from_utf8(request.split(|byte| *byte == b' ').nth(1).unwrap_or_default())?;
        let numbers = target.trim_start_matches('/').split(',');
        let list =
            numbers.map(|number| number.parse().with_context(|| format!("`{number}` is not the number of a subject")));
        let list = list.collect::<anyhow::Result<_>>()?;
        socket.write_all(&answer)?;
        return Ok((socket.into(), list));
    }
}

/// Some of the sockets, and what must be sent to them: frames, or several of them joined.
struct Table {
    ring: Direct,
    sends: Vec<(u32, Part)>,
}

enum Part {
    /// The frame of the message with this number.
    Frame(u32),
    Joined(Range<usize>),
}

/// What is due at once, and who receives it.
struct Pass {
    tables: Vec<Table>,
    frames: Vec<u8>,
    /// Where each message's frame is.
    messages: Vec<Range<usize>>,
    /// The joined frames of each subscriber that gets several.
    joined: Vec<u8>,
    /// Each message for each of its subscribers, with a link to the one before for the same subscriber.
    due: Vec<Due>,
    /// The last of those of each subscriber, counted from 1.
    last: Vec<u32>,
    touched: Vec<u32>,
}

struct Due {
    message: u32,
    before: u32,
}

impl Pass {
    fn new(subscribers: u32, tables: Vec<Table>) -> Pass {
        let last = vec![0; subscribers as usize];
        Pass {
            tables,
            frames: Vec::new(),
            messages: Vec::new(),
            joined: Vec::new(),
            due: Vec::new(),
            last,
            touched: Vec::new(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lists of a pass that long would take 32 GiB")]
    fn add(&mut self, payload: &[u8], subscribers: &[u32]) {
        let from = self.frames.len();
        write_frame(&mut self.frames, Opcode::Text, payload);
        let message = self.messages.len() as u32;
        self.messages.push(from..self.frames.len());
        for &subscriber in subscribers {
            let last = &mut self.last[subscriber as usize];
            self.due.push(Due { message, before: *last });
            if *last == 0 {
                self.touched.push(subscriber);
            }
            *last = self.due.len() as u32;
        }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let Pass { tables, frames, messages, joined, due, last, touched } = self;
        let mut several = Vec::new();
        for subscriber in touched.drain(..) {
            let mut at = std::mem::take(&mut last[subscriber as usize]);
            let newest = &due[at as usize - 1];
            let part = if newest.before == 0 {
                Part::Frame(newest.message)
            } else {
                while at > 0 {
                    several.push(&due[at as usize - 1]);
                    at = several[several.len() - 1].before;
                }
                let from = joined.len();
                for due in several.drain(..).rev() {
                    joined.extend_from_slice(&frames[messages[due.message as usize].clone()]);
                }
                Part::Joined(from..joined.len())
            };
            tables[(subscriber / SLOTS_MAX) as usize].sends.push((subscriber % SLOTS_MAX, part));
        }
        for Table { ring, sends } in tables {
            ring.send(sends.iter().map(|(slot, part)| match part {
                Part::Frame(message) => (*slot, &frames[messages[*message as usize].clone()]),
                Part::Joined(range) => (*slot, &joined[range.clone()]),
            }))?;
            sends.clear();
        }
        [frames, joined].into_iter().for_each(Vec::clear);
        messages.clear();
        due.clear();
        Ok(())
    }
}

/// A handle of the process; dropping it ends the process.
pub(crate) struct Bare {
    child: Child,
    addr: SocketAddrV4,
    input: Option<Input>,
    target: &'static str,
}

impl Bare {
    pub(super) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Bare> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bare", "--subscribers", &scenario.subscribers.to_string()])
            .args(["--subjects", &scenario.subjects.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        fanblade_measure::sys::tie(&mut command, cpus)?;
        let mut child = command.spawn().context("cannot start the bare loop")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let target = contract::subscriber_target(scenario);
        // From here on, dropping the handle ends the process.
        let mut bare =
            Bare { child, addr: SocketAddrV4::new([127, 0, 0, 1].into(), 0), input: stdin.map(Input::new), target };
        let mut line = String::new();
        BufReader::new(stdout.context("the bare loop has no standard output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the bare loop has ended before it printed its address");
        bare.addr = line.trim().parse()?;
        Ok(bare)
    }
}

impl Server for Bare {
    fn manners(&self) -> Manners {
        Manners::plain(self.addr, self.target)
    }

    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>> {
        Ok(Box::new(Pipe::new(self.input.clone().context("the bare loop has no standard input")?)))
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    fn counters(&mut self) -> anyhow::Result<Value> {
        Ok(Value::Null)
    }

    fn configuration(&self) -> Value {
        json!({"sends": "one for each socket and pass, by io_uring"})
    }

    fn kill(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.kill();
    }
}
