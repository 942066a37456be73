//! `fanblade subscribe URL SUBJECT…`: a subscriber for people, and a tool that checks what a subscriber is promised.

mod checker;
mod client;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::out;
use client::Plan;
use report::Totals;

use crate::address::websocket_url;
use crate::tls::TlsArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where: HOST:PORT, or a whole address: ws://HOST:PORT/v1/stream, wss://HOST/PATH
    url: String,
    /// What: /NASDAQ/AAPL/bbo, /NASDAQ/*/trade, /NASDAQ/**
    #[arg(required = true)]
    subjects: Vec<String>,
    /// When behind: every frame from the ring's history, or only the newest of each subject
    #[arg(long, value_enum, default_value_t = Mode::Conflate)]
    mode: Mode,
    /// Stop after that many data frames on each connection
    #[arg(long)]
    count: Option<u64>,
    /// Stop after that many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Stop when no frame has come for that many seconds (after the first)
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
    /// That many connections; rates are printed in place of frames
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Verify order and gaps per subject, print rates; exit code 1 at a violation
    #[arg(long)]
    check: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// What a session gets when it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    All,
    Conflate,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let url = websocket_url(&args.url, "/v1/stream")?;
    let tls = args.tls.config(&url)?;
    let print = !args.check && args.connections == 1;
    let plan = Arc::new(Plan {
        url,
        tls,
        subjects: args.subjects,
        mode: args.mode,
        count: args.count,
        deadline: args.seconds.map(seconds).transpose()?,
        idle: args.idle.map(seconds).transpose()?,
        check: args.check,
        print,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let totals = runtime.block_on(client::run(plan, args.connections, args.json))?;
    // Frames went to standard output; the summary of a printing subscriber would be in the way of a pipe.
    summary(&totals, print, args.json)?;
    Ok(if totals.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(totals: &Totals, print: bool, json: bool) -> anyhow::Result<()> {
    if json {
        out::say(serde_json::to_string(totals).context("the summary as JSON")?)?;
    } else if print {
        out::conclude(totals)?;
    } else {
        out::print(totals)?;
    }
    Ok(())
}

fn seconds(value: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| anyhow::anyhow!("{value} is not a number of seconds"))
}
