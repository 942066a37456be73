//! `fanblade run`: the wiring of a blade, its start, and its end.

pub(crate) mod feed;
mod kernel;
pub(crate) mod log;
mod panics;
mod parked;
mod signals;
mod stop;
mod threads;
mod workers;

use std::io::Write as _;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use fanblade_feed::{Pulse, injected, unix_ns};
use fanblade_net::{ListenOptions, Listener, interfaces, ports};
use fanblade_ring::Writer;
use fanblade_worker::{Batching, Command, Limits};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::admin::AdminThread;
use crate::blade::{Blade, PageView, Recent, SequencerShared, WorkerView};
use crate::config;
use crate::config::{BatchingConfig, Config, EngineKind, FeedSource, LimitsConfig, Pace};
use crate::sequencer::{self, SequencerConfig, SequencerHandle};
use crate::vitals::{Turns, Vital};
use kernel::Kernel;
use log::Log;
use parked::Parked;
use signals::{Signals, Stop};
use threads::Plan;
use workers::Workers;

/// Options given here go before those of the configuration file.
#[derive(Debug, clap::Args)]
#[command(after_help = SIGNALS)]
pub(crate) struct Args {
    /// Configuration file (TOML); every key has a default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    workers: Option<u16>,
    /// max, realtime, or a factor such as 10 [default: realtime for sim, max for a file]
    #[arg(long)]
    pace: Option<Pace>,
    /// Start playing once N sessions have subscribed
    #[arg(long, value_name = "N")]
    wait_for: Option<u64>,
    /// Do without steering and flow counters
    #[arg(long)]
    no_ebpf: bool,
    /// Count the packets of this interface [default: the one that owns the data address]
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.into_config()?;
    let log = Log::start(&config.log).context("the log's thread")?;
    panics::log_them();
    let ended = serve(&config, &log);
    if let Err(error) = &ended {
        // By the same thread: standard error may be stuck.
        log.add(format!("fanblade: {}\n", crate::out::in_one_line(error)).as_bytes());
    }
    log.finish();
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve(config: &Config, log: &Log) -> anyhow::Result<()> {
    let descriptors = fanblade_net::rlimit::raise_descriptors().context("RLIMIT_NOFILE")?;
    tracing::debug!("{descriptors} descriptors");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run(config, log));
    // A look-up of a name may take long, and nobody waits for it any more.
    runtime.shutdown_background();
    ended
}

impl Args {
    fn into_config(self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        if let Some(source) = self.feed {
            config.feed.source = source;
        }
        config.feed.pace = self.pace.or(config.feed.pace);
        config.feed.wait_for = self.wait_for.unwrap_or(config.feed.wait_for);
        config.data.listen = self.listen.unwrap_or(config.data.listen);
        config.data.engine = self.engine.unwrap_or(config.data.engine);
        if let Some(workers) = self.workers {
            config.data.workers = Some(config::unplaced(workers.into()));
        }
        if let Some(admin) = self.admin {
            config.admin.listen = config::unplaced(admin);
        }
        config.ebpf.enabled &= !self.no_ebpf;
        if self.interface.is_some() {
            config.ebpf.interface = self.interface;
        }
        Ok(config)
    }
}

