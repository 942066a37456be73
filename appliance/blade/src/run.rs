//! The life of a blade: it checks what it needs, starts everything, serves, and ends.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use fanblade_feed::{Pulse, UnixNs};
use fanblade_net::{ListenOptions, Listener, interfaces, ports};
use fanblade_ring::Writer;
use fanblade_worker::Command;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::control::Control;
use crate::error::{EndError, StartError};
use crate::kernel::Kernel;
use crate::log::Log;
use crate::parked::Parked;
use crate::refused::Refused;
use crate::reload::{self, Reread};
use crate::sequencer::{self, SequencerConfig};
use crate::settings::{Data, Engine, OpenFeed, Settings};
use crate::signals::{Signals, Stop};
use crate::supervisor::Supervisor;
use crate::threads::Plan;
use crate::view::{Blade, Reloads, SequencerShared, WorkerView};
use crate::vitals::{Turns, Vital};
use crate::workers::Workers;

/// A blade whose settings were checked; no thread runs yet.
pub struct Prepared<'s> {
    settings: &'s Settings,
    feed: OpenFeed,
    plan: Plan,
    engine: Engine,
    listeners: Vec<Listener>,
}

/// A blade that serves.
pub struct Running {
    control: Control,
    signals: Signals,
    /// The feed's notices for all subscribers.
    noticed: mpsc::Receiver<String>,
    drain_delay: Duration,
    /// Orders to read the configuration again.
    reloads: std::sync::mpsc::Receiver<()>,
}

impl Prepared<'_> {
    /// Checks that everything needed exists, and opens the data port.
    ///
    /// # Errors
    /// What is missing.
    pub fn new(settings: &Settings, feed: OpenFeed) -> Result<Prepared<'_>, StartError> {
        if let Some(interface) = settings.ebpf.interface.as_deref().filter(|_| settings.ebpf.enabled) {
            interfaces::require(interface)?;
        }
        let plan = Plan::new(&settings.data)?;
        let engine = usable_engine(settings.data.engine);
        let listeners = listen(&settings.data, plan.workers.len())?;
        Ok(Prepared { settings, feed, plan, engine, listeners })
    }

    /// Starts all threads. Call it within a runtime, that of the control thread.
    ///
    /// # Errors
    /// What cannot be started.
    pub fn start(self, log: &Log) -> Result<Running, StartError> {
        let Prepared { settings, feed, plan, engine, listeners } = self;
        let thread = |what| move |error| StartError::Thread { what, error };
        let data = listeners.first().ok_or(StartError::NoWorker)?.local_addr();
        // Watch signals before anything starts that must be told about a stop.
        let drain_delay = settings.data.drain_delay;
        let (reload, reloads) = reload::orders();
        let signals = Signals::watch(log.clone(), reload, drain_delay).map_err(thread("the signals' thread"))?;
        // The ring comes first, since workers read it; the kernel's programs attach to the listeners.
        let epoch = feed.calendar.epoch(UnixNs::now(), 0, "");
        let mut writer = Writer::create(&settings.ring, &epoch).map_err(StartError::Ring)?;
        let mut kernel = Kernel::start(&settings.ebpf, data, &listeners);
        let unready = Arc::new(AtomicBool::new(true));
        let workers = Workers::start(settings, &plan, engine, listeners, &mut writer, &unready, feed.feed.name())?;
        let sequencer_shared = Arc::new(SequencerShared::default());
        let pulse = Pulse::default();
        let vitals = vitals(&pulse, &sequencer_shared, &workers, feed.thread);
        let stats = workers.stats().zip(&plan.workers);
        let blade = Arc::new(Blade {
            started: Instant::now(),
            data,
            engine: engine_name(engine),
            feed: feed.description,
            venue: settings.venue.clone(),
            sequencer: sequencer_shared,
            workers: stats.map(|(stats, cpu)| WorkerView { cpu: *cpu, stats: Arc::clone(stats) }).collect(),
            kernel: ArcSwap::default(),
            recent: ArcSwap::default(),
            stopping: AtomicBool::new(false),
            broken: OnceLock::new(),
            log: log.clone(),
            vitals,
            supervisor: Supervisor::from_env(),
            reloads: Reloads::default(),
        });
        kernel.refresh(&blade);
        // The sequencer comes last: whatever it publishes finds workers that serve it.
        let (notices, noticed) = mpsc::channel(NOTICES_MAX);
        let config = SequencerConfig {
            cpu: plan.sequencer,
            venue: settings.venue.clone(),
            calendar: feed.calendar,
            wait_for: settings.wait_for,
            workers: workers.stats().map(Arc::clone).collect(),
            notices,
        };
        let sequencer = sequencer::spawn(config, feed.feed, writer, Arc::clone(&blade.sequencer))
            .map_err(thread("the sequencer's thread"))?;
        let parked = vec![Parked::default(); plan.workers.len()];
        let sequencer = Some(sequencer);
        let refused = Refused::default();
        let control =
            Control { blade, kernel, workers, sequencer, history: Vec::new(), pulse, unready, parked, refused };
        Ok(Running { control, signals, noticed, drain_delay, reloads })
    }
}

