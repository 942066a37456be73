//! The sequencer: one thread that takes messages from the feed, applies them to the market, and publishes each changed
//! image once into the ring.
//!
//! ```text
//! feed ─▶ Market::apply ─▶ encode ─▶ ring::Writer::publish ─▶ (workers wake)
//! ```
//! A feed that names its subjects itself (a publisher, another WebSocket server) bypasses the market.

mod complaints;
mod desk;
mod named;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use fanblade_feed::itch::Message;
use fanblade_feed::{Condition, Event, Feed, Poll, Trouble, UnixNs, injected};
use fanblade_market::Market;
use fanblade_ring::Writer;
use fanblade_worker::WorkerStats;
use tokio::sync::mpsc;

use crate::calendar::Calendar;
use crate::view::{FeedState, SequencerReport, SequencerShared};
use complaints::{GAP, MALFORMED, MESSAGE};
use desk::{Desk, count};

/// How the sequencer runs.
pub(crate) struct SequencerConfig {
    pub(crate) cpu: Option<usize>,
    pub(crate) venue: String,
    pub(crate) calendar: Calendar,
    /// Begin once this many sessions have subscribed, summed over `workers`.
    pub(crate) wait_for: u64,
    pub(crate) workers: Vec<Arc<WorkerStats>>,
    /// Notices for all subscribers, as JSON. The control thread passes them on.
    pub(crate) notices: mpsc::Sender<String>,
}

/// A running sequencer.
pub(crate) struct SequencerHandle {
    stop: Arc<AtomicBool>,
    has_panicked: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl SequencerHandle {
    /// Tells the sequencer to end. What it has published stays.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
        self.thread.thread().unpark();
    }

    /// Waits for the sequencer's end.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the sequencer's thread panicked on its way out");
        }
    }

    /// Whether its thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Whether it has ended by itself: it does so only if it panics, or its feed's own thread does.
    pub(crate) fn is_finished(&self) -> bool {
        self.has_panicked.load(Relaxed) || self.thread.is_finished()
    }
}

/// Starts the thread. `writer` must be in the calendar's epoch number 0.
pub(crate) fn spawn(
    config: SequencerConfig,
    mut feed: Box<dyn Feed>,
    writer: Writer,
    shared: Arc<SequencerShared>,
) -> io::Result<SequencerHandle> {
    let stop = Arc::new(AtomicBool::new(false));
    let has_panicked = Arc::new(AtomicBool::new(false));
    let thread = std::thread::Builder::new().name("sequencer".to_owned()).spawn({
        let (stop, has_panicked) = (Arc::clone(&stop), Arc::clone(&has_panicked));
        move || {
            if let Some(cpu) = config.cpu
                && let Err(error) = fanblade_net::affinity::pin_thread(cpu)
            {
                tracing::warn!("sequencer: cannot pin to CPU {cpu}: {error}");
            }
            // By default the kernel may end a sleep 50 µs late, which is longer than all the work.
            if let Err(error) = nix::sys::prctl::set_timerslack(1) {
                tracing::debug!("sequencer: cannot set the timer slack: {error}");
            }
            let mut sequencer = Sequencer::new(config, writer, shared);
            sequencer.source = feed.name();
            let ended = catch_unwind(AssertUnwindSafe(|| {
                sequencer.wait_for_subscribers(&stop);
                sequencer.run(&mut *feed, &stop);
            }));
            // Set before the feed is dropped, which may wait for a thread of its own.
            has_panicked.store(ended.is_err(), Relaxed);
        }
    })?;
    Ok(SequencerHandle { stop, has_panicked, thread })
}

struct Sequencer {
    config: SequencerConfig,
    market: Market,
    desk: Desk,
    shared: Arc<SequencerShared>,
    report: SequencerReport,
    reported_ns: UnixNs,
    /// Sessions that have begun.
    sessions: u32,
    /// The epoch of the session under way, and how often it has begun anew.
    session_epoch: String,
    restarts: u32,
    /// The feed's name in notices to subscribers.
    source: &'static str,
    condition: Condition,
    /// Messages describe a state that is published once it is complete.
    in_snapshot: bool,
    /// No message of the session has come yet.
    is_new: bool,
    /// The newest number of the session.
    newest_seq: u64,
}

