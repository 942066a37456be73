//! The program: its options, and what it says.

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use fanblade_measure::clock::microseconds;
use fanblade_measure::memory::UserMemory;
use fanblade_wire::UnixNs;
use fanblade_wire::float::whole;
use fanblade_wire::frame::Opcode;
use serde_json::{Value, json};

use super::engine::{Engine, EngineKind, Opened};
use super::lists::{LIST_LEN_MAX, Lists, Shape};
use super::marker::Marker;
use super::plan::{self, Assignment, Changes, Habits, Plan, Sources, Subjects, Upgrade};
use super::reading::{Boundary, Preamble, Reading};
use super::sockets::Threads;
use super::template::Template;
use super::window::Window;
use super::xdp::{self, Mac, Xdp};

/// WebSocket subscribers, as many as there is memory for.
///
/// Each connects, subscribes, answers pings, and counts every message that it gets: losses, repetitions, latency from
/// the timestamp in the message (the time at which it was DUE, so that a late publisher counts, too) to its receipt.
/// The last line is the verdict; the exit code is 1 where it is not "ok".
///
///   fanblade-swarm --url ws://127.0.0.1:7400/v1/stream --connections 10000 --subjects 100 --expect-preamble 1 \
///     --subscribe '{"op":"subscribe","id":1,"subjects":["/K/{subject}/v"],"mode":"all"}' \
///     --timestamp 'text:"ts":"' --sequence 'text:"n":' --warmup 5 --duration 30
#[derive(Debug, Parser)]
#[command(name = "fanblade-swarm", version, verbatim_doc_comment)]
struct SwarmArgs {
    /// The server: ws://HOST:PORT/PATH; {subject} and {client} are numbers, {subject:05} one of five digits
    #[arg(long)]
    url: String,
    /// Subscribers
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    connections: u32,
    /// What carries them
    #[arg(long, default_value = "sockets")]
    engine: EngineKind,
    /// Connections begun in a second [default: as fast as they are answered]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    connect_rate: Option<u32>,
    /// Connections that are being opened at the same time
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: u16,
    /// What a client sends once it is connected, with numbers as in the URL and \xNN, \r, \n, \\; may be given again
    #[arg(long, value_name = "TEMPLATE")]
    subscribe: Vec<Template>,
    /// Send it as binary messages
    #[arg(long)]
    binary: bool,
    /// WebSocket subprotocol to ask for
    #[arg(long)]
    protocol: Option<String>,
    /// Messages that a client gets before it counts as subscribed, or text:BYTES that it gets in one of them
    #[arg(long, default_value = "0", value_name = "COUNT|text:BYTES")]
    expect_preamble: Preamble,
    /// Subjects; each client has one, or a list
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    subjects: u32,
    /// How subjects are assigned to clients
    #[arg(long, default_value = "random")]
    assign: Assignment,
    /// Subjects of each client: `{subjects|…|}` in an address or message repeats what it encloses for each of them
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(LIST_LEN_MAX)))]
    subjects_per_client: Option<u32>,
    /// Exponent of the power law by which subjects are chosen; 0: all are equally popular
    #[arg(long, default_value_t = 1.0, requires = "subjects_per_client")]
    exponent: f64,
    /// List changes per second, of all clients together: one subject gives its place to another
    #[arg(long, default_value_t = 0.0, requires_all = ["subjects_per_client", "leave", "take"])]
    changes_per_s: f64,
    /// What a client says to leave a subject; the server answers {"op":"unsubscribed","id":…} with the subject's number
    #[arg(long, value_name = "TEMPLATE")]
    leave: Option<Template>,
    /// What a client says to take another subject; the server answers {"op":"subscribed","id":…}
    #[arg(long, value_name = "TEMPLATE")]
    take: Option<Template>,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the time of publishing stands, in ns since the Unix epoch: text:PATTERN (digits follow it),
    /// u64le:PATTERN, u64be:PATTERN (eight bytes), u64le@OFFSET or u64be@OFFSET
    #[arg(long, value_name = "WHERE")]
    timestamp: Option<Marker>,
    /// Where the message's number within its subject stands, the same way
    #[arg(long, value_name = "WHERE")]
    sequence: Option<Marker>,
    /// Where the number of the message's subject stands, if clients have lists
    #[arg(long, value_name = "WHERE")]
    subject_number: Option<Marker>,
    /// Where a message ends; with `timestamp` the number must stand before the time
    #[arg(long, default_value = "frame")]
    boundary: Boundary,
    /// Seconds of warm-up between the opening and the window that counts
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// Seconds of the window that counts; 0: only connect
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// How often to connect; all connections are closed in between
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
    /// How many of a thousand clients stop reading once they are subscribed
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1000))]
    stalled_per_mille: u16,
    /// How many of a thousand clients read slowly
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1000))]
    slow_per_mille: u16,
    /// Bytes per second that a slow client reads
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    slow_bytes_per_s: u32,
    /// Addresses to connect from [default: 127.1.0.2 and following towards loopback, else the system's choice]
    #[arg(long, value_name = "FIRST-LAST")]
    sources: Option<Sources>,
    /// Threads that share the clients
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: u16,
    /// CPUs to pin the threads to
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Seconds that the opening or the closing may take beyond what the rate demands
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Print everything as lines of JSON
    #[arg(long)]
    json: bool,
    /// `--engine xdp`: an interface to the server in this network namespace [default: a veth pair of its own]
    #[arg(long)]
    interface: Option<String>,
    /// MAC address of the server's end of that interface
    #[arg(long, requires = "interface")]
    server_mac: Option<Mac>,
    /// `--engine xdp`: how many of a thousand segments with data are dropped unseen, to test the recovery
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=500))]
    drop_per_mille: u16,
    /// After the verdict, keep the connections until the standard input ends
    #[arg(long)]
    linger: bool,
}