impl Running {
    /// What the blade's threads report.
    #[must_use]
    pub fn blade(&self) -> &Arc<Blade> {
        &self.control.blade
    }

    /// Serves until a signal asks to stop, or something breaks; then ends everything. `broken` resolves when something
    /// outside the blade breaks, and names it. `reread` is called at SIGHUP, on a thread of its own.
    ///
    /// # Errors
    /// What broke, or that not everything has ended.
    pub async fn serve(self, broken: impl Future<Output = &'static str>, reread: Reread) -> Result<(), EndError> {
        let Running { mut control, mut signals, mut noticed, drain_delay, reloads } = self;
        let (apply, mut applied) = mpsc::channel(1);
        if let Err(error) = reload::spawn(reloads, reread, Arc::clone(&control.blade), apply) {
            tracing::error!("cannot start the thread that reloads, so SIGHUP changes nothing: {error}");
        }
        let mut ticker = tokio::time::interval(TICK);
        let mut ending = None;
        let served = AssertUnwindSafe(async {
            tokio::pin!(broken);
            loop {
                let due: Option<Instant> = ending.map(|(_, due)| due);
                tokio::select! {
                    _ = ticker.tick() => control.tick()?,
                    Some(text) = noticed.recv() => control.workers.tell_all(&Command::Notice(text)),
                    Some(applying) = applied.recv() => control.apply(&applying),
                    stop = signals.next() => match ending {
                        None if !drain_delay.is_zero() => ending = Some((stop, control.begin_end(drain_delay))),
                        None => return Ok(stop),
                        // A second order ends the delay.
                        Some((stop, _)) => return Ok(stop),
                    },
                    () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                        return Ok(ending.map_or(Stop::Down, |(stop, _)| stop));
                    }
                    what = &mut broken => return Err(what),
                }
            }
        });
        // Whatever breaks, sessions are told, and the process ends, so that its supervisor starts another.
        let served = served.catch_unwind().await.unwrap_or(Err("the control thread has panicked"));
        let (stop, broken) = match served {
            Ok(stop) => (stop, None),
            Err(broken) => (Stop::Restart, Some(broken)),
        };
        if let Some(broken) = broken {
            tracing::error!("{broken}: the blade cannot go on");
        }
        let is_whole = control.stop(stop, &mut signals).await;
        match broken {
            None if is_whole => Ok(()),
            None => Err(EndError::Unfinished),
            Some(broken) => Err(EndError::Broken(broken)),
        }
    }
}

/// Every thread that the others depend on. The watching thread itself is not included.
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

fn listen(settings: &Data, count: usize) -> Result<Vec<Listener>, StartError> {
    let mut address = settings.listen;
    ports::require_free(address, "--listen")?;
    let options = ListenOptions {
        backlog: settings.backlog,
        notsent_lowat_bytes: Some(settings.notsent_lowat),
        ..ListenOptions::default()
    };
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = fanblade_net::listen(address, &options)?;
        // If the port is 0, the first listener decides which one it is.
        address = listener.local_addr();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The requested engine, or epoll where io_uring does not work.
fn usable_engine(asked: Engine) -> Engine {
    if asked == Engine::Epoll {
        return asked;
    }
    match fanblade_net::uring_probe() {
        Ok(()) => Engine::Uring,
        Err(error) => {
            tracing::warn!("{error}; serving with epoll instead");
            Engine::Epoll
        }
    }
}

fn engine_name(kind: Engine) -> &'static str {
    match kind {
        Engine::Uring => "uring",
        Engine::Epoll => "epoll",
    }
}

/// Interval at which the workers' load is published to the kernel, and the threads are looked after.
const TICK: Duration = Duration::from_millis(100);
/// Notices of the feed that wait for the control thread. More are counted as lost.
const NOTICES_MAX: usize = 65_536;
