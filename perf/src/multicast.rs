//! `multicast`: from the kernel's receive time of a packet to its frames in the ring, through the blade as it is run.
//!
//! `fanblade replay` publishes a simulated day to a multicast group on loopback, at one rate after the other, pinned to
//! one CPU; `fanblade run` receives it, its sequencer pinned to the other. Nobody subscribes. The highest rate is the
//! market's open: a million messages within a second. Latency is the blade's own histogram
//! (`latency_ns.feed_to_publish` of `/v1/status`): from the stamp of SO_TIMESTAMPNS to the publication of the message's
//! last frame, for every message that made a frame. On loopback the sender does the work of the receiving softirq, so
//! the blade's CPU does not include it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use fanblade_measure::report::{self, Spread, rounded};
use fanblade_measure::{machine, sys};
use fanblade_wire::float::whole;
use serde_json::{Map, Value, json};

use crate::scenario::server::Server as _;
use crate::scenario::server::blade::{self, Blade};

#[derive(Debug, Args)]
pub(crate) struct MulticastArgs {
    /// Messages a second, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 300_000, 1_000_000])]
    rates: Vec<u64>,
    /// How long each rate is held. Latencies cover the last ten seconds only, so that more than 11 leave out the
    /// beginning, when every instrument is new
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Seconds of the burst at the highest rate
    #[arg(long, default_value_t = 1.0)]
    burst_seconds: f64,
    /// Runs of all rates in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// The sequencer never sleeps
    #[arg(long)]
    busy: bool,
    /// Bytes in a packet at most: 1,400 hold 36 messages, which share the packet's receive time
    #[arg(long, default_value_t = 1_400)]
    packet_len: u16,
    /// The kernel's receive buffer for the line
    #[arg(long, default_value = "32MiB")]
    receive_buffer: String,
    /// CPUs of the publisher and of the sequencer
    #[arg(long, value_delimiter = ',', num_args = 2, default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// The result file; `-` prints it [default: perf/results/multicast-DATE.json]
    #[arg(long)]
    out: Option<std::path::PathBuf>,
}

/// The figures of one run at one rate.
struct Sample {
    rate: u64,
    messages_per_s: f64,
    /// In the order of [`FIGURES`].
    figures: [f64; FIGURES.len()],
}

const FIGURES: [&str; 9] =
    ["messages", "lost", "kernel_drops", "frames", "p50_ns", "p99_ns", "p999_ns", "max_ns", "cpu_ns_per_message"];

pub(crate) fn run(args: &MulticastArgs) -> anyhow::Result<()> {
    let (&[publisher, sequencer], Some(burst)) = (args.cpus.as_slice(), args.rates.iter().max().copied()) else {
        bail!("--cpus needs two CPUs, and --rates at least one rate");
    };
    let mut samples = Vec::new();
    for number in 1..=args.runs {
        for &rate in &args.rates {
            let seconds = if rate == burst { args.burst_seconds } else { args.seconds };
            let sample = measure(args, rate, whole(rate as f64 * seconds), publisher, sequencer)
                .with_context(|| format!("run {number} at {rate} messages a second"))?;
            let [.., p50, p99, p999, max, cpu] = sample.figures;
            eprintln!(
                "run {number}, {rate}/s: {:.0}/s sent, {} lost, {} dropped by the kernel; µs p50 {:.1} p99 {:.1} p99.9 {:.1} max \
                 {:.1}; {cpu:.0} ns CPU a message",
                sample.messages_per_s,
                sample.figures[1],
                sample.figures[2],
                p50 / 1e3,
                p99 / 1e3,
                p999 / 1e3,
                max / 1e3,
            );
            samples.push(sample);
        }
    }
    let by_rate: Map<String, Value> =
        args.rates.iter().map(|rate| (rate.to_string(), of_rate(*rate, &samples))).collect();
    let report = json!({
        "measurement": "multicast",
        "command": machine::command(),
        "date": report::date(),
        "commit": machine::commit(),
        "machine": machine::describe(),
        "load_average": machine::load_average(),
        "runs": args.runs,
        "busy": args.busy,
        "receive_buffer": args.receive_buffer,
        "packet_len_max": args.packet_len,
        "by_rate": by_rate,
    });
    report::save(&report, args.out.as_deref(), if args.busy { "multicast-busy" } else { "multicast" })
}

/// Median, least and most of each figure over the runs at a rate.
fn of_rate(rate: u64, samples: &[Sample]) -> Value {
    let of = |figure: &dyn Fn(&Sample) -> f64| {
        let values = samples.iter().filter(|sample| sample.rate == rate).map(figure);
        let Spread { median, least, most } = Spread::of(values).unwrap_or_default();
        json!({"median": rounded(median, 0), "least": rounded(least, 0), "most": rounded(most, 0)})
    };
    let figures = FIGURES.iter().enumerate();
    let mut all: Map<String, Value> =
        figures.map(|(index, name)| ((*name).to_owned(), of(&move |sample: &Sample| sample.figures[index]))).collect();
    all.insert("messages_per_s".to_owned(), of(&|sample| sample.messages_per_s));
    Value::Object(all)
}