impl Sequencer {
    fn new(config: SequencerConfig, writer: Writer, shared: Arc<SequencerShared>) -> Self {
        let now_ns = UnixNs::now();
        Self {
            market: Market::new(&config.venue, config.calendar.day(now_ns).midnight_ns),
            desk: Desk::new(writer),
            shared,
            report: SequencerReport { epoch: config.calendar.epoch(now_ns, 0, ""), ..SequencerReport::default() },
            reported_ns: UnixNs::default(),
            sessions: 0,
            session_epoch: String::new(),
            restarts: 0,
            source: "",
            condition: Condition::Live,
            in_snapshot: false,
            is_new: true,
            newest_seq: 0,
            config,
        }
    }

    fn wait_for_subscribers(&mut self, stop: &AtomicBool) {
        let wanted = self.config.wait_for;
        if wanted == 0 {
            return;
        }
        self.publish_report();
        tracing::info!("the feed waits for {wanted} subscribed sessions");
        while !stop.load(Relaxed) {
            self.shared.pulse.beat();
            let subscribed: u64 = self.config.workers.iter().map(|stats| stats.sessions_subscribed.value()).sum();
            if subscribed >= wanted {
                tracing::info!("{subscribed} sessions have subscribed: the feed begins");
                return;
            }
            std::thread::park_timeout(WAIT_STEP);
        }
    }

    fn run(&mut self, feed: &mut dyn Feed, stop: &AtomicBool) {
        self.follow(feed.condition());
        while !stop.load(Relaxed) {
            self.shared.pulse.beat();
            let now_ns = UnixNs::now();
            let polled = feed.poll(now_ns, &mut |event| self.take(&event, now_ns));
            self.desk.writer.wake();
            self.follow(feed.condition());
            // `apart`, since a clock that was set back must not stop the reports.
            if now_ns.apart(self.reported_ns) > REPORT_INTERVAL_NS {
                self.reported_ns = now_ns;
                injected::panic_if_asked("sequencer");
                self.report.feed = feed.counters();
                self.report.lines = feed.lines();
                self.publish_report();
            }
            match polled {
                Ok(Poll::Busy) => {}
                Ok(Poll::IdleUntil(due_ns)) => feed.wait(until(due_ns)),
                Ok(Poll::Finished) => {
                    self.end(feed, FeedState::Finished);
                    let counters = feed.counters();
                    tracing::info!(
                        "the feed has ended after {} messages, {} frames; the last values stay",
                        counters.messages,
                        self.desk.writer.stats().published
                    );
                    break;
                }
                Err(error) => {
                    self.end(feed, FeedState::Failed);
                    tracing::error!("the feed has failed: {error}; the last values stay");
                    break;
                }
            }
        }
        // The ring stays open for as long as its writer lives.
        while !stop.load(Relaxed) {
            self.shared.pulse.beat();
            std::thread::park_timeout(REST);
        }
    }

    fn end(&mut self, feed: &dyn Feed, state: FeedState) {
        self.report.feed = feed.counters();
        self.report.lines = feed.lines();
        self.report.state = state;
        if state == FeedState::Failed {
            // The feed broke off, so the last values may not be current.
            self.desk.writer.set_stale(true);
        }
        self.desk.complaints.flush();
        self.publish_report();
    }

