//! `fanblade subscribe URL SUBJECT…`: a subscriber for people, and a tool that checks what a subscriber is promised.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fanblade_client::{ClientError, Outlet, Plan, Totals};
use fanblade_dial::{OpenError, websocket_url};
use tokio_tungstenite::tungstenite;

use crate::commands::tls::{self, TlsArgs};
use crate::terminal::out;

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
    /// Stop after this many data frames on each connection
    #[arg(long)]
    count: Option<u64>,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Stop when no frame has come for this many seconds (after the first)
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
    /// Open this many connections; beyond one, rates are printed in place of frames
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
enum Mode {
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
        mode: args.mode.into(),
        count: args.count,
        deadline: args.seconds.map(seconds).transpose()?,
        idle: args.idle.map(seconds).transpose()?,
        check: args.check,
        outlet: Outlet {
            messages: print.then_some(|text| out::say(text)),
            rates: (!print && !args.json).then_some(|line| out::tell(line)),
            closes: print.then_some(|line| out::tell(line)),
        },
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let totals = runtime.block_on(fanblade_client::run(plan, args.connections)).map_err(explain)?;
    // Frames went to standard output, where the summary would disturb whatever reads the pipe.
    summary(&totals, print, args.json)?;
    Ok(if totals.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The error, with an explanation that helps.
fn explain(error: ClientError) -> anyhow::Error {
    let (url, error) = match error {
        ClientError::Open { url, error } => (url, error),
        // The error itself names the stream that cannot be written.
        ClientError::Print(error) => return error.into(),
        error => return error.into(),
    };
    match error {
        OpenError::Connect(error) if error.is_refused() => {
            anyhow::anyhow!("nothing listens at {url}; is the blade running? Its data port is printed when it starts")
        }
        OpenError::Handshake(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let first = body.lines().find(|line| !line.trim().is_empty()).unwrap_or("").trim().to_owned();
            anyhow::anyhow!("{url} answered {} in place of a WebSocket: {first}", response.status())
        }
        error => match tls::explain(&error) {
            Some(fault) => anyhow::anyhow!("cannot connect to {url}: {fault}"),
            None => anyhow::Error::new(error).context(format!("cannot connect to {url}")),
        },
    }
}

impl From<Mode> for fanblade_client::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::All => Self::All,
            Mode::Conflate => Self::Conflate,
        }
    }
}

fn summary(totals: &Totals, print: bool, json: bool) -> anyhow::Result<()> {
    if json {
        out::say(serde_json::to_string(totals).context("cannot write the summary as JSON")?)?;
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
