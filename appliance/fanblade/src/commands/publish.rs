//! `fanblade publish ADDRESS`: publishes lines of JSON from standard input, or values that it makes up.

mod client;
mod replies;
mod source;

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::terminal::out;
use client::Writing;
use replies::Outcome;
use source::{Generator, Source};

use crate::commands::tls::TlsArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where: HOST:PORT, unix:PATH, ws://HOST:PORT, or wss://HOST/PATH
    address: String,
    /// Each line of standard input is a value of this subject, in place of {"s":…,"d":…}
    #[arg(long, conflicts_with = "generate")]
    subject: Option<String>,
    /// Lines are opaque bytes that only subscribers understand, in place of JSON
    #[arg(long, requires = "subject")]
    opaque: bool,
    /// Make up values of this many subjects, /test/0/value and so on, until --count, or Ctrl-C
    #[arg(long, value_name = "SUBJECTS", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    generate: Option<u32>,
    /// Bytes of JSON in each made-up value
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(30..=524_288))]
    len: u32,
    /// Stop after this many records
    #[arg(long)]
    count: Option<u64>,
    /// Send at most this many records a second
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// The publisher's name in the blade's status and log
    #[arg(long, default_value = "")]
    name: String,
    /// File that holds the token which the blade asks for
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// The result of a run.
#[derive(Debug, Default, Serialize)]
struct Summary {
    epoch: String,
    /// Records sent.
    sent: u64,
    /// Of these, how many were published for certain.
    acknowledged: u64,
    /// Records that were refused for certain.
    refused: u64,
    /// Lines that could not be read.
    unreadable: u64,
    /// The number of the newest that was published.
    seq: u64,
    seconds: f64,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let token = args.token_file.as_deref().map(crate::config::read_token).transpose()?.unwrap_or_default();
    if !fanblade_feed::publisher::is_name(&args.name) {
        bail!("--name {}: at most 32 characters of printable ASCII without spaces", args.name);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let summary = runtime.block_on(publish(args, &token))?;
    // The thread that reads standard input may be in the middle of a line that never ends.
    runtime.shutdown_background();
    if args.json {
        out::say(serde_json::to_string(&summary).context("cannot write the summary as JSON")?)?;
    } else {
        let Summary { epoch, sent, acknowledged, refused, unreadable, seq, seconds } = &summary;
        let per_s = *acknowledged as f64 / seconds.max(1e-9);
        out::conclude(format_args!(
            "{sent} records sent, {acknowledged} acknowledged, {refused} refused, {unreadable} lines unreadable; the \
             newest is {seq} of {epoch}\n{seconds:.3} s, {per_s:.0} records a second\n"
        ))?;
    }
    let is_whole = summary.acknowledged == summary.sent && summary.refused == 0 && summary.unreadable == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn publish(args: &Args, token: &str) -> anyhow::Result<Summary> {
    let (mut writing, mut replies) = client::connect(&args.address, &args.name, token, &args.tls).await?;
    let epoch = replies.welcome().await.with_context(|| args.address.clone())?;
    let (tell, mut outcome) = watch::channel(Outcome::default());
    let mut reading = tokio::spawn(async move { replies.run(tell).await });
    let mut source = match args.generate {
        Some(subjects) => Source::Generator(Generator::new(subjects, args.len as usize)),
        None => Source::lines(args.subject.clone(), args.opaque),
    };
    let (sent, started) = (Cell::new(0), Instant::now());
    {
        let mut sending = std::pin::pin!(send(args, &mut source, &mut writing, &sent));
        let mut ticker = tokio::time::interval(Duration::from_secs(1));
        let (mut sent_before, mut acknowledged_before) = (0, 0);
        ticker.tick().await;
        loop {
            tokio::select! {
                result = &mut sending => break result?,
                // Why the connection ended is looked up below.
                _ = &mut reading => break,
                _ = tokio::signal::ctrl_c() => break,
                _ = ticker.tick(), if !args.json => {
                    let (sent, acknowledged) = (sent.get(), outcome.borrow().acknowledged());
                    let (sent_now, acknowledged_now) = (sent - sent_before, acknowledged - acknowledged_before);
                    out::tell(format_args!("{sent_now} a second sent, {acknowledged_now} acknowledged"));
                    (sent_before, acknowledged_before) = (sent, acknowledged);
                }
            }
        }
    }
    // Waits for acknowledgements for as long as they make progress.
    while outcome.borrow().settled < sent.get()
        && let Ok(Ok(())) = timeout(QUIET_MAX, outcome.changed()).await
    {}
    let seconds = started.elapsed().as_secs_f64();
    let _ = timeout(QUIET_MAX, writing.close()).await;
    let acknowledged = outcome.borrow().acknowledged();
    let Outcome { refused, seq, complaint, .. } = outcome.borrow().clone();
    if let Some(complaint) = complaint {
        out::tell(format_args!("fanblade: {}: {complaint}", args.address));
    }
    Ok(Summary { epoch, sent: sent.get(), acknowledged, refused, unreadable: source.unreadable(), seq, seconds })
}

/// Sends the source's records as fast as --rate and --count permit.
async fn send(args: &Args, source: &mut Source, writing: &mut Writing, sent: &Cell<u64>) -> anyhow::Result<()> {
    let started = Instant::now();
    while let Some(chunk) = source.next().await {
        let mut done = 0;
        while done < chunk.len() {
            let left = args.count.map_or(u64::MAX, |count| count.saturating_sub(sent.get()));
            let due = match args.rate {
                Some(rate) => {
                    let due = started.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000 + 1;
                    u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(sent.get())
                }
                None => u64::MAX,
            };
            if left == 0 {
                return Ok(());
            }
            if due == 0 {
                tokio::time::sleep(PACE_STEP).await;
                continue;
            }
            let records = usize::try_from(due.min(left)).unwrap_or(usize::MAX).min(chunk.len() - done);
            writing.send(chunk.part(done, records)).await?;
            done += records;
            sent.set(sent.get() + records as u64);
        }
    }
    Ok(())
}

/// How long to wait for the next acknowledgement.
const QUIET_MAX: Duration = Duration::from_secs(30);
const PACE_STEP: Duration = Duration::from_millis(1);
