//! `fanblade run`: from the command line and the configuration to a blade that serves.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use fanblade_abi::limits::WORKERS_MAX;
use fanblade_admin::AdminPort;
use fanblade_blade::{Blade, Changes, Log, LogFormat as Format, Prepared, Reread};
use fanblade_net::ports;

use crate::config::{self, Config, EngineKind, FeedSource, Files, Keys, LogFormat, Pace};
use crate::feeds;
use crate::terminal::out;

/// Options given here override the configuration file.
#[derive(Debug, clap::Args)]
#[command(after_help = SIGNALS)]
pub(crate) struct Args {
    /// Configuration file (TOML); every key has a default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sizes for what the configuration leaves out, as `fanblade size --toml` prints them
    #[arg(long, value_name = "FILE")]
    sizing: Option<PathBuf>,
    /// sim: a simulated market; file:PATH: a BinaryFILE of ITCH 5.0 or a packet capture, plain or .gz;
    /// soupbintcp:HOST:PORT: a SoupBinTCP server; moldudp64:GROUP:PORT@IF,GROUP:PORT@IF: multicast lines A and B
    /// [default: sim]
    #[arg(long)]
    feed: Option<FeedSource>,
    /// Where subscribers connect [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// Metrics, health and the live page [default: 127.0.0.1:7401]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    admin: Option<SocketAddr>,
    /// How the workers talk to sockets [default: uring]
    #[arg(long, value_enum)]
    engine: Option<EngineKind>,
    /// Number of worker threads [default: one for each CPU but two]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(WORKERS_MAX)))]
    workers: Option<u16>,
    /// max, realtime, or a factor such as 10 [default: realtime for sim, max for a file]
    #[arg(long)]
    pace: Option<Pace>,
    /// Start playing once N sessions have subscribed
    #[arg(long, value_name = "N")]
    wait_for: Option<u64>,
    /// Run without eBPF: no steering by load, no flow counters
    #[arg(long)]
    no_ebpf: bool,
    /// Count the packets of this interface [default: the one that owns the data address]
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let (config, files, keys) = args.into_config()?;
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let log = Log::start(config.log.level.directive(), format).context("cannot start the log's thread")?;
    fanblade_blade::log_panics();
    let ended = serve(&config, reread(files, keys), &log);
    if let Err(error) = &ended {
        // Through the log's thread, since standard error may be blocked.
        log.add(format!("fanblade: {}\n", out::in_one_line(error)).as_bytes());
    }
    log.finish();
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve(config: &Config, reread: Reread, log: &Log) -> anyhow::Result<()> {
    let descriptors = fanblade_net::rlimit::raise_descriptors().context("RLIMIT_NOFILE")?;
    tracing::debug!("the blade may open {descriptors} descriptors");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run(config, reread, log));
    // A name look-up may take long; do not wait for one that is no longer needed.
    runtime.shutdown_background();
    ended
}

impl Args {
    /// The configuration, the files that it is from, and what these say.
    fn into_config(self) -> anyhow::Result<(Config, Files, Keys)> {
        let files = Files { config: self.config, sizing: self.sizing };
        let (mut config, keys) = files.load()?;
        if let Some(source) = self.feed {
            config.feed.source = source;
        }
        config.feed.pace = self.pace.or(config.feed.pace);
        config.feed.wait_for = self.wait_for.unwrap_or(config.feed.wait_for);
        config.data.listen = self.listen.unwrap_or(config.data.listen);
        config.data.engine = self.engine.unwrap_or(config.data.engine);
        if let Some(workers) = self.workers {
            config.data.workers = Some(config::unplaced(workers.into()));
            // CPUs of `--sizing` are for its own number of workers.
            if config.data.cpus.span().is_empty() {
                config.data.cpus = config::unplaced(Vec::new());
            }
        }
        if let Some(admin) = self.admin {
            config.admin.listen = config::unplaced(admin);
        }
        config.ebpf.enabled &= !self.no_ebpf;
        if self.interface.is_some() {
            config.ebpf.interface = self.interface;
        }
        Ok((config, files, keys))
    }
}

