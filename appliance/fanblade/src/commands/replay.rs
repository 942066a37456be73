//! `fanblade replay`: an exchange to test with ([`fanblade_exchange`]), from the command line.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fanblade_exchange::{Exchange, Login, Origin, Percent, Rate, Report, Settings, Target};
use fanblade_feed::limits::PACKET_LEN_MAX;
use fanblade_feed::simulator::SimulatorConfig;
use fanblade_feed::soupbintcp::padded;
use fanblade_feed::{Session, pace};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Millis, Pace};
use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A BinaryFILE or a packet capture, plain or .gz; or `sim` for a simulated market
    source: String,
    /// Line A: GROUP:PORT, or GROUP:PORT@IF to send by that interface
    #[arg(long, value_name = "GROUP:PORT[@IF]")]
    to: Target,
    /// Line B
    #[arg(long, value_name = "GROUP:PORT[@IF]")]
    to_b: Option<Target>,
    /// realtime, a factor such as 10, or max: in full packets, as fast as --rate permits
    #[arg(long, value_name = "SPEED", default_value = "realtime")]
    speed: Pace,
    /// Messages a second at most with --speed max, or `none`
    #[arg(long, default_value = "500000")]
    rate: Rate,
    /// Packets lost on line A, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    drop_a: Percent,
    /// Packets lost on line B, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    drop_b: Percent,
    /// Packets that come after up to three later ones, in percent, on each line
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    reorder: Percent,
    /// Packets that come twice, in percent, on each line
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    duplicate: Percent,
    /// Seed that decides which packets meet a fault
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Name of the session, at most 10 characters [default: the capture's, the first word of the file's
    /// name, or SIMULATED]
    #[arg(long, value_parser = session)]
    session: Option<Session>,
    /// Serve re-requests by UDP at this address
    #[arg(long, value_name = "ADDR")]
    requests: Option<SocketAddr>,
    /// Requests that are not answered, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    drop_requests: Percent,
    /// Serve the messages by SoupBinTCP at this address
    #[arg(long, value_name = "ADDR")]
    soup: Option<SocketAddr>,
    /// Serve GLIMPSE snapshots by SoupBinTCP at this address
    #[arg(long, value_name = "ADDR")]
    glimpse: Option<SocketAddr>,
    /// Name that may log in to these two servers [default: any]
    #[arg(long, value_name = "NAME", value_parser = |text: &str| field::<6>(text))]
    user: Option<[u8; 6]>,
    /// Password for these two servers
    #[arg(long, requires = "user", default_value = "", value_parser = |text: &str| field::<10>(text))]
    password: [u8; 10],
    /// Silence after which a heartbeat is sent
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    heartbeat: u64,
    /// How long the end of the session is repeated, and requests and logins are still served
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    linger: f64,
    /// Publish only the first N messages
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Begin after a line on standard input (or its end); until then only heartbeats are sent
    #[arg(long, value_enum)]
    wait_for: Option<WaitFor>,
    /// Bytes in a packet, at most
    #[arg(long, value_name = "BYTES", default_value_t = PACKET_LEN_MAX as u16, value_parser = clap::value_parser!(u16).range(100..=65_507))]
    packet_len: u16,
    /// Routers that a packet may pass
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=255))]
    ttl: u32,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    market: Market,
}

/// The simulated market.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options for `sim`")]
struct Market {
    /// Number of instruments
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    symbols: usize,
    /// Mean rate of messages in simulated time
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    messages_per_s: u32,
    /// Simulated time after which the day ends: 90s, 5m, 1h [default: when it is stopped]
    #[arg(long, value_parser = Millis::parse)]
    duration: Option<Millis>,
    /// Seed of the simulated market
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    market_seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WaitFor {
    Stdin,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(args))?;
    if args.json {
        out::say(serde_json::to_string(&report).context("cannot write the summary as JSON")?)?;
    } else {
        out::print(report)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &Args) -> anyhow::Result<Report> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let exchange = Exchange::open(&args.settings()?, |line| out::tell(format_args!("fanblade: {line}"))).await?;
    out::say(format_args!("ready {}", exchange.ready()))?;
    let orders = exchange.orders();
    match args.wait_for {
        None => orders.begin(),
        Some(WaitFor::Stdin) => {
            let orders = exchange.orders();
            // Not joined: the thread may wait for a line for ever.
            std::thread::spawn(move || {
                let _ = std::io::stdin().read_line(&mut String::new());
                orders.begin();
            });
        }
    }
    let mut running = std::pin::pin!(exchange.run());
    tokio::select! {
        report = &mut running => return Ok(report?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    orders.stop();
    Ok(running.await?)
}

impl Args {
    fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings {
            origin: self.origin()?,
            messages_max: self.messages.unwrap_or(u64::MAX),
            session: self.session,
            to: self.to.clone(),
            to_b: self.to_b.clone(),
            speed: match self.speed {
                Pace::Factor(factor) => pace::Pace::Factor(factor),
                Pace::Max => pace::Pace::Unpaced,
            },
            rate: self.rate,
            drop_a: self.drop_a,
            drop_b: self.drop_b,
            reorder: self.reorder,
            duplicate: self.duplicate,
            seed: self.seed,
            requests: self.requests,
            drop_requests: self.drop_requests,
            soup: self.soup,
            glimpse: self.glimpse,
            login: self.user.map(|user| Login { user, password: self.password }),
            heartbeat: Duration::from_millis(self.heartbeat),
            linger: Duration::try_from_secs_f64(self.linger).context("--linger")?,
            packet_len_max: self.packet_len,
            ttl: self.ttl,
        })
    }

    fn origin(&self) -> anyhow::Result<Origin> {
        if self.source != "sim" {
            return Ok(Origin::File(self.source.as_str().into()));
        }
        let Market { symbols, messages_per_s, duration, market_seed } = self.market;
        if self.speed == Pace::Max && duration.is_none() && self.messages.is_none() {
            bail!("a simulated market at full speed would go on for hours; bound it: --duration 1h, or --messages N");
        }
        Ok(Origin::Simulator(SimulatorConfig {
            seed: market_seed,
            symbols,
            messages_per_s,
            duration_max: duration.map(|Millis(ms)| Duration::from_millis(ms)),
            ..SimulatorConfig::default()
        }))
    }
}

/// A session's name, padded with spaces.
fn session(text: &str) -> Result<Session, String> {
    let mut session = [b' '; 10];
    match session.get_mut(..text.len()) {
        Some(place) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            place.copy_from_slice(text.as_bytes());
            Ok(session)
        }
        _ => Err(format!(
            "`{text}` is not the name of a session; such a name has 1 to 10 printable ASCII characters, and no spaces"
        )),
    }
}

/// A name or a password, padded with spaces.
fn field<const N: usize>(text: &str) -> Result<[u8; N], String> {
    padded(text).ok_or_else(|| format!("`{text}` does not fit; a login has {N} printable ASCII characters here"))
}
