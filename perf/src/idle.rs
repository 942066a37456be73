//! `idle`: the memory of a session that is subscribed and silent, beside the function that predicts it; it also checks
//! that none of very many such sessions is lost.
//!
//! The server is a process of its own that runs only the blade's data path. Its clients open in bursts, each subscribes
//! to one of several subjects, and then nothing happens. After that every subject has a few messages, the server pings
//! every session, and everybody gets a notice at the same moment: sessions that have been busy must be as small as
//! before. Every client checks each byte that it receives.

mod args;
mod crowd;
mod script;
pub(crate) mod server;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fanblade_measure::memory::{KernelMemory, UserMemory};
use fanblade_measure::{machine, report};
use fanblade_swarm::plan::{Assignment, Subjects};
use serde_json::{Map, Value, json};

pub(crate) use args::IdleArgs;
use crowd::Crowd;
use script::Line;
use server::{Greeting, Server};

pub(crate) fn run(args: &IdleArgs) -> anyhow::Result<()> {
    let descriptors = fanblade_net::rlimit::raise_descriptors()?;
    // The server starts, and its memory is noted: what it has before its first session is not the sessions'.
    let subjects = args.connections.div_ceil(args.per_subject);
    let mut server = Server::start(args, subjects as usize)?;
    let addr = server.greeting.addr;
    let mut moments =
        Moments { pid: server.pid(), connections: u64::from(args.connections), before: None, grown: Vec::new() };
    std::thread::sleep(SETTLING);
    moments.look("before")?;
    let kernel_before = KernelMemory::now()?;

    // The sessions open and subscribe; after that they are silent for the first time.
    let started = Instant::now();
    let subjects_in_turn = Subjects { count: subjects, assignment: Assignment::InTurn, seed: 0 };
    let mut crowd = match Crowd::open(addr, args.connections, subjects_in_turn, args.burst) {
        Ok(crowd) => crowd,
        Err(error) => return Err(error).context(Value::from(server.counters()?).to_string()),
    };
    let opening = started.elapsed();
    crowd.hold(SETTLING)?;
    moments.look("subscribed")?;
    let kernel = kernel_growth(&kernel_before, &KernelMemory::now()?, args.connections);
    nobody_lost(&mut server, args)?;

    // Every session is busy once; when it is silent again, it must be as small as before.
    for number in 0..args.messages {
        server.publish()?;
        crowd.await_line(Line::Message(number))?;
    }
    crowd.hold(SETTLING)?;
    moments.look("after messages")?;

    // Held for longer than the ping interval, so that the server pings every session.
    let held = Instant::now();
    // A deadline is met a tick or two late, and the last pongs need time to arrive.
    crowd.hold(Duration::from_millis(u64::from(args.ping_interval_ms)) + 2 * SETTLING)?;
    let held = held.elapsed();
    // If the opening took long, some pings came before.
    let pings = crowd.pongs();
    ensure!(pings >= u64::from(args.connections), "only {pings} pings came to {} sessions", args.connections);
    moments.look("after pings")?;

    // One notice to all sessions at the same moment.
    server.notice()?;
    crowd.await_line(Line::Notice)?;
    crowd.hold(SETTLING)?;
    moments.look("after a notice to all")?;
    let counters = nobody_lost(&mut server, args)?;

    // The server must give the memory back when all sessions have closed.
    drop(crowd);
    await_closed(&mut server, args)?;
    moments.look("after they have closed")?;
    let greeting = server.greeting;
    server.stop()?;

    // The result is saved even if the sessions took too much.
    let report = json!({
        "measurement": "idle",
        "command": machine::command(),
        "date": report::date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "engine": args.engine.name(),
        "connections": args.connections,
        "connections_lost": 0,
        "descriptors_max": descriptors,
        "subjects": subjects,
        "messages_per_session": args.messages,
        "messages_delivered": args.messages * u64::from(args.connections),
        "opening_s": rounded(opening.as_secs_f64()),
        "held_s": rounded(held.as_secs_f64()),
        "pings_answered": pings,
        "user_bytes_per_session": moments.report(),
        "user_bytes_per_session_predicted": {
            "slab": greeting.slab,
            "group_members": greeting.group,
            "engine": greeting.engine,
            "total": predicted(&greeting),
        },
        "kernel_bytes_per_connection_estimated": kernel,
        "counters": counters,
    });
    print(&moments, &greeting, &report);
    report::save(&report, args.out.as_deref(), &format!("idle-{}", args.connections))?;
    moments.judge(predicted(&greeting))
}

/// The server's memory at several moments.
struct Moments {
    pid: u32,
    connections: u64,
    before: Option<UserMemory>,
    /// Growth since the first moment, in bytes: anonymous, io_uring, RssAnon, Pss.
    grown: Vec<(&'static str, [u64; 4])>,
}

impl Moments {
    fn look(&mut self, moment: &'static str) -> anyhow::Result<()> {
        let now = UserMemory::of(self.pid)?;
        let Some(before) = self.before else {
            self.before = Some(now);
            return Ok(());
        };
        let all = |it: UserMemory| [it.anonymous, it.io_uring, it.rss_anon, it.pss];
        let (now, before) = (all(now), all(before));
        self.grown.push((moment, std::array::from_fn(|at| now[at].saturating_sub(before[at]))));
        Ok(())
    }