async fn run(config: &Config, reread: Reread, log: &Log) -> anyhow::Result<()> {
    // Check everything that can be wrong with the request before anything is started.
    let (settings, admin_settings) = (config.settings(), config.admin_settings());
    let feed = feeds::open(config)?;
    let prepared = Prepared::new(&settings, feed)?;
    // The admin port is opened before the data port, whose clients may take every descriptor there is.
    let admin = AdminPort::open(bind_admin(admin_settings.listen).await?).context("the admin port")?;
    let running = prepared.start(log)?;
    let mut admin = admin.serve(running.blade(), admin_settings).context("cannot start the admin port's thread")?;
    banner(running.blade(), admin.address())?;
    let ended = running
        .serve(
            async {
                admin.until_ended().await;
                "the admin port's thread has ended"
            },
            reread,
        )
        .await;
    admin.stop().await;
    tracing::info!("stopped");
    Ok(ended?)
}

/// Reads the files again, and says what has changed: since the last time for what takes effect at once, since the start
/// for what needs a restart.
fn reread(files: Files, at_start: Keys) -> Reread {
    if files.config.is_none() {
        return Box::new(|| Err("the blade was started without --config, so there is no file to read".to_owned()));
    }
    let mut before = at_start.clone();
    Box::new(move || {
        let (config, keys) = files.load().map_err(|error| error.to_string())?;
        let applied = before.changed(&keys).into_iter().filter(|key| config::is_live(key)).collect();
        let at_restart = at_start.changed(&keys).into_iter().filter(|key| !config::is_live(key)).collect();
        before = keys;
        let limits = config.settings().limits;
        Ok(Changes { log_level: config.log.level.directive(), limits, applied, at_restart })
    })
}

/// Parses `--listen` and `--admin`.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("invalid socket address; write {}", config::ADDRESS_HINT))
}

async fn bind_admin(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = tokio::net::TcpListener::bind(address).await;
    Ok(bound.map_err(|error| ports::refused(address, &error, "--admin"))?.into_std()?)
}

/// Prints where to connect, and what to try. There may be no reader, or the pipe may be full, so a separate thread
/// writes it.
fn banner(blade: &Blade, admin: SocketAddr) -> std::io::Result<()> {
    let reachable = |address: SocketAddr| match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    let (data, admin) = (reachable(blade.data), reachable(admin));
    // Some shells take brackets for a pattern.
    let quoted = if data.contains('[') { format!("'{data}'") } else { data.clone() };
    // The program's name as the user typed it, so that the line can be copied.
    let program =
        std::env::args_os().next().map_or("fanblade".into(), |program| program.to_string_lossy().into_owned());
    let text = format!(
        "fanblade {} serves {}, {} workers ({})\n  subscribers  ws://{data}/v1/stream\n  live page    http://{admin}/\n  \
         metrics      http://{admin}/metrics\n  try          {program} subscribe {quoted} '/{}/*/trade'\n",
        env!("CARGO_PKG_VERSION"),
        blade.feed,
        blade.workers.len(),
        blade.engine,
        blade.venue,
    );
    std::thread::Builder::new().name("banner".to_owned()).spawn(move || {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    })?;
    Ok(())
}

const SIGNALS: &str = "Signals:
  SIGTERM, SIGINT  stop: subscribers get what they are owed, then close code 1001; a second one stops at once
  SIGUSR2          stop because a successor is started: close code 1012, and when to come back
  SIGHUP           read the configuration file again: the log says what takes effect now, and what needs a restart;
                   if the blade was started from a terminal, that has gone: stop";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_told_with_the_right_form() {
        let wrong = address("::1:7400").unwrap_err();
        assert!(wrong.contains("[::1]:7400 for IPv6"), "{wrong}");
    }
}