async fn run(config: &Config, log: &Log) -> anyhow::Result<()> {
    // What can be wrong about the request is found out before anything is started.
    let feed = feed::open(config)?;
    if let Some(interface) = config.ebpf.interface.as_deref().filter(|_| config.ebpf.enabled) {
        interfaces::require(interface)?;
    }
    let plan = Plan::new(&config.data)?;
    let engine = usable_engine(config.data.engine);
    let listeners = listen(config, plan.workers.len())?;
    let data = listeners.first().context("no worker")?.local_addr();
    let admin_listener = bind_admin(*config.admin.listen.get_ref()).await?.into_std()?;

    // From here on there may be somebody who has to be told.
    let drain_delay = Duration::from_millis(config.data.drain_delay_ms.get_ref().0);
    let mut signals = Signals::watch(log.clone(), drain_delay).context("the signals' thread")?;
    let mut writer =
        Writer::create(&ring_config(config), &feed.calendar.epoch(unix_ns(), 0, "")).context("cannot make the ring")?;
    let mut kernel = Kernel::start(&config.ebpf, data, &listeners)?;
    let unready = Arc::new(AtomicBool::new(true));
    let workers = Workers::start(config, &plan, engine, listeners, &mut writer, &unready, feed.feed.name())?;
    let sequencer_shared = Arc::new(SequencerShared::default());
    let pulse = Pulse::default();
    let vitals = vitals(&pulse, &sequencer_shared, &workers, feed.thread);
    let blade = Arc::new(Blade {
        started: Instant::now(),
        data,
        engine: engine_name(engine),
        feed: feed.description.clone(),
        venue: config.feed.venue.get_ref().clone(),
        sequencer: sequencer_shared,
        workers: workers
            .stats()
            .zip(&plan.workers)
            .map(|(stats, cpu)| WorkerView { cpu: *cpu, stats: Arc::clone(stats) })
            .collect(),
        kernel: ArcSwap::default(),
        recent: ArcSwap::default(),
        admin: Arc::default(),
        page: PageView::new(config),
        stopping: AtomicBool::new(false),
        broken: OnceLock::new(),
        log: log.clone(),
        vitals,
    });
    kernel.refresh(&blade);
    let (notices, mut noticed) = mpsc::channel(NOTICES_MAX);
    let sequencer = sequencer::spawn(
        SequencerConfig {
            cpu: plan.sequencer,
            venue: config.feed.venue.get_ref().clone(),
            calendar: feed.calendar,
            wait_for: config.feed.wait_for,
            workers: workers.stats().map(Arc::clone).collect(),
            notices,
        },
        feed.feed,
        writer,
        Arc::clone(&blade.sequencer),
    )
    .context("the sequencer's thread")?;
    let mut admin =
        AdminThread::start(admin_listener, Arc::clone(&blade), &config.admin).context("the admin port's thread")?;
    banner(&blade, admin.address())?;

    let parked = vec![Parked::default(); plan.workers.len()];
    let mut control = Control {
        blade: &blade,
        kernel,
        workers,
        sequencer: Some(sequencer),
        history: Vec::new(),
        pulse,
        unready,
        parked,
    };
    let mut ticker = tokio::time::interval(TICK);
    let mut ending = None;
    let served = AssertUnwindSafe(async {
        loop {
            let due: Option<Instant> = ending.map(|(_, due)| due);
            tokio::select! {
                _ = ticker.tick() => control.tick()?,
                Some(text) = noticed.recv() => control.workers.tell_all(&Command::Notice(text)),
                stop = signals.next() => match ending {
                    None if !drain_delay.is_zero() => ending = Some((stop, control.begin_end(drain_delay))),
                    None => return Ok(stop),
                    // Whoever asks again does not want to wait.
                    Some((stop, _)) => return Ok(stop),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    return Ok(ending.map_or(Stop::Down, |(stop, _)| stop));
                }
                () = admin.until_ended() => return Err("the admin port's thread has ended"),
            }
        }
    });
    // Whatever breaks, sessions are told, and the process ends, so that whoever looks after it starts another.
    let served = served.catch_unwind().await.unwrap_or(Err("the control thread has panicked"));
    let (stop, broken) = match served {
        Ok(stop) => (stop, None),
        Err(broken) => (Stop::Restart, Some(broken)),
    };
    if let Some(broken) = broken {
        tracing::error!("{broken}: the blade cannot go on");
    }
    let is_whole = control.stop(stop, &mut signals).await;
    admin.stop().await;
    tracing::info!("stopped");
    match broken {
        None if is_whole => Ok(()),
        None => bail!("stopped, but not everything has ended; the log says what"),
        Some(broken) => bail!("{broken}; sessions were told to come again (1012), and the log says why"),
    }
}

/// Every thread that the others count on. The admin port has its own, which does not answer if it stands still.
fn vitals(
    control: &Pulse,
    sequencer: &SequencerShared,
    workers: &Workers,
    feed: Option<(&'static str, Pulse)>,
) -> Vec<Vital> {
    let mut vitals = vec![
        Vital::new("control", Turns::Pulse(control.clone())),
        Vital::new("sequencer", Turns::Pulse(sequencer.pulse.clone())),
    ];
    vitals.extend(feed.map(|(name, pulse)| Vital::new(name, Turns::Pulse(pulse))));
    let workers = workers.stats().map(|stats| Turns::Worker(Arc::clone(stats)));
    vitals.extend(workers.enumerate().map(|(index, turns)| Vital::new(format!("worker-{index}"), turns)));
    vitals
}

/// Everything that runs, in the hands of the control thread.
struct Control<'a> {
    blade: &'a Arc<Blade>,
    kernel: Kernel,
    workers: Workers,
    sequencer: Option<SequencerHandle>,
    /// Cumulative latencies, one entry a second, the oldest first.
    history: Vec<(Instant, Recent)>,
    pulse: Pulse,
    /// Of each worker.
    parked: Vec<Parked>,
    /// What the workers answer to balancers.
    unready: Arc<AtomicBool>,
}