    fn report(&self) -> Value {
        let moments = self.grown.iter().map(|(moment, grown)| {
            let [anonymous, io_uring, rss_anon, pss] = grown.map(|bytes| self.per_session(bytes));
            let measured = json!({
                "total": self.per_session(grown[0] + grown[1]),
                "anonymous": anonymous,
                "io_uring_queues": io_uring,
                "rss_anon": rss_anon,
                "pss": pss,
            });
            (moment.replace(' ', "_"), measured)
        });
        moments.collect::<Map<_, _>>().into()
    }

    fn per_session(&self, bytes: u64) -> f64 {
        rounded(bytes as f64 / self.connections as f64)
    }

    /// Fails if the sessions cost more than they may while they are connected and silent, whatever happened before.
    fn judge(&self, predicted: usize) -> anyhow::Result<()> {
        let predicted = predicted as u64 * self.connections;
        let most = (predicted + predicted / 4 + CONSTANT_BYTES).min(BYTES_PER_SESSION_MAX * self.connections);
        let (_closed, idle) = self.grown.split_last().context("nothing was measured")?;
        let above: Vec<&str> = idle.iter().filter(|(_, it)| it[0] + it[1] > most).map(|(moment, _)| *moment).collect();
        ensure!(
            above.is_empty(),
            "a session took more than {} bytes at these moments: {}",
            self.per_session(most),
            above.join(", ")
        );
        Ok(())
    }
}

fn predicted(greeting: &Greeting) -> usize {
    greeting.slab + greeting.group + greeting.engine
}

/// Checks the server's view: every session is there, none was refused, closed or given up.
fn nobody_lost(server: &mut Server, args: &IdleArgs) -> anyhow::Result<Map<String, Value>> {
    let counters = server.counters()?;
    for name in ["sessions", "sessions_subscribed", "accepted", "upgraded"] {
        ensure!(
            counters[name] == args.connections,
            "the server's counter {name} is {}, not {}",
            counters[name],
            args.connections
        );
    }
    for name in
        ["refused_capacity", "closed_by_server", "closed_by_peer", "pong_timeouts", "slow_evicted", "gap_notices"]
    {
        ensure!(counters[name] == 0, "the server's counter {name} is {}, not 0", counters[name]);
    }
    Ok(counters)
}

fn await_closed(server: &mut Server, args: &IdleArgs) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let counters = server.counters()?;
        if counters["sessions"] == 0 {
            ensure!(counters["closed_by_peer"] == args.connections, "the clients did not close all connections");
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{} sessions are left after the clients have gone", counters["sessions"]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An estimate: both ends of a connection are on this machine, and so is the memory of all other programs.
fn kernel_growth(before: &KernelMemory, after: &KernelMemory, connections: u32) -> Value {
    let per_connection = |before: u64, after: u64| (after as f64 - before as f64) / f64::from(connections);
    let mut caches: Vec<(&String, f64)> = after
        .caches
        .iter()
        .map(|(name, bytes)| (name, per_connection(before.caches.get(name).copied().unwrap_or(0), *bytes)))
        .filter(|(_, growth)| *growth >= 16.0)
        .collect();
    caches.sort_by(|one, other| other.1.total_cmp(&one.1));
    let caches: Map<_, _> = caches.into_iter().map(|(name, growth)| (name.clone(), rounded(growth).into())).collect();
    json!({
        "how": "growth over the opening, of both ends (server's and client's socket): Slab and MemAvailable of \
                /proc/meminfo, the latter with the user memory of both processes; caches by /proc/slabinfo",
        "slab": rounded(per_connection(before.slab, after.slab)),
        "available": rounded(per_connection(after.available, before.available)),
        "caches": caches,
    })
}

/// Prints a table for people.
fn print(moments: &Moments, greeting: &Greeting, report: &Value) {
    let Greeting { slab, group, engine, .. } = greeting;
    eprintln!("\nuser memory per session, bytes, {} sessions on {}", report["connections"], report["engine"]);
    eprintln!("  {:24} {:6}  (slab {slab}, group members {group}, engine {engine})", "predicted", predicted(greeting));
    for (moment, [anonymous, io_uring, ..]) in &moments.grown {
        let [total, anonymous, io_uring] =
            [anonymous + io_uring, *anonymous, *io_uring].map(|it| moments.per_session(it));
        eprintln!("  {moment:24} {total:6.1}  (anonymous {anonymous}, io_uring queues {io_uring})");
    }
    let kernel = &report["kernel_bytes_per_connection_estimated"];
    eprintln!("kernel memory per connection, both ends, estimated: slab {}", kernel["slab"]);
    eprintln!(
        "opened in {} s, held for {} s; {} messages delivered, {} pings answered, none lost",
        report["opening_s"], report["held_s"], report["messages_delivered"], report["pings_answered"]
    );
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// The user memory that a session is promised to take at most.
const BYTES_PER_SESSION_MAX: u64 = 200;
/// What a worker needs once, however many sessions it has: code paths touched, scratch lists, pools.
const CONSTANT_BYTES: u64 = 256 * 1024;
/// Time for pages to be given back, and for the last replies.
const SETTLING: Duration = Duration::from_secs(1);
