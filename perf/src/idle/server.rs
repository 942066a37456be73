//! `idle-server`: the blade's own data path, from the ring to the sockets, in a process whose memory is measured from
//! outside; and the parent's handle of it.
//!
//! It prints a line of JSON about itself, then obeys lines on its standard input until the input ends.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fanblade_net::{EngineConfig, ListenOptions};
use fanblade_ring::{Lane, NewFrame, Payloads, RingConfig, SubjectId, UnixNs, Writer};
use fanblade_worker::{Limits, WorkerConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::args::IdleArgs;
use super::script;
use crate::floor::EngineKind;

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    #[arg(long)]
    engine: EngineKind,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    subjects: usize,
    #[arg(long)]
    ping_interval_ms: u32,
}

/// The first line that the server prints: where it listens, and what it predicts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) addr: SocketAddrV4,
    /// Bytes of a session in the worker's slab.
    pub(crate) slab: usize,
    /// Bytes in the list of its group's members.
    pub(crate) group: usize,
    /// Bytes in the engine.
    pub(crate) engine: usize,
}

pub(crate) fn run(args: &ServerArgs) -> anyhow::Result<()> {
    fanblade_net::rlimit::raise_descriptors()?;
    // The ring, with all subjects.
    let mut lane_len = [0; fanblade_ring::LANES];
    lane_len[Lane::Json as usize] = 16 << 20;
    let subjects_max = u32::try_from(args.subjects)?;
    let mut writer =
        Writer::create(&RingConfig { index_len: 1 << 14, lane_len, subjects_max, checksums: false }, "idle")?;
    let subjects = (0..args.subjects).map(|subject| Ok(writer.subject(&script::subject(subject), 1)?));
    let subjects: Vec<SubjectId> = subjects.collect::<anyhow::Result<_>>()?;
    // The worker, in a thread of its own.
    let (waker, sleeper) = fanblade_ring::pair()?;
    let listener = fanblade_net::listen("127.0.0.1:0".parse()?, &ListenOptions::default())?;
    let SocketAddr::V4(addr) = listener.local_addr() else { bail!("the listener has no IPv4 address") };
    // The first deadline of a session is the one for its first subscription, which comes with its upgrade here.
    let ping_interval_ms = args.ping_interval_ms;
    let limits = Limits { ping_interval_ms, subscribe_ms_max: ping_interval_ms, ..Limits::default() };
    let config = WorkerConfig { limits, ..WorkerConfig::default() };
    let (engine, sessions_max) = (args.engine, args.connections);
    // The engine is made in the worker's thread, so that its prediction comes by a channel.
    let (predicted, prediction) = channel();
    let worker = fanblade_worker::spawn(config, writer.open_reader()?, sleeper, waker.clone(), move |sleeper| {
        let config = EngineConfig { sessions_max, waker: Some(sleeper.fd()) };
        let made = match engine {
            EngineKind::Uring => fanblade_net::uring(listener, &config),
            EngineKind::Epoll => fanblade_net::epoll(listener, &config),
        };
        let engine = made.map_err(std::io::Error::other)?;
        crate::confined::confine(&*engine);
        let _ = predicted.send(engine.bytes_per_session());
        Ok(engine)
    })?;
    say(&Greeting {
        addr,
        slab: fanblade_worker::bytes_in_slab(),
        group: fanblade_worker::bytes_in_group(),
        engine: prediction.recv()?,
    })?;
    // Obeys the parent until it closes standard input.
    let mut number = 0;
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "publish" => {
                for (subject, &id) in subjects.iter().enumerate() {
                    let now_ns = UnixNs::now();
                    let seq = script::seq(subjects.len(), subject, number);
                    let update = NewFrame { subject: id, channel: 1, seq, ts_feed_ns: now_ns, ts_publish_ns: now_ns };
                    let mut payloads: Payloads<'_> = [&[]; fanblade_ring::LANES];
                    let text = script::message(subjects.len(), subject, number);
                    payloads[Lane::Json as usize] = text.as_bytes();
                    writer.publish(&update, &payloads)?;
                }
                waker.wake();
                number += 1;
            }
            "notice" => worker.send(fanblade_worker::Command::Notice(script::NOTICE.into())),
            "counters" => {
                let mut counters = Map::new();
                worker.stats().for_each(&mut |name, _, _, value| {
                    counters.insert(name.into(), value.into());
                });
                say(&counters)?;
            }
            line => bail!("{line:?} is not a command"),
        }
    }
    worker.send(fanblade_worker::Command::Stop);
    worker.join()?;
    Ok(())
}

fn say(what: &impl Serialize) -> anyhow::Result<()> {
    // One line for each answer: the parent reads lines.
    println!("{}", serde_json::to_string(what)?);
    Ok(std::io::stdout().flush()?)
}

/// A running server. Dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) greeting: Greeting,
}

impl Server {
    pub(crate) fn start(args: &IdleArgs, subjects: usize) -> anyhow::Result<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["idle-server", "--engine", args.engine.name()])
            .args(["--connections", &args.connections.to_string()])
            .args(["--subjects", &subjects.to_string()])
            .args(["--ping-interval-ms", &args.ping_interval_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("the server has no standard output")?).lines();
        let nowhere = Greeting { addr: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), slab: 0, group: 0, engine: 0 };
        // From here on, dropping the handle ends the process.
        let mut server = Server { child, stdin, lines, greeting: nowhere };
        server.greeting = serde_json::from_str(&server.line()?)?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Publishes the next message of every subject.
    pub(crate) fn publish(&mut self) -> anyhow::Result<()> {
        self.command("publish")
    }

    /// Sends [`script::NOTICE`] to everybody.
    pub(crate) fn notice(&mut self) -> anyhow::Result<()> {
        self.command("notice")
    }

    /// The worker's counters.
    pub(crate) fn counters(&mut self) -> anyhow::Result<Map<String, Value>> {
        self.command("counters")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.stdin = None;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("the server was stopped already")?;
        writeln!(stdin, "{line}").context("the server has ended")
    }

    fn line(&mut self) -> anyhow::Result<String> {
        Ok(self.lines.next().context("the server has ended")??)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