impl Control<'_> {
    /// Looks after the other threads. The error says what the blade cannot do without.
    fn tick(&mut self) -> Result<(), &'static str> {
        self.pulse.beat();
        injected::panic_if_asked("control");
        if let Some(given_up) = self.workers.look_after(&self.kernel) {
            let _ = self.blade.broken.set(given_up);
        }
        if self.sequencer.as_ref().is_some_and(SequencerHandle::is_finished) {
            return Err("the sequencer has panicked");
        }
        self.unready.store(!self.blade.is_ready(), Relaxed);
        for (index, (parked, stats)) in self.parked.iter_mut().zip(self.workers.stats()).enumerate() {
            parked.look(index, stats);
        }
        self.kernel.publish_load(self.blade);
        if self.history.last().is_none_or(|(then, _)| then.elapsed() >= HISTORY_STEP) {
            self.kernel.refresh(self.blade);
            self.remember_latencies();
        }
        Ok(())
    }

    fn remember_latencies(&mut self) {
        let now = Recent {
            feed_to_publish: self.blade.sequencer.latency.snapshot(),
            publish_to_send: self.blade.workers.iter().map(|worker| worker.stats.latency.snapshot()).collect(),
        };
        if let Some((_, then)) = self.history.first() {
            let since = now.publish_to_send.iter().zip(&then.publish_to_send).map(|(now, then)| now.since(then));
            self.blade.recent.store(Arc::new(Recent {
                feed_to_publish: now.feed_to_publish.since(&then.feed_to_publish),
                publish_to_send: since.collect(),
            }));
        }
        self.history.push((Instant::now(), now));
        if self.history.len() > HISTORY_LEN_MAX {
            self.history.remove(0);
        }
    }

    /// Serves on, but is not ready any more, so that a balancer sends nobody else; returns when that is over.
    fn begin_end(&self, delay: Duration) -> Instant {
        self.blade.stopping.store(true, Relaxed);
        self.unready.store(true, Relaxed);
        tracing::info!("not ready any more; the end begins in {} ms, or when asked once more", delay.as_millis());
        Instant::now() + delay
    }
}

/// What `--listen` and `--admin` are.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("invalid socket address; write {}", config::ADDRESS_HINT))
}

async fn bind_admin(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let bound = tokio::net::TcpListener::bind(address).await;
    Ok(bound.map_err(|error| ports::refused(address, &error, "--admin"))?)
}

fn listen(config: &Config, count: usize) -> anyhow::Result<Vec<Listener>> {
    let mut address = config.data.listen;
    ports::require_free(address, "--listen")?;
    let options = ListenOptions {
        backlog: u32::try_from(*config.data.backlog.get_ref()).unwrap_or(u32::MAX),
        notsent_lowat_bytes: Some(u32::try_from(config.data.notsent_lowat.0).unwrap_or(u32::MAX)),
        ..ListenOptions::default()
    };
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = fanblade_net::listen(address, &options)?;
        // The first one decides where port 0 is.
        address = listener.local_addr();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The engine that was asked for, or the one that works here.
fn usable_engine(asked: EngineKind) -> EngineKind {
    if asked == EngineKind::Epoll {
        return asked;
    }
    match fanblade_net::uring_probe() {
        Ok(()) => EngineKind::Uring,
        Err(error) => {
            tracing::warn!("{error}; serving with epoll instead");
            EngineKind::Epoll
        }
    }
}

fn engine_name(kind: EngineKind) -> &'static str {
    match kind {
        EngineKind::Uring => "uring",
        EngineKind::Epoll => "epoll",
    }
}

fn ring_config(config: &Config) -> fanblade_ring::RingConfig {
    let bytes = |bytes: config::Bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX);
    fanblade_ring::RingConfig {
        index_len: usize::try_from(*config.ring.updates.get_ref()).unwrap_or(usize::MAX),
        lane_len: [bytes(*config.ring.json.get_ref()), bytes(*config.ring.binary.get_ref()), 0, 0],
        subjects_max: u32::try_from(*config.ring.subjects_max.get_ref()).unwrap_or(u32::MAX),
        ..fanblade_ring::RingConfig::default()
    }
}