    fn take(&mut self, event: &Event<'_>, now_ns: UnixNs) {
        match *event {
            Event::Message { seq, bytes, offset, received_ns } => {
                self.message(seq, bytes, offset, received_ns, now_ns);
            }
            Event::Update { seq, subject, ts_ns, data, received_ns, answer } => {
                let update = named::Update { seq, subject, ts_ns, data };
                match self.desk.publish_named(&update) {
                    Ok(()) => self.shared.latency.record(UnixNs::now().since(received_ns)),
                    Err(because) => answer.refuse(because),
                }
            }
            Event::SubjectGap { subject, from, to } => self.subject_gap(subject, from, to, now_ns),
            Event::Trouble(trouble) => self.trouble(&trouble, now_ns),
            Event::SnapshotStart => {
                self.market.reset();
                self.in_snapshot = true;
                self.is_new = false;
            }
            Event::SnapshotEnd { seq } => self.publish_snapshot(seq),
            Event::SessionStart { session } => self.session(&session, now_ns),
            Event::Gap { from, to } => {
                let (after, last) = (from.saturating_sub(1), to.saturating_sub(1));
                self.desk.complaints.note(GAP, now_ns, || format!("messages {from} to {last} are missing"));
                // Quotes may be wrong until each side has been renewed; subscribers are told so in the notice and in
                // the images.
                self.desk.writer.set_floor(last);
                self.market.set_incomplete();
                let source = self.source;
                self.notice(format!(
                    r#"{{"op":"notice","kind":"gap","source":"{source}","from":{after},"to":{last}}}"#
                ));
            }
            Event::EndOfSession { seq } => tracing::info!("upstream has ended its session before message {seq}"),
            Event::Malformed { offset, reason } => {
                self.desk.complaints.note(MALFORMED, now_ns, || format!("at byte {offset}: {reason}"));
            }
        }
    }

    fn message(&mut self, seq: u64, bytes: &[u8], offset: u64, received_ns: UnixNs, now_ns: UnixNs) {
        let Self { market, desk, shared, in_snapshot, .. } = self;
        if std::mem::take(&mut self.is_new) && (seq > 1 || !begins_the_day(bytes)) {
            // The feed joined late, or the file begins in the middle of a day: what happened before is not known.
            desk.writer.set_floor(seq - 1);
            market.set_incomplete();
            tracing::info!("message {seq} is not the day's first: quotes and books are incomplete");
        }
        desk.frames = 0;
        let applied = market.apply(seq, bytes, &mut |update| {
            if !*in_snapshot {
                desk.publish(update);
            }
        });
        if let Err(error) = applied {
            desk.complaints.note(MESSAGE, now_ns, || format!("message {seq} at byte {offset}: {error}"));
        }
        if !*in_snapshot {
            self.newest_seq = seq;
        }
        if desk.frames > 0 {
            shared.latency.record(UnixNs::now().since(received_ns));
        }
    }

    /// Publishes the state that a snapshot described, as it was after message `seq - 1`.
    fn publish_snapshot(&mut self, seq: u64) {
        self.in_snapshot = false;
        // The snapshot may be older than what has been published since it was requested.
        let last = seq.saturating_sub(1).max(self.newest_seq);
        let Self { market, desk, .. } = self;
        desk.writer.set_floor(last);
        market.images(last, &mut |update| desk.publish(update));
        if self.market.instruments_len() == 0 {
            // A feed without books uses a snapshot only to say where it goes on.
            return tracing::debug!("the feed's numbers begin with {seq}");
        }
        tracing::info!(
            "snapshot before message {seq}: {} orders of {} instruments",
            self.market.orders(),
            self.market.instruments_len()
        );
    }

