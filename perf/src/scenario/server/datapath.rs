//! The blade's data path without the rest of it: a ring, a worker on io_uring, and a publisher that is a pipe.

use std::io::{BufRead as _, BufReader, Lines, Read, Write as _};
use std::net::{SocketAddr, SocketAddrV4};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use clap::Args;
use fanblade_net::{EngineConfig, ListenOptions};
use fanblade_ring::{Lane, NewFrame, Payloads, RingConfig, SubjectId, UnixNs, Writer};
use fanblade_worker::{Limits, WorkerConfig};
use serde_json::{Map, Value, json};

use super::{Manners, Predicted, Server};
use crate::scenario::definition::Scenario;
use crate::scenario::message;
use crate::scenario::publisher::Outlet;

#[derive(Debug, Args)]
pub(crate) struct DatapathArgs {
    #[arg(long)]
    subjects: u32,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    ping_interval_ms: u32,
}

/// The head of a record on the standard input: number of the subject, length of the payload, which follows. A subject
/// that does not exist asks for the counters.
const HEAD_LEN: usize = 8;
const COUNTERS: u32 = u32::MAX;

/// The process itself.
pub(crate) fn run(args: &DatapathArgs) -> anyhow::Result<()> {
    fanblade_net::rlimit::raise_descriptors()?;
    // The ring, with all subjects.
    let mut lane_len = [0; fanblade_ring::LANES];
    lane_len[Lane::Json as usize] = LANE_LEN;
    let index_len = (2 * args.subjects as usize).next_power_of_two().max(INDEX_LEN_MIN);
    let config = RingConfig { index_len, lane_len, subjects_max: args.subjects, checksums: false };
    let mut writer = Writer::create(&config, "datapath")?;
    let subjects = (0..args.subjects).map(|number| writer.subject(&message::subject(number), 1));
    let subjects: Vec<SubjectId> = subjects.collect::<Result<_, _>>()?;
    // The worker, in a thread of its own.
    let (waker, sleeper) = fanblade_ring::pair()?;
    let listener = fanblade_net::listen(args.listen, &ListenOptions::default())?;
    let addr = listener.local_addr();
    let limits = Limits { ping_interval_ms: args.ping_interval_ms, ..Limits::default() };
    let sessions_max = limits.sessions_max as usize;
    // The engine is made in the worker's thread, so that its prediction comes by a channel.
    let (predicted, prediction) = channel();
    let config = WorkerConfig { limits, ..WorkerConfig::default() };
    let worker = fanblade_worker::spawn(config, writer.open_reader()?, sleeper, waker.clone(), move |sleeper| {
        let config = EngineConfig { sessions_max, waker: Some(sleeper.fd()) };
        let engine = fanblade_net::uring(listener, &config).map_err(std::io::Error::other)?;
        crate::confined::confine(&*engine);
        // Fails if nobody waits for it any more.
        let _ = predicted.send(engine.bytes_per_session());
        Ok(engine)
    })?;
    let session = fanblade_worker::bytes_in_slab() + prediction.recv().context("the worker has ended")?;
    say(&json!({"addr": addr.to_string(), "session_predicted": session}))?;
    // Publishes the records on standard input until its end.
    let mut stdin = std::io::stdin().lock();
    let mut bytes = Vec::new();
    let mut numbers = vec![0u64; subjects.len()];
    while read_some(&mut stdin, &mut bytes)? {
        let mut rest = &bytes[..];
        while let Some((subject, payload, behind)) = split(rest) {
            rest = behind;
            // A subject that does not exist asks for the counters.
            let Some(number) = numbers.get_mut(subject as usize) else {
                let mut counters = Map::new();
                worker.stats().for_each(&mut |name, _, _, value| {
                    counters.insert(name.into(), value.into());
                });
                say(&counters.into())?;
                continue;
            };
            *number += 1;
            let now_ns = UnixNs::now();
            let seq = *number * subjects.len() as u64 + u64::from(subject);
            let update = NewFrame {
                subject: subjects[subject as usize],
                channel: 1,
                seq,
                ts_feed_ns: now_ns,
                ts_publish_ns: now_ns,
            };
            let mut payloads: Payloads<'_> = [&[]; fanblade_ring::LANES];
            payloads[Lane::Json as usize] = payload;
            writer.publish(&update, &payloads)?;
        }
        // The beginning of the next record stays.
        let left = rest.len();
        bytes.drain(..bytes.len() - left);
        // Wakes once for all messages that came together.
        waker.wake();
    }
    worker.send(fanblade_worker::Command::Stop);
    Ok(worker.join()?)
}

/// Appends what has come, and waits if there is nothing. `false` at the end.
pub(super) fn read_some(stdin: &mut impl Read, bytes: &mut Vec<u8>) -> anyhow::Result<bool> {
    let mut chunk = [0; 64 * 1024];
    let len = stdin.read(&mut chunk)?;
    bytes.extend_from_slice(&chunk[..len]);
    Ok(len > 0)
}

