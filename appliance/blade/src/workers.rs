//! Starts the workers, looks after them, and replaces those that have panicked or failed.
//!
//! A worker that ends by itself costs its own sessions and no others. Its listener is held here, so that connections
//! that wait there are not lost: the replacement finds them. Meanwhile the kernel's program gives it no new ones. The
//! ring's writer notices nothing, since the replacement uses the same waker.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use fanblade_feed::injected;
use fanblade_net::{EngineConfig, Listener};
use fanblade_ring::{Reader, Sleeper, Waker, Writer};
use fanblade_worker::{Command, Limits, WorkerConfig, WorkerEnd, WorkerHandle, WorkerStats};

use crate::error::{StartError, WorkerError};
use crate::kernel::Kernel;
use crate::settings::{Engine, Settings};
use crate::threads::Plan;

/// All workers, and what it takes to start one.
pub(crate) struct Workers {
    places: Vec<Place>,
    start: Start,
    /// The ring.
    ring: OwnedFd,
}

/// How every worker starts.
#[derive(Debug, Clone, Copy)]
struct Start {
    engine: Engine,
    is_confined: bool,
}

/// One worker's place; its worker may be replaced.
struct Place {
    config: WorkerConfig,
    listener: Listener,
    handle: WorkerHandle,
    since: Instant,
    /// How often a worker here ended by itself in quick succession.
    ends_in_a_row: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// Its worker has ended; a new one starts at this time.
    Vacant(Instant),
    GivenUp,
}

impl Workers {
    pub(crate) fn start(
        settings: &Settings,
        plan: &Plan,
        engine: Engine,
        listeners: Vec<Listener>,
        writer: &mut Writer,
        unready: &Arc<AtomicBool>,
        source: &str,
    ) -> Result<Workers, StartError> {
        let limits = of_each(&settings.limits, listeners.len());
        let ring = writer.fd().try_clone_to_owned().map_err(StartError::RingDescriptor)?;
        let start = Start { engine, is_confined: settings.data.sandbox };
        let mut places = Vec::with_capacity(listeners.len());
        for (index, (listener, cpu)) in listeners.into_iter().zip(&plan.workers).enumerate() {
            let (waker, sleeper) = fanblade_ring::pair().map_err(StartError::Waker)?;
            writer.add_waker(waker.clone());
            let config = WorkerConfig {
                index,
                cpu: *cpu,
                limits: limits.clone(),
                origins: settings.data.allowed_origins.clone(),
                proxy_protocol_from: settings.data.proxy_protocol_from.clone(),
                trusted_proxies: settings.data.trusted_proxies.clone(),
                client_header: settings.data.client_header,
                unready: Arc::clone(unready),
                // A thread that shares its CPU must not spin.
                spin_us: cpu.map_or(0, |_| settings.data.spin_us),
                batching: settings.batching.clone(),
                source: source.to_owned(),
                predecessor: None,
            };
            let handle = spawn(config.clone(), start, &ring, &listener, sleeper, waker)
                .map_err(|error| StartError::Worker { index, error })?;
            let (since, ends_in_a_row, state) = (Instant::now(), 0, State::Serving);
            places.push(Place { config, listener, handle, since, ends_in_a_row, state });
        }
        Ok(Workers { places, start, ring })
    }

    pub(crate) fn stats(&self) -> impl Iterator<Item = &Arc<WorkerStats>> {
        self.places.iter().map(|place| place.handle.stats())
    }

    /// Replaces workers that have ended by themselves. Returns a message if a place is given up.
    #[must_use]
    pub(crate) fn look_after(&mut self, kernel: &Kernel) -> Option<String> {
        let mut given_up = None;
        for (index, place) in self.places.iter_mut().enumerate() {
            if injected::is_asked(&format!("worker-{index}")) {
                #[cfg(debug_assertions)]
                place.handle.send(Command::Panic);
            }
            if injected::is_asked(&format!("worker-{index}-opens-a-file")) {
                #[cfg(debug_assertions)]
                place.handle.send(Command::OpenFile);
            }
            if place.state == State::Serving && place.handle.is_finished() {
                kernel.retire(index);
                given_up = place.note_end(index).or(given_up);
            }
            if let State::Vacant(due) = place.state
                && Instant::now() >= due
            {
                match place.fill(self.start, &self.ring) {
                    Ok(()) => {
                        kernel.reinstate(index);
                        tracing::info!("worker {index}: a new worker serves in its place");
                    }
                    Err(error) => {
                        tracing::error!("worker {index}: cannot start a new worker in its place: {error}");
                        given_up = place.note_end(index).or(given_up);
                    }
                }
            }
        }
        given_up
    }

    pub(crate) fn tell_all(&self, command: &Command) {
        for place in &self.places {
            place.handle.send(command.clone());
        }
    }