/// The blade's configuration: one line on loopback, the sequencer on a CPU of its own.
fn configuration(args: &MulticastArgs, publisher: usize, sequencer: usize) -> anyhow::Result<toml::Table> {
    let configuration = json!({
        "feed": {
            "source": "moldudp64",
            "moldudp64": {
                "lines": [format!("{GROUP}@lo")],
                "join": "live",
                "receive_buffer": args.receive_buffer,
                "busy": args.busy,
                // What the kernel dropped will not come: it counts as lost at once.
                "reorder_ms": "1ms",
            },
        },
        "data": {"listen": "127.0.0.1:0", "workers": 1, "cpus": [sequencer, publisher]},
        "admin": {"listen": "127.0.0.1:0"},
        "ebpf": {"enabled": false},
        // The blade's log lines would mix with ours.
        "log": {"level": "error"},
    });
    Ok(toml::Table::try_from(configuration)?)
}

/// One run at one rate.
fn measure(
    args: &MulticastArgs,
    rate: u64,
    messages: u64,
    publisher: usize,
    sequencer: usize,
) -> anyhow::Result<Sample> {
    let mut blade = Blade::launch(configuration(args, publisher, sequencer)?, "all", &[])?;
    let (messages_text, rate_text, packet_len) = (messages.to_string(), rate.to_string(), args.packet_len.to_string());
    let replay_args = [
        "replay",
        "sim",
        "--to",
        &format!("{GROUP}@lo"),
        "--speed",
        "max",
        "--rate",
        &rate_text,
        "--messages",
        &messages_text,
        "--packet-len",
        &packet_len,
        "--wait-for",
        "stdin",
        "--linger",
        &LINGER_S.to_string(),
        "--json",
    ];
    // The publisher waits for its standard input, so that the CPU time before its first message can be left out.
    let mut replay = Replay::start(&replay_args, publisher)?;
    let before = sequencer_cpu(blade.pid())?;
    replay.begin()?;
    // Returns when the publisher has sent everything.
    let sent = replay.report()?;
    // The sequencer is done when it has received all messages or knows them to be lost.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = blade.counters()?;
        let number = |key: &str| status["feed"][key].as_u64().unwrap_or(0);
        if number("messages") + number("gap_messages") >= messages {
            break;
        }
        ensure!(Instant::now() < deadline, "the blade has not reached the end of the day: {}", status["feed"]);
        std::thread::sleep(Duration::from_millis(20));
    }
    let cpu_s = sequencer_cpu(blade.pid())? - before;
    // The blade renews its latencies of the last ten seconds every second.
    std::thread::sleep(Duration::from_millis(1_200));
    let status = blade.counters()?;
    let latency = &status["latency_ns"]["feed_to_publish"];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let taken = number(&status["feed"]["messages"]);
    ensure!(taken > 0.0, "the blade received no message: {}", status["feed"]);
    Ok(Sample {
        rate,
        messages_per_s: messages as f64 / (number(&sent["seconds"]) - LINGER_S).max(1e-9),
        figures: [
            taken,
            number(&status["feed"]["gap_messages"]),
            number(&status["feed"]["lines"][0]["kernel_drops"]),
            number(&status["ring"]["published"]),
            number(&latency["p50"]),
            number(&latency["p99"]),
            number(&latency["p999"]),
            number(&latency["max"]),
            cpu_s * 1e9 / taken,
        ],
    })
}

/// `fanblade replay`, which begins when it is told to; killed when dropped.
struct Replay {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Replay {
    fn start(args: &[&str], cpu: usize) -> anyhow::Result<Replay> {
        let mut command = Command::new(blade::program()?);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        sys::tie(&mut command, &[cpu])?;
        let mut child = command.spawn()?;
        let output = child.stdout.take().context("the publisher has no standard output")?;
        let mut replay = Replay { child, output: BufReader::new(output) };
        let mut line = String::new();
        while !line.starts_with("ready ") {
            line.clear();
            ensure!(replay.output.read_line(&mut line)? > 0, "fanblade {} did not start", args.join(" "));
        }
        Ok(replay)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        Ok(self.child.stdin.as_mut().context("the publisher has no standard input")?.write_all(b"\n")?)
    }

    /// Waits for its end, and returns its summary.
    fn report(&mut self) -> anyhow::Result<Value> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of CPU that the sequencer's thread has used (proc(5), `schedstat`: nanoseconds on the CPU).
fn sequencer_cpu(pid: u32) -> anyhow::Result<f64> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        if std::fs::read_to_string(path.join("comm"))?.trim() == "sequencer" {
            let text = std::fs::read_to_string(path.join("schedstat"))?;
            let ns: f64 = text.split_whitespace().next().context("the sequencer's schedstat is empty")?.parse()?;
            return Ok(ns / 1e9);
        }
    }
    bail!("process {pid} has no thread called sequencer");
}

const GROUP: &str = "239.192.77.1:26477";
/// How long the publisher waits after its last message; the time that it reports includes this.
const LINGER_S: f64 = 0.5;
const PATIENCE: Duration = Duration::from_secs(30);
