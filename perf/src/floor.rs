//! `floor`: server CPU per delivered message, for the blade and for a bare loop over the same sockets on the same
//! engine.
//!
//! The server is a process of its own, pinned to one core; the clients spin in this process on another, because a
//! client that sleeps would charge the server for waking it. On loopback the receiving side's TCP work up to the socket
//! is charged to the sender, for both servers alike. Both servers run at the same time and take turns, one round of
//! messages each, so that a machine that changes its speed changes it for both.
//!
//! Clients check every byte that they receive. A message counts as delivered when all clients have all of it. The next
//! message is published only then, either one at a time or eight at once, which a server may deliver with one send.

mod args;
pub(crate) mod bare;
pub(crate) mod blade;
mod crowd;
mod listener;
mod report;
mod sample;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use fanblade_measure::sys::pin;
use fanblade_swarm::plan::Upgrade;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

pub(crate) use args::{EngineKind, FloorArgs, Measured, ServerArgs, ServerKind};
use crowd::Crowd;
pub(crate) use report::mode;
use sample::Sample;

pub(crate) fn run(args: &FloorArgs) -> anyhow::Result<()> {
    let Measured { server_cpu, client_cpu, .. } = args.measured;
    let cpus = fanblade_net::affinity::cpus_allowed()?;
    ensure!(server_cpu != client_cpu, "server and clients need a CPU each: --server-cpu, --client-cpu");
    ensure!(
        cpus.contains(&server_cpu) && cpus.contains(&client_cpu),
        "CPUs {server_cpu} and {client_cpu} must be among those that may be used: {cpus:?}"
    );
    fanblade_net::rlimit::raise_descriptors()?;
    pin(client_cpu)?;
    let mut samples = Vec::new();
    for run in 1..=args.runs {
        for &engine in &args.engines {
            let measured = measure(&args.measured, engine, &args.servers)
                .with_context(|| format!("run {run} on {}", engine.name()))?;
            for sample in measured {
                eprintln!(
                    "run {run}  {:5} on {:5}  backlog {:2}  {:6.0} ns of server CPU per message",
                    sample.server.name(),
                    engine.name(),
                    sample.backlog,
                    sample.cpu_ns_per_message,
                );
                samples.push(sample);
            }
        }
    }
    report::write(args, &samples)
}

/// One run of these servers, in each mode. They run at the same time and take turns, one round each: what disturbs the
/// machine for a second disturbs them alike. The clients run in this thread, on its CPU.
pub(crate) fn measure(args: &Measured, engine: EngineKind, kinds: &[ServerKind]) -> anyhow::Result<Vec<Sample>> {
    let mut contestants =
        kinds.iter().map(|&kind| Contestant::start(args, engine, kind)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut samples = Vec::new();
    for &backlog in &args.backlogs {
        for _ in 0..args.warmup_rounds {
            contestants.iter_mut().try_for_each(|it| it.round(backlog))?;
        }
        let before = contestants.iter().map(|it| it.server.cpu()).collect::<anyhow::Result<Vec<_>>>()?;
        let mut walls = vec![Duration::ZERO; contestants.len()];
        for _ in 0..args.rounds {
            for (it, wall) in contestants.iter_mut().zip(&mut walls) {
                let started = Instant::now();
                it.round(backlog)?;
                *wall += started.elapsed();
            }
        }
        let messages = f64::from(args.rounds) * f64::from(backlog) * f64::from(args.subscribers);
        for ((it, before), wall) in contestants.iter().zip(before).zip(walls) {
            samples.push(Sample {
                engine,
                server: it.server.kind,
                backlog,
                cpu_ns_per_message: (it.server.cpu()? - before).as_nanos() as f64 / messages,
                wall_ns_per_message: wall.as_nanos() as f64 / messages,
            });
        }
    }
    contestants.into_iter().try_for_each(|it| it.server.stop())?;
    Ok(samples)
}

/// A server and its subscribers, all connected.
struct Contestant {
    server: Server,
    crowd: Crowd,
    /// Messages published so far.
    number: u64,
}

impl Contestant {
    fn start(args: &Measured, engine: EngineKind, kind: ServerKind) -> anyhow::Result<Contestant> {
        let program = Command::new(std::env::current_exe()?);
        let wanted = ServerArgs {
            engine,
            subscribers: args.subscribers as usize,
            payload_bytes: args.payload_bytes.into(),
            cpu: args.server_cpu,
            spin_us: args.spin_us,
        };
        let named = || format!("{} on {}", kind.name(), engine.name());
        let server = Server::start(program, kind, &wanted).with_context(named)?;
        let crowd = server.crowd(args.subscribers).with_context(named)?;
        Ok(Contestant { server, crowd, number: 0 })
    }

    /// Publishes `backlog` messages at once; returns when every client has all of them.
    fn round(&mut self, backlog: u8) -> anyhow::Result<()> {
        self.server.publish(backlog)?;
        self.number += u64::from(backlog);
        self.crowd.await_messages(self.number, PATIENCE).with_context(|| self.server.kind.name())
    }
}

/// A server's process. It prints the address on which it listens, publishes as many messages as each byte on its
/// standard input says, and ends when that input ends.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    addr: SocketAddrV4,
    clock: ClockId,
    kind: ServerKind,
    payload_bytes: usize,
}

impl Server {
    /// `program` is this program, or another one that runs it.
    pub(crate) fn start(mut program: Command, kind: ServerKind, wanted: &ServerArgs) -> anyhow::Result<Server> {
        let subcommand = match kind {
            ServerKind::Bare => "floor-server",
            ServerKind::Blade => "floor-blade",
        };
        let mut child = program
            .args([subcommand, "--engine", wanted.engine.name()])
            .args(["--subscribers", &wanted.subscribers.to_string()])
            .args(["--payload-bytes", &wanted.payload_bytes.to_string()])
            .args(["--cpu", &wanted.cpu.to_string()])
            .args(["--spin-us", &wanted.spin_us.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let pid = Pid::from_raw(child.id() as i32);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        // From here on, dropping the handle ends the process.
        let (addr, clock) = (SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), clock_getcpuclockid(pid)?);
        let mut server = Server { child, stdin, addr, clock, kind, payload_bytes: wanted.payload_bytes };
        let mut line = String::new();
        BufReader::new(stdout.context("the server has no standard output")?).read_line(&mut line)?;
        server.addr =
            line.trim().parse().with_context(|| format!("the server printed {line:?} instead of its address"))?;
        Ok(server)
    }

    /// Connects the server's subscribers; returns when all are connected.
    pub(crate) fn crowd(&self, count: u32) -> anyhow::Result<Crowd> {
        let target = format!("/v1/stream?subjects={}&mode=all", blade::SUBJECT);
        let upgrade = (self.kind == ServerKind::Blade).then(|| Upgrade::to(self.addr, &target)).transpose()?;
        Crowd::open(self.addr, count, upgrade.map(|upgrade| (upgrade, 1)), self.payload_bytes)
    }

    pub(crate) fn publish(&mut self, messages: u8) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("the server was stopped already")?;
        stdin.write_all(&[messages]).context("the server has ended")
    }

    /// CPU time of the process, all threads, user and system.
    fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stdin = None;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long to wait for one round.
const PATIENCE: Duration = Duration::from_secs(60);