    /// Passes new limits on: to the workers, and to those that will take their places.
    pub(crate) fn take_limits(&mut self, limits: &Limits) {
        let limits = of_each(limits, self.places.len());
        for place in &mut self.places {
            place.config.limits = place.config.limits.taking(&limits);
            place.handle.send(Command::Limits(Box::new(limits.clone())));
        }
    }

    pub(crate) fn are_finished(&self) -> bool {
        self.places.iter().all(|place| place.handle.is_finished())
    }

    /// Joins all workers. False: one has not ended, and ends with the process.
    #[must_use]
    pub(crate) fn join(self) -> bool {
        let mut is_whole = true;
        for (index, place) in self.places.into_iter().enumerate() {
            if !place.handle.is_finished() {
                let sessions = place.handle.stats().sessions.value();
                tracing::error!("worker {index} has not ended; its {sessions} sessions end with the process");
                is_whole = false;
            } else if let Err(error) = place.handle.join() {
                tracing::error!("worker {index}: {error}");
            }
        }
        is_whole
    }
}

impl Place {
    /// Notes that the worker here has ended, and decides what follows.
    fn note_end(&mut self, index: usize) -> Option<String> {
        if self.since.elapsed() >= FORGIVEN_AFTER {
            self.ends_in_a_row = 0;
        }
        self.ends_in_a_row += 1;
        let why = match self.handle.end() {
            Some(WorkerEnd::Panicked(message)) => format!("has panicked: {message}"),
            Some(WorkerEnd::Failed(error)) => format!("has failed: {error}"),
            Some(WorkerEnd::Told) | None => "has ended".to_owned(),
        };
        if self.ends_in_a_row > RESTARTS_IN_A_ROW_MAX {
            self.state = State::GivenUp;
            let text = format!(
                "worker {index} {why}; after {RESTARTS_IN_A_ROW_MAX} new workers in a row its place is given up"
            );
            tracing::error!("{text}");
            return Some(text);
        }
        let pause = pause(self.ends_in_a_row);
        self.state = State::Vacant(Instant::now() + pause);
        tracing::error!(
            "worker {index} {why}; its sessions have ended; a new worker starts in {} ms",
            pause.as_millis()
        );
        None
    }

    fn fill(&mut self, start: Start, ring: &OwnedFd) -> Result<(), WorkerError> {
        let waker = self.handle.waker().clone();
        let predecessor = Some(Arc::clone(self.handle.stats()));
        let config = WorkerConfig { predecessor, ..self.config.clone() };
        self.handle = spawn(config, start, ring, &self.listener, waker.successor(), waker)?;
        (self.since, self.state) = (Instant::now(), State::Serving);
        Ok(())
    }
}

/// No pause before the first replacement, then one that doubles each time.
fn pause(ends_in_a_row: u32) -> Duration {
    match ends_in_a_row.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX),
    }
}

fn spawn(
    config: WorkerConfig,
    start: Start,
    ring: &OwnedFd,
    listener: &Listener,
    sleeper: Sleeper,
    waker: Waker,
) -> Result<WorkerHandle, WorkerError> {
    let sessions_max = config.limits.sessions_max as usize;
    let index = config.index;
    let reader = Reader::open(ring.as_fd()).map_err(WorkerError::Map)?;
    let listener = listener.try_clone().map_err(WorkerError::Listener)?;
    let handle = fanblade_worker::spawn(config, reader, sleeper, waker, move |sleeper| {
        let engine_config = EngineConfig { sessions_max, waker: Some(sleeper.fd()) };
        let engine = make_engine(start.engine, listener, &engine_config).map_err(std::io::Error::other)?;
        if start.is_confined
            && let Err(error) = fanblade_sandbox::confine(engine.may_make_rings())
        {
            tracing::warn!("worker {index} goes on without a sandbox: {error}");
        }
        Ok(engine)
    });
    Ok(handle?)
}

/// The limits of each of so many workers. Each has its share of memory, so that an attack on one worker does not close
/// the sessions of another.
fn of_each(limits: &Limits, workers: usize) -> Limits {
    Limits { held_bytes_max: limits.held_bytes_max / workers.max(1), ..limits.clone() }
}

fn make_engine(
    kind: Engine,
    listener: Listener,
    config: &EngineConfig<'_>,
) -> Result<Box<dyn fanblade_net::Engine>, fanblade_net::NetError> {
    match kind {
        Engine::Uring => fanblade_net::uring(listener, config),
        Engine::Epoll => fanblade_net::epoll(listener, config),
    }
}

/// Replacements in quick succession after which a place is given up. `healthz` then says so, and
/// `fanblade_worker_panics_total` has counted them.
const RESTARTS_IN_A_ROW_MAX: u32 = 6;
/// A worker that has served for this long begins a new count.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_replaced_at_once_and_those_after_it_ever_later() {
        let pauses: Vec<_> = (1..=8).map(|ends| pause(ends).as_millis()).collect();
        assert_eq!(pauses, [0, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }
}