/// The first record of `bytes`, and what follows it.
pub(super) fn split(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let (subject, len) = head.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len.first_chunk()?);
    let (payload, rest) = rest.split_at_checked(len as usize)?;
    Some((u32::from_le_bytes(*subject), payload, rest))
}

fn say(what: &Value) -> anyhow::Result<()> {
    println!("{what}");
    Ok(std::io::stdout().flush()?)
}

/// The process, from outside.
pub(crate) struct Datapath {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    input: Input,
    addr: SocketAddrV4,
    mode: String,
    /// Subjects of each subscriber, if they have lists.
    subjects: Option<u32>,
    predicted: Option<Predicted>,
    ping_interval_ms: u32,
}

impl Datapath {
    pub(crate) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Datapath> {
        let ping_interval_ms = ping_interval_ms(&scenario.blade).unwrap_or(Limits::default().ping_interval_ms);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["datapath", "--subjects", &scenario.subjects.to_string()])
            .args(["--listen", &scenario.listen().to_string()])
            .args(["--ping-interval-ms", &ping_interval_ms.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        fanblade_measure::sys::tie(&mut command, cpus)?;
        let mut child = command.spawn().context("cannot start the data path")?;
        let stdin = child.stdin.take().context("the data path has no standard input")?;
        let lines = BufReader::new(child.stdout.take().context("the data path has no standard output")?).lines();
        let input = Input::new(stdin);
        let nowhere = SocketAddrV4::new([127, 0, 0, 1].into(), 0);
        // From here on, dropping the handle ends the process.
        let (mode, subjects) = (scenario.mode.clone(), scenario.watchlists.map(|it| it.subjects_per_session));
        let mut it = Datapath { child, lines, input, addr: nowhere, mode, subjects, predicted: None, ping_interval_ms };
        let greeting = it.line()?;
        let SocketAddr::V4(addr) = greeting["addr"].as_str().unwrap_or_default().parse()? else {
            bail!("the data path listens on no IPv4 address")
        };
        it.addr = addr;
        let session = greeting["session_predicted"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
        let subscription = super::subscription_predicted(scenario);
        it.predicted = session.map(|session| Predicted { session, subscription });
        Ok(it)
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.lines.next().context("the data path has ended")??)?)
    }
}

/// Publisher and counters share the pipe.
#[derive(Clone)]
pub(super) struct Input(Arc<Mutex<ChildStdin>>);

impl Input {
    pub(super) fn new(stdin: ChildStdin) -> Input {
        Input(Arc::new(Mutex::new(stdin)))
    }

    fn send(&self, records: &[u8]) -> anyhow::Result<()> {
        let mut stdin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(records).context("the server has ended")
    }
}

impl Server for Datapath {
    fn manners(&self) -> Manners {
        match self.subjects {
            None => Manners::of_blade(self.addr, &self.mode),
            Some(subjects) => Manners::of_blade_with_lists(self.addr, &self.mode, subjects),
        }
    }

    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>> {
        Ok(Box::new(Pipe::new(self.input.clone())))
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    fn counters(&mut self) -> anyhow::Result<Value> {
        let mut record = COUNTERS.to_le_bytes().to_vec();
        record.extend_from_slice(&0u32.to_le_bytes());
        self.input.send(&record)?;
        self.line()
    }

    fn predicted(&self) -> Option<Predicted> {
        self.predicted
    }

    fn configuration(&self) -> Value {
        json!({"engine": "uring", "workers": 1, "ping_interval_ms": self.ping_interval_ms})
    }

    fn kill(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A publisher that is a pipe.
pub(super) struct Pipe {
    input: Input,
    pending: Vec<u8>,
}

impl Pipe {
    pub(super) fn new(input: Input) -> Pipe {
        Pipe { input, pending: Vec::new() }
    }
}

impl Outlet for Pipe {
    fn publish(&mut self, subject: u32, payload: &[u8]) -> anyhow::Result<()> {
        self.pending.extend_from_slice(&subject.to_le_bytes());
        self.pending.extend_from_slice(&u32::try_from(payload.len())?.to_le_bytes());
        self.pending.extend_from_slice(payload);
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if !self.pending.is_empty() {
            self.input.send(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// `[blade.limits] ping_interval_ms`, as the blade reads it.
fn ping_interval_ms(blade: &toml::Table) -> Option<u32> {
    match blade.get("limits")?.get("ping_interval_ms")? {
        toml::Value::Integer(ms) => u32::try_from(*ms).ok(),
        toml::Value::String(text) => text.strip_suffix('s')?.parse::<u32>().ok().map(|s| s * 1_000),
        _ => None,
    }
}

const LANE_LEN: usize = 64 << 20;
const INDEX_LEN_MIN: usize = 1 << 17;