    fn subject_gap(&mut self, subject: &str, from: u64, to: u64, now_ns: UnixNs) {
        let (after, last) = (from.saturating_sub(1), to.saturating_sub(1));
        self.report.subject_gaps += 1;
        self.desk.complaints.note(GAP, now_ns, || format!("{subject}: messages {from} to {last} are missing"));
        let subject = named::quoted(subject);
        self.notice(format!(r#"{{"op":"notice","kind":"gap","subject":{subject},"from":{after},"to":{last}}}"#));
    }

    fn trouble(&mut self, trouble: &Trouble<'_>, now_ns: UnixNs) {
        let kind = trouble.kind();
        count(&mut self.report.troubles, kind, 1);
        self.desk.complaints.note(kind, now_ns, || trouble.to_string());
    }

    /// Adopts the feed's condition, and reports changes.
    fn follow(&mut self, condition: Condition) {
        let state = FeedState::from(condition);
        if self.report.state == state && self.condition == condition {
            return;
        }
        let before = std::mem::replace(&mut self.report.state, state);
        self.condition = condition;
        match condition {
            Condition::Stale(_) => tracing::warn!("feed {}: {condition}", self.source),
            _ if before == FeedState::Waiting && state == FeedState::Live => {}
            _ => tracing::info!("feed {}: {condition}", self.source),
        }
        // In other states, such as catching up, the feed is neither stale nor live: leave the mark as it is. Workers
        // tell subscribers.
        match state {
            FeedState::Stale => self.desk.writer.set_stale(true),
            FeedState::Live => self.desk.writer.set_stale(false),
            _ => {}
        }
    }

    /// Begins a new numbering. If its epoch is not the expected one, subscribers learn from it that they cannot
    /// continue from anything they hold.
    fn session(&mut self, session: &[u8], now_ns: UnixNs) {
        self.sessions += 1;
        self.is_new = true;
        self.in_snapshot = false;
        self.newest_seq = 0;
        let name = String::from_utf8_lossy(session);
        let name = name.trim_end();
        let epoch = self.epoch(now_ns, name);
        tracing::info!("upstream session {name}: epoch {epoch}");
        self.market.reset();
        self.market.set_midnight(self.config.calendar.day(now_ns).midnight_ns);
        self.desk.encoder.forget_instruments();
        if epoch != self.report.epoch {
            match self.desk.writer.set_epoch(&epoch) {
                Ok(()) => self.report.epoch = epoch,
                Err(error) => tracing::error!("cannot begin epoch {epoch}: {error}"),
            }
        }
    }

    /// The epoch of a numbering that begins now.
    fn epoch(&mut self, now_ns: UnixNs, session: &str) -> String {
        let epoch = self.config.calendar.epoch(now_ns, self.sessions, session);
        // A session that begins anew under the same name is another numbering.
        self.restarts = match self.config.calendar.is_live() && self.sessions > 1 && epoch == self.session_epoch {
            true => self.restarts + 1,
            false => 0,
        };
        self.session_epoch.clone_from(&epoch);
        if self.restarts == 0 { epoch } else { format!("{epoch}.{}", self.restarts + 1) }
    }

    fn notice(&mut self, text: String) {
        if self.config.notices.try_send(text).is_err() {
            self.report.notices_lost += 1;
        }
    }

    fn publish_report(&mut self) {
        self.report.market = self.market.counters().clone();
        self.report.ring = self.desk.writer.stats();
        for (code, more) in self.desk.unpublished.drain(..) {
            count(&mut self.report.troubles, code, more);
        }
        self.report.orders = self.market.orders() as u64;
        self.report.instruments = self.market.instruments_len() as u64;
        self.report.subjects = self.desk.encoder.subjects_len() as u64;
        self.shared.report.store(Arc::new(self.report.clone()));
    }
}

/// Whether a message is the first that the exchange sends on a day. The number does not tell: a file counts its
/// messages from 1 wherever it begins.
fn begins_the_day(bytes: &[u8]) -> bool {
    matches!(Message::parse(bytes), Ok(Message::SystemEvent(event)) if event.event == START_OF_MESSAGES)
}

/// How long to sleep until `due_ns`; never so long that a stop, or a clock that was set back, would go unnoticed.
fn until(due_ns: UnixNs) -> Duration {
    Duration::from_nanos(due_ns.since(UnixNs::now()).min(SLEEP_NS_MAX))
}

/// ITCH 5.0, section 4.1: "always the first message sent in any trading day".
const START_OF_MESSAGES: u8 = b'O';
const REPORT_INTERVAL_NS: u64 = 50_000_000;
const SLEEP_NS_MAX: u64 = 50_000_000;
const WAIT_STEP: Duration = Duration::from_millis(2);
/// How long the thread sleeps at a time after its feed has ended.
const REST: Duration = Duration::from_millis(200);