/// `fanblade-swarm`: reads the command line and does what it says.
///
/// # Errors
/// Whatever prevents the measurement. Faults of the server are not errors: the exit code reports them.
pub fn run() -> anyhow::Result<ExitCode> {
    let args = &SwarmArgs::parse();
    fanblade_net::rlimit::raise_descriptors()?;
    let plan = Arc::new(plan(args)?);
    let pid = std::process::id();
    let mut engine: Box<dyn Engine> = match args.engine {
        EngineKind::Sockets => Box::new(Threads::start(&plan)?),
        EngineKind::Xdp => {
            let (interface, server_mac) = (args.interface.clone(), args.server_mac);
            let options = xdp::Options { interface, server_mac, drop_per_mille: args.drop_per_mille };
            Box::new(Xdp::start(&plan, &options)?)
        }
    };
    // Measured before and after the opening: the difference is what the connections take.
    let before = UserMemory::of(pid)?;
    for cycle in 1..args.cycles {
        say_opened(args, cycle, &engine.open()?)?;
        engine.close()?;
    }
    say_opened(args, args.cycles, &engine.open()?)?;
    engine.fall_into_habits()?;
    let memory = UserMemory::of(pid)?;
    let per_connection = |bytes: u64| (bytes as f64 / f64::from(args.connections)).round();
    let without = before.anonymous + before.io_uring;
    let grown = (memory.anonymous + memory.io_uring).saturating_sub(without);
    let mut report = json!({
        "event": "report",
        "engine": args.engine.name(),
        "connections": args.connections,
        "user_bytes_per_connection": {
            "predicted": engine.bytes_per_connection(),
            "measured": per_connection(grown),
        },
        "user_bytes_without_connections": without,
    });
    let mut complaints = Vec::new();
    // Measures, if there is something to measure. Messages count in the window only, which begins after the warm-up.
    if args.duration > 0.0 {
        let from_ns = UnixNs::now().0 + nanoseconds(args.warmup)?;
        let window = Window { from_ns, to_ns: from_ns + nanoseconds(args.duration)? };
        engine.begin(window)?;
        let line = format!("measuring {} s after {} s of warm-up", args.duration, args.warmup);
        say(args, &json!({"event": "window", "from_ns": window.from_ns, "to_ns": window.to_ns}), &line)?;
        let measured = engine.finish()?;
        complaints = measured.tally.complaints();
        merge(&mut report, measured.tally.report());
        report["sequence_checked"] = args.sequence.is_some().into();
        report["busy_percent"] = measured.busy_percent.round().into();
        if measured.transport.is_object() {
            report["transport"] = measured.transport;
        }
        report["pass_max_us"] = microseconds(measured.pass_max).into();
    }
    // The report, with the verdict as its last line.
    let verdict = if complaints.is_empty() { "ok".to_owned() } else { format!("FAILED: {}", complaints.join("; ")) };
    report["verdict"] = verdict.clone().into();
    say(args, &report, &sentences(&report))?;
    // Whoever has started the swarm decides how long the connections stay.
    if args.linger {
        let mut line = String::new();
        while std::io::stdin().lock().read_line(&mut line)? > 0 {}
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes a plan of the options, and refuses those that do not go together.
fn plan(args: &SwarmArgs) -> anyhow::Result<Plan> {
    let (addr, host, path) = plan::parse_url(&args.url)?;
    let target: Template = path.parse().map_err(anyhow::Error::msg).context("--url")?;
    let opcode = if args.binary { Opcode::Binary } else { Opcode::Text };
    let sources = args.sources.unwrap_or_else(|| Sources::usual(addr, args.connections));
    match args.engine {
        EngineKind::Sockets => sources.check(args.connections)?,
        // The xdp engine does not use the kernel's ports; it has as many as it needs behind the first address.
        EngineKind::Xdp => ensure!(
            args.sources.is_none() || args.interface.is_some(),
            "with --engine xdp, --sources needs --interface: you must set up the route to these addresses yourself"
        ),
    }
    ensure!(
        // Stalled clients and slow clients are different ones.
        args.stalled_per_mille + args.slow_per_mille <= 1_000,
        "--stalled-per-mille and --slow-per-mille together must be at most 1000"
    );
    // Lists are counted message by message.
    if args.subjects_per_client.is_some() {
        let marked = args.timestamp.is_some() && args.sequence.is_some() && args.subject_number.is_some();
        ensure!(
            marked,
            "clients with lists need --timestamp, --sequence and --subject-number, to count which messages are due"
        );
        let habits = args.stalled_per_mille + args.slow_per_mille;
        ensure!(
            habits == 0 && args.cycles == 1,
            "clients with lists connect once, and all of them read: no --cycles, no slow or stalled clients"
        );
        let is_counted = matches!(args.expect_preamble, Preamble::Messages(_)) && args.boundary == Boundary::Frame;
        ensure!(is_counted, "clients with lists need --boundary frame, and a number of messages for --expect-preamble");
    }
    ensure!(args.boundary == Boundary::Frame || args.timestamp.is_some(), "--boundary timestamp needs --timestamp");
    let shape = args.subjects_per_client.map(|per_client| Shape { per_client, exponent: args.exponent });
    let templates = args.leave.clone().zip(args.take.clone());
    let changes = templates.map(|(leave, take)| Changes { per_s: args.changes_per_s, leave, take });
    Ok(Plan {
        addr,
        upgrade: Some(Upgrade { host, target, protocol: args.protocol.clone() }),
        subscribe: args.subscribe.iter().map(|template| (opcode, template.clone())).collect(),
        connections: args.connections,
        subjects: Subjects { count: args.subjects, assignment: args.assign, seed: args.seed },
        lists: shape.map(|shape| Lists::new(shape, args.subjects, args.seed)).transpose()?,
        changes,
        sources,
        connect_rate: args.connect_rate,
        in_flight: args.in_flight,
        habits: Habits {
            stalled_per_mille: args.stalled_per_mille,
            slow_per_mille: args.slow_per_mille,
            slow_bytes_per_s: args.slow_bytes_per_s,
        },
        reading: Reading {
            timestamp: args.timestamp.clone(),
            sequence: args.sequence.clone(),
            subject: args.subject_number.clone(),
            boundary: args.boundary,
            preamble: args.expect_preamble.clone(),
        },
        threads: args.threads.min(u16::try_from(args.connections).unwrap_or(u16::MAX)),
        cpus: args.cpus.clone(),
        patience: Duration::from_secs(args.patience),
    })
}

fn say_opened(args: &SwarmArgs, cycle: u32, opened: &Opened) -> anyhow::Result<()> {
    let per_s = |time: Duration| (f64::from(args.connections) / time.as_secs_f64()).round();
    let event = json!({
        "event": "opened",
        "cycle": cycle,
        "connections": args.connections,
        "seconds": opened.time.as_secs_f64(),
        "per_s": per_s(opened.time),
        "upgrades_per_s": per_s(opened.upgrade_time),
        "handshake_us": opened.handshakes.percentiles(),
    });
    let line = format!(
        "{} connected and subscribed in {:.1} s, {} a second",
        args.connections,
        opened.time.as_secs_f64(),
        event["per_s"]
    );
    say(args, &event, &line)
}

/// Prints JSON if asked to, a sentence for people otherwise.
fn say(args: &SwarmArgs, event: &Value, line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json { writeln!(out, "{event}") } else { writeln!(out, "{line}") }
        .context("cannot write to standard output")?;
    Ok(out.flush()?)
}

fn sentences(report: &Value) -> String {
    let memory = &report["user_bytes_per_connection"];
    let mut lines =
        vec![format!("user memory per connection: {} bytes, predicted {}", memory["measured"], memory["predicted"])];
    if report["delivered"].is_number() {
        lines.push(format!(
            "{} messages, {} lost, {} repeated, {} pings answered",
            report["delivered"], report["lost"], report["repeated"], report["pings_answered"]
        ));
        for (what, it) in [
            ("all", &report["latency_us"]),
            ("first of a message's subscribers", &report["position"]["first_us"]),
            ("last of them", &report["position"]["last_us"]),
        ] {
            if it.is_object() {
                lines.push(format!(
                    "latency in µs, {what}: p50 {}, p99 {}, p99.9 {}, max {}, mean {}",
                    it["p50"], it["p99"], it["p999"], it["max"], it["mean"]
                ));
            }
        }
        if let changes @ Value::Object(_) = &report["changes"] {
            lines.push(format!(
                "{} lists changed, {} refused, {} without an answer; {} messages unasked; replies in µs: p50 {}, p99 {}",
                changes["made"],
                changes["refused"],
                changes["unanswered"],
                report["unasked"],
                changes["reply_us"]["p50"],
                changes["reply_us"]["p99"]
            ));
        }
        if report["sequence_checked"] == false {
            lines.push("without --sequence, nobody can tell what was lost".to_owned());
        }
        if let it @ Value::Object(_) = &report["transport"] {
            lines.push(format!(
                "{} segments; {} sent again by the server, {} received again, {} ahead of missing ones",
                it["segments"], it["retransmitted_by_server"], it["received_again"], it["ahead_of_missing_ones"]
            ));
        } else {
            lines.push(format!("the swarm itself was {} % busy", report["busy_percent"]));
        }
    }
    lines.push(format!("verdict: {}", report["verdict"].as_str().unwrap_or_default()));
    lines.join("\n")
}

fn merge(report: &mut Value, more: Value) {
    if let (Value::Object(report), Value::Object(more)) = (report, more) {
        report.extend(more);
    }
}

fn nanoseconds(seconds: f64) -> anyhow::Result<u64> {
    ensure!((0.0..1e6).contains(&seconds), "{seconds} is not a number of seconds from 0 to 1,000,000");
    Ok(whole(seconds * 1e9))
}
