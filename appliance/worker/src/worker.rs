//! The worker's loop: sockets, commands, timers, sessions that are owed something of their own, then the ring.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use fanblade_net::{Counters, Engine, Event, IoSlices, Unsent};
use fanblade_ring::{Reader, Sleeper};
use fanblade_wire::InboundLimits;

use crate::arena::Arena;
use crate::catchup::Plan;
use crate::clock::{Clock, RunningUs, WorkerMs};
use crate::config::{Command, WorkerConfig};
use crate::directory::Directory;
use crate::ids::{GroupId, RingIndex, SessionId};
use crate::limits::{Limits, REQUEST_SKIPPED_LEN_MAX};
use crate::news::Told;
use crate::slab::Sessions;
use crate::stats::WorkerStats;
use crate::steps::Steps;
use crate::timers::{TICK_MS, Wheel};

/// Everything a worker has except its engine, which is lent to the methods that need it.
pub(crate) struct Worker {
    pub(crate) config: WorkerConfig,
    pub(crate) inbound_limits: InboundLimits,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) reader: Reader,
    pub(crate) sleeper: Sleeper,
    inbox: Receiver<Command>,
    /// Commands met while looking whether there are any.
    commands: VecDeque<Command>,
    pub(crate) directory: Directory,
    /// What sessions with lists of their own are owed.
    pub(crate) arena: Arena,
    pub(crate) sessions: Sessions,
    pub(crate) wheel: Wheel,
    /// Ring index of the next update to be fanned out.
    pub(crate) cursor: RingIndex,
    /// Sequence number of the newest update before `cursor`.
    pub(crate) cursor_seq: u64,
    pub(crate) epoch: String,
    pub(crate) epoch_generation: u32,
    /// The time of this pass.
    pub(crate) now_ms: WorkerMs,
    clock: Clock,
    /// The engine's counts that are in the worker's counters already.
    counted: Counters,
    /// Sessions that have something to be sent now, or that may catch up.
    pub(crate) ready: VecDeque<SessionId>,
    /// Sessions whose requests go on in a later pass.
    pub(crate) waiting: VecDeque<SessionId>,
    /// The work for requests that this pass may still do.
    pub(crate) steps: Steps,
    /// What to tell the engine once it has returned from `poll`.
    pub(crate) actions: Vec<Action>,
    pub(crate) draining: Option<Draining>,
    pub(crate) news: Told,
    /// Sends are queued, or done and not looked at: it is not known which sessions are between two frames.
    pub(crate) is_sending: bool,
    /// Sends that the kernel did not take whole, until they are dealt with. Between passes there are none.
    pub(crate) unsent: Vec<Unsent>,
    // Scratch, kept so that no pass allocates.
    pub(crate) slices: IoSlices,
    /// Groups that are owed something.
    pub(crate) touched: Vec<GroupId>,
    /// The groups whose turn it is.
    pub(crate) due_groups: Vec<GroupId>,
    pub(crate) plan: Plan,
    pub(crate) text: String,
    /// Sessions whose deadlines have passed.
    pub(crate) due: Vec<SessionId>,
    /// Sessions to be pinged that are owed nothing.
    pub(crate) pinged: Vec<SessionId>,
}

/// A call to the engine that waits for its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Close(SessionId),
    ShutdownWrite(SessionId),
    WantWritable(SessionId),
}

/// A graceful stop under way.
pub(crate) struct Draining {
    pub(crate) close_code: u16,
    pub(crate) reconnect_ms_max: u32,
    pub(crate) deadline_ms: WorkerMs,
    /// The sessions have been told.
    pub(crate) announced: bool,
    /// Connections that came since, and are refused. The stop does not wait for them.
    pub(crate) refused: HashSet<SessionId>,
}