/// The worker's limits: its own defaults, and what the configuration says otherwise. Ranges were checked when it was
/// read.
pub(crate) fn limits(config: &LimitsConfig) -> Limits {
    fn set<T: Copy, U: TryFrom<u64>>(
        place: &mut U,
        value: &Option<serde_spanned::Spanned<T>>,
        read: impl Fn(T) -> u64,
    ) {
        if let Some(value) = value.as_ref().and_then(|value| U::try_from(read(*value.get_ref())).ok()) {
            *place = value;
        }
    }
    let mut limits = Limits::default();
    set(&mut limits.sessions_max, &config.sessions_max, |n| n);
    set(&mut limits.message_len_max, &config.message_len_max, |bytes| bytes.0);
    set(&mut limits.subscriptions_max, &config.subscriptions_max, |n| n);
    set(&mut limits.filters_max, &config.filters_max, |n| n);
    set(&mut limits.requests_per_s_max, &config.requests_per_s_max, |n| n);
    set(&mut limits.pieces_per_s_max, &config.pieces_per_s_max, |n| n);
    set(&mut limits.handshake_ms_max, &config.handshake_ms_max, |ms| ms.0);
    set(&mut limits.subscribe_ms_max, &config.subscribe_ms_max, |ms| ms.0);
    set(&mut limits.ping_interval_ms, &config.ping_interval_ms, |ms| ms.0);
    set(&mut limits.pong_ms_max, &config.pong_ms_max, |ms| ms.0);
    set(&mut limits.lag_ms_max, &config.lag_ms_max, |ms| ms.0);
    set(&mut limits.half_closed_ms_max, &config.half_closed_ms_max, |ms| ms.0);
    set(&mut limits.control_bytes_max, &config.control_bytes_max, |bytes| bytes.0);
    set(&mut limits.held_bytes_max, &config.held_bytes_max, |bytes| bytes.0);
    // Where only the number of subscriptions was raised, what they need rises with it.
    let needed = usize::try_from(fanblade_worker::request_len(limits.subscriptions_max.into())).unwrap_or(usize::MAX);
    limits.message_len_max = limits.message_len_max.max(needed);
    limits.control_bytes_max = limits.control_bytes_max.max(needed);
    let waiting = usize::try_from(fanblade_worker::deferred_bytes(limits.subscriptions_max.into()));
    limits.deferred_bytes_max = limits.deferred_bytes_max.max(waiting.unwrap_or(usize::MAX));
    limits
}

/// Ranges were checked when it was read.
fn batching(config: &[BatchingConfig]) -> Vec<Batching> {
    let entry = |entry: &BatchingConfig| Batching {
        subjects: entry.subjects.get_ref().clone(),
        ms_max: u32::try_from(entry.ms_max.get_ref().0).unwrap_or(u32::MAX),
        bytes_max: entry
            .bytes_max
            .as_ref()
            .map_or(Batching::BYTES_MAX, |bytes| u32::try_from(bytes.get_ref().0).unwrap_or(u32::MAX)),
    };
    config.iter().map(entry).collect()
}

/// Where to connect, and what to try. Nobody may be reading, and a pipe may be full: so a thread of its own writes it.
fn banner(blade: &Blade, admin: SocketAddr) -> std::io::Result<()> {
    let reachable = |address: SocketAddr| match address.ip().is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    };
    let (data, admin) = (reachable(blade.data), reachable(admin));
    // Some shells take brackets for a pattern.
    let quoted = if data.contains('[') { format!("'{data}'") } else { data.clone() };
    // As it was called itself, so that the line can be copied.
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
  SIGTERM, SIGINT  stop: subscribers get what they are owed, then close code 1001; once more: at once
  SIGUSR2          stop because a successor is started: code 1012, and when to come back
  SIGHUP           started from a terminal: stop, for it has gone; else nothing but a line of the log";

/// How often the load of the workers is published to the kernel, and the threads are looked after.
const TICK: Duration = Duration::from_millis(100);
/// Latencies are shown over the last `HISTORY_STEP` × `HISTORY_LEN_MAX`.
const HISTORY_STEP: Duration = Duration::from_secs(1);
const HISTORY_LEN_MAX: usize = 10;
/// Notices of the feed that wait for the control thread. More are counted as lost.
const NOTICES_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_told_with_the_right_form() {
        let wrong = address("::1:7400").unwrap_err();
        assert!(wrong.contains("[::1]:7400 for IPv6"), "{wrong}");
    }
}
