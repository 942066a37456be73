//! `storm-bare`: accepts, reads a request, and answers every one with the same 101. It looks for the end of a head and
//! for nothing else.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddrV4;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fanblade_net::ListenOptions;
use fanblade_swarm::sockets::ring::{Done, Kind, Ring, SLOTS_MAX};
use fanblade_wire::client::{KEY, UpgradeRequest};
use fanblade_wire::handshake::{Head, parse};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::scenario::cpus::Cpus;
use crate::scenario::definition::Scenario;
use crate::scenario::server::Manners;

#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    #[arg(long)]
    connections: u32,
}

/// The process itself.
pub(crate) fn run(args: &BareArgs) -> anyhow::Result<()> {
    fanblade_net::rlimit::raise_descriptors()?;
    let listener = fanblade_net::listen("127.0.0.1:0".parse()?, &ListenOptions::default())?;
    println!("{}", listener.local_addr());
    std::io::stdout().flush()?;
    let answer = answer()?;
    let mut tables = Vec::new();
    // Connections that are closing need their slots a little longer.
    let mut left = args.connections + args.connections / 4 + ACCEPTS;
    while left > 0 {
        let slots = left.min(SLOTS_MAX);
        left -= slots;
        let heads = vec![0; slots as usize];
        tables.push(Table { ring: Ring::new(slots)?, free: (0..slots).rev().collect(), heads });
    }
    let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
    for table in &mut tables {
        table.ring.tell(eventfd.as_fd())?;
    }
    let mut outstanding = 0;
    let mut all: Vec<Done> = Vec::new();
    loop {
        // The lowest table with room accepts.
        while outstanding < ACCEPTS {
            let Some(table) = tables.iter_mut().find(|table| !table.free.is_empty()) else { break };
            let Some(slot) = table.free.pop() else { break };
            table.ring.accept(&listener, slot)?;
            outstanding += 1;
        }
        let mut has_happened = false;
        for table in &mut tables {
            table.ring.turn(&mut all)?;
            has_happened |= !all.is_empty();
            for done in all.drain(..) {
                outstanding -= u32::from(done.kind == Kind::Accept);
                table.take(&done, &answer)?;
            }
        }
        if !has_happened {
            tables.iter_mut().for_each(|table| table.ring.notify(true));
            // Either the kernel sees that it must notify us, or we see its work: each side writes before it reads.
            fence(Ordering::SeqCst);
            if !tables.iter_mut().any(|table| table.ring.has_work()) {
                eventfd.read()?;
            }
            tables.iter_mut().for_each(|table| table.ring.notify(false));
        }
    }
}

struct Table {
    ring: Ring,
    free: Vec<u32>,
    /// How much of the end of a head each connection has seen: bytes of `\r\n\r\n`.
    heads: Vec<u8>,
}

impl Table {
    fn take(&mut self, done: &Done, answer: &[u8]) -> anyhow::Result<()> {
        let slot = done.slot;
        match done.kind {
            Kind::Accept if done.errno == 0 => {
                self.heads[slot as usize] = 0;
                self.ring.receive(slot)?;
            }
            Kind::Accept | Kind::Close => self.free.push(slot),
            Kind::Receive => {
                if let Some(buffer) = done.buffer {
                    let seen = &mut self.heads[slot as usize];
                    let is_whole = self.ring.received(buffer, done.len).iter().any(|byte| {
                        *seen = match (*seen, byte) {
                            (0 | 2, b'\r') | (1 | 3, b'\n') => *seen + 1,
                            (_, b'\r') => 1,
                            _ => 0,
                        };
                        usize::from(*seen) == END.len()
                    });
                    if is_whole {
                        self.ring.send(Kind::Speech, slot, 0, answer)?;
                    }
                    self.ring.give_back(buffer);
                }
                match (done.is_more_to_come, done.errno, done.len) {
                    (true, ..) => {}
                    (false, libc::ENOBUFS, _) | (false, 0, 1..) => self.ring.receive(slot)?,
                    _ => self.ring.close(slot)?,
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The same answer for all: all clients send the same key.
fn answer() -> anyhow::Result<Vec<u8>> {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    UpgradeRequest { host: "bare", target: "/", key: KEY, protocol: None, token: None }.write(&mut request);
    let Head::Upgrade(upgrade) = parse(&request, 0) else { bail!("not an upgrade request") };
    upgrade.response(None, &mut answer);
    Ok(answer)
}

const END: &[u8] = b"\r\n\r\n";
/// As many accepts as the blade's engine has under way.
const ACCEPTS: u32 = 64;

/// A handle of the process; dropping it ends the process.
pub(super) struct Bare {
    child: Child,
    addr: SocketAddrV4,
}

impl Bare {
    pub(super) fn start(scenario: &Scenario, cpus: &Cpus) -> anyhow::Result<Bare> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["storm-bare", "--connections", &scenario.subscribers.to_string()]).stdout(Stdio::piped());
        fanblade_measure::sys::tie(&mut command, &cpus.server)?;
        let mut child = command.spawn().context("cannot start the bare loop")?;
        let stdout = child.stdout.take();
        let mut bare = Bare { child, addr: SocketAddrV4::new([127, 0, 0, 1].into(), 0) };
        let mut line = String::new();
        BufReader::new(stdout.context("the bare loop has no standard output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the bare loop has ended before it printed its address");
        bare.addr = line.trim().parse()?;
        Ok(bare)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn manners(&self) -> Manners {
        Manners::plain(self.addr, "/")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