impl Worker {
    pub(crate) fn new(
        mut config: WorkerConfig,
        reader: Reader,
        sleeper: Sleeper,
        stats: Arc<WorkerStats>,
        inbox: Receiver<Command>,
    ) -> Self {
        let (epoch_generation, epoch) = reader.epoch();
        let inbound_limits = InboundLimits {
            message_len_max: config.limits.message_len_max,
            skipped_len_max: REQUEST_SKIPPED_LEN_MAX,
            fragments_max: config.limits.fragments_max,
        };
        let batching = std::mem::take(&mut config.batching);
        let directory = Directory::new(batching, config.limits.sharing_sessions_min);
        let mut worker = Self {
            config,
            inbound_limits,
            stats,
            reader,
            sleeper,
            inbox,
            commands: VecDeque::new(),
            directory,
            arena: Arena::new(),
            sessions: Sessions::default(),
            wheel: Wheel::new(),
            cursor: RingIndex::default(),
            cursor_seq: 0,
            epoch,
            epoch_generation,
            now_ms: WorkerMs::default(),
            clock: Clock::start(),
            counted: Counters::default(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            steps: Steps::none(),
            actions: Vec::new(),
            draining: None,
            news: Told::default(),
            is_sending: false,
            unsent: Vec::new(),
            slices: IoSlices::new(),
            touched: Vec::new(),
            due_groups: Vec::new(),
            plan: Plan::default(),
            text: String::new(),
            due: Vec::new(),
            pinged: Vec::new(),
        };
        worker.jump_to_tail();
        worker.take_news_for_told();
        worker.show_limits();
        worker
    }

    /// Shows limits beside what they bound, so that an alert can compare the two.
    fn show_limits(&self) {
        let Limits { sessions_max, filters_max, held_bytes_max, .. } = self.config.limits;
        self.stats.sessions_max.set(sessions_max.into());
        self.stats.filters_max.set(filters_max.into());
        self.stats.held_bytes_max.set(held_bytes_max as u64);
    }

    /// Serves until it is told to end.
    pub(crate) fn run(&mut self, engine: &mut dyn Engine) -> io::Result<()> {
        loop {
            self.stats.turns.add(1);
            self.serve_waiting();
            let timeout = self.timeout();
            let slept = timeout > Duration::ZERO;
            engine.poll(timeout.into(), &mut |event| self.on_event(event))?;
            self.note(engine.counters());
            self.stats.groups.set(self.directory.groups_live() as u64);
            let is_rung = self.sleeper.rise();
            self.tick(slept.then_some(timeout));
            if self.obey_commands(engine)? {
                return Ok(());
            }
            self.hear_news(engine)?;
            self.expire(engine)?;
            self.shed();
            self.apply(engine);
            self.serve(engine)?;
            self.fan_out(engine)?;
            if is_rung {
                self.sleeper.silence();
            }
            self.apply(engine);
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    /// How long the next poll may wait: not at all while there is work; else until the next tick of the timers, with
    /// the publisher told to wake us.
    fn timeout(&mut self) -> Duration {
        let due_us = [
            (!self.touched.is_empty()).then_some(self.directory.due_us),
            self.arena.is_waited_for().then(|| self.arena.due_us()),
        ];
        let due_us = due_us.into_iter().flatten().min();
        let wait_max = due_us.map(|due_us| due_us.since(self.now_us()));
        let is_busy = |worker: &Self| {
            !worker.ready.is_empty()
                || !worker.waiting.is_empty()
                || worker.directory.is_leaving()
                || worker.reader.tail() > worker.cursor
                || worker.reader.news() != worker.news.seen
                || wait_max == Some(Duration::ZERO)
        };
        if is_busy(self) {
            return Duration::ZERO;
        }
        let spin_until = Instant::now() + Duration::from_micros(u64::from(self.config.spin_us));
        while Instant::now() < spin_until {
            if is_busy(self) {
                return Duration::ZERO;
            }
            std::hint::spin_loop();
        }
        // The publisher looks at the sleeping word after it has published; we look at the tail after we have set it.
        // One of the two sees the other (ring/wake.rs).
        self.sleeper.prepare();
        self.commands.extend(self.inbox.try_recv());
        if is_busy(self) || !self.commands.is_empty() {
            self.sleeper.clear();
            return Duration::ZERO;
        }
        if self.sessions.open() == 0 && self.draining.is_none() {
            return IDLE_WAIT;
        }
        let tick = Duration::from_millis(self.wheel.next_tick_in_ms(self.now_ms));
        wait_max.map_or(tick, |wait_max| tick.min(wait_max))
    }

    /// Adds what the engine has counted since the last call. A worker that takes another's place goes on with its
    /// counters, but its engine begins at 0.
    fn note(&mut self, counters: Counters) {
        let before = std::mem::replace(&mut self.counted, counters);
        let stats = &self.stats;
        for (word, now, then) in [
            (&stats.accept_parked, counters.accept_parked, before.accept_parked),
            (&stats.accept_failed, counters.accept_failed, before.accept_failed),
            (&stats.accepts_renewed, counters.accepts_renewed, before.accepts_renewed),
            (&stats.receive_requeued, counters.receive_requeued, before.receive_requeued),
            (&stats.receive_starved, counters.receive_starved, before.receive_starved),
            (&stats.polls_cut, counters.polls_cut, before.polls_cut),
        ] {
            word.add(now.wrapping_sub(then));
        }
        stats.accepting_parked.set(counters.is_parked.into());
    }

    /// The time that batching windows go by; it moves on within a pass.
    pub(crate) fn now_us(&self) -> RunningUs {
        self.clock.running()
    }

    /// Moves the worker's time on. What it has slept is no stall.
    fn tick(&mut self, slept: Option<Duration>) {
        let allowed = slept.unwrap_or_default() + STALL;
        if self.clock.advance(allowed) {
            self.stats.stalls.add(1);
        }
        self.now_ms = self.clock.served();
    }

    fn obey_commands(&mut self, engine: &mut dyn Engine) -> io::Result<bool> {
        self.commands.extend(self.inbox.try_iter());
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Stop => return Ok(true),
                #[cfg(debug_assertions)]
                Command::Panic => panic!("told to panic"),
                #[cfg(debug_assertions)]
                Command::OpenFile => match std::fs::File::open("/etc/passwd") {
                    Ok(_) => tracing::warn!("opened a file, as told"),
                    Err(error) => tracing::warn!("could not open a file, as told: {error}"),
                },
                Command::Notice(text) => {
                    // Replies first: the notice is behind what the sessions' groups are owed.
                    self.serve(engine)?;
                    self.tell_all(engine, &text, true)?;
                }
                Command::Limits(limits) => {
                    self.config.limits = self.config.limits.taking(&limits);
                    self.show_limits();
                }
                Command::Drain { close_code, reconnect_ms_max, deadline_ms } => {
                    // Connections that come now are answered 503, so that a balancer learns it at once and asks
                    // elsewhere.
                    let deadline_ms = self.now_ms + u64::from(deadline_ms);
                    let refused = HashSet::new();
                    self.draining =
                        Some(Draining { close_code, reconnect_ms_max, deadline_ms, announced: false, refused });
                }
            }
        }
        Ok(false)
    }

    /// Carries out what the event handlers have decided.
    pub(crate) fn apply(&mut self, engine: &mut dyn Engine) {
        for action in self.actions.drain(..) {
            match action {
                Action::Close(session) => engine.close(session),
                Action::ShutdownWrite(session) => engine.shutdown_write(session),
                Action::WantWritable(session) => engine.want_writable(session),
            }
        }
    }

    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Accepted { session, peer } => self.accepted(session, peer),
            Event::Received { session, bytes } => self.received(session, bytes),
            Event::Writable { session } => self.writable(session),
            Event::Closed { session, error } => self.peer_closed(session, error.is_some()),
            // Nobody has asked for a socket.
            Event::Detached { .. } | Event::Woken => {}
        }
    }

    /// A graceful stop is over when every session has ended, or its time is up.
    fn is_drained(&mut self) -> bool {
        let Some(draining) = &self.draining else { return false };
        let over = self.now_ms >= draining.deadline_ms;
        let refused = draining.refused.len();
        // From here on the fan-out lets nothing wait.
        if !draining.announced && (self.reader.tail() == self.cursor || over) {
            self.announce_drain();
        }
        self.sessions.open() as usize <= refused || over
    }
}

/// A longer time between two looks at the sockets, sleep not counted, is a stall.
const STALL: Duration = Duration::from_millis(500);
/// A wait while there are neither sessions nor timers.
const IDLE_WAIT: Duration = Duration::from_millis(10 * TICK_MS);
