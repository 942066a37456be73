//! The task that keeps a connection open, and passes on its messages.

use std::sync::Arc;
use std::time::Duration;

use fanblade_feed::queue::{Record, Refused, Sender};
use fanblade_feed::{Condition, Stale, UnixNs};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use super::arrival::Arrival;
use super::backoff::Backoff;
use super::batch::{Batch, Step};
use super::connect::{Socket, Target, explain, explain_close};
use super::feed::Counters;
use super::fetch::{Fetched, Fetcher};
use super::limits::{CLOSE_MS_MAX, MESSAGES_PER_TURN_MAX, SEND_MS_MAX};
use super::mapper::Mapper;
use super::numbering::Numbering;
use super::periodic::Periodic;
use super::settings::{PeriodicText, Settings};

/// A connection that is made again and again, until the feed is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    target: Target,
    subscribe: Vec<String>,
    periodic: Vec<PeriodicText>,
    fetcher: Fetcher,
    mapper: Mapper,
    numbering: Numbering,
    sender: Sender,
    counters: Arc<Counters>,
    ping_interval: Option<Duration>,
    idle_max: Duration,
    silent_max: Option<Duration>,
    backoff: Backoff,
    condition: Condition,
    batch: Batch,
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The blade stops.
    Stopped,
    /// The connection was lost; the reason, in words.
    Lost(String),
}

/// The times of one connection.
struct Clock {
    /// When anything was heard last, such as a message or a pong.
    heard: Instant,
    /// When a message was heard last.
    told: Instant,
    /// Values have come on this connection.
    is_live: bool,
    /// No message has come for too long.
    is_silent: bool,
    ping: Option<Interval>,
    /// When to check for rules that pass nothing on.
    silence: Option<Interval>,
    periodic: Periodic,
}

/// The next event to handle.
enum Turn {
    Heard(Option<tungstenite::Result<Message>>),
    Fetched(Fetched),
    SayPeriodic,
    Ping,
    LookForSilence,
    BeSilent,
}

impl From<Refused> for End {
    /// A send waits while the queue is full, so that it fails only because the queue is closed.
    fn from(_: Refused) -> End {
        End::Stopped
    }
}

impl Connection {
    pub(super) fn new(
        settings: &Settings,
        target: Target,
        fetcher: Fetcher,
        numbering: Numbering,
        sender: Sender,
        counters: Arc<Counters>,
    ) -> Connection {
        Connection {
            target,
            subscribe: settings.subscribe.clone(),
            periodic: settings.send.clone(),
            fetcher,
            mapper: Mapper::new(&settings.rules),
            numbering,
            sender,
            counters,
            ping_interval: settings.ping_interval,
            idle_max: settings.idle_max,
            silent_max: settings.silent_max,
            backoff: Backoff::new(settings.reconnect_min, settings.reconnect_max),
            condition: Condition::CatchingUp,
            batch: Batch::default(),
        }
    }

    /// Connects again and again; ends with the feed.
    pub(super) async fn run(mut self) {
        let sender = self.sender.clone();
        loop {
            let connected = tokio::select! {
                connected = self.target.connect() => connected,
                () = sender.closed() => return,
            };
            let began = Instant::now();
            let end = match connected {
                Ok(socket) => self.serve(socket).await,
                Err(error) => End::Lost(error),
            };
            let End::Lost(error) = end else { return };
            if self.mark_books().await.is_err() {
                return;
            }
            let wait = self.backoff.wait(began.elapsed());
            // Before the first value nothing can be stale: the blade is not ready yet.
            if self.condition != Condition::CatchingUp {
                self.become_(Condition::Stale(Stale::Disconnected));
            }
            let text = format!("{}: {error}; again in {} ms", self.target.address(), wait.as_millis());
            tokio::select! {
                told = self.wait(text, wait) => if told.is_err() { return },
                () = sender.closed() => return,
            }
        }
    }

    /// Marks the books that were passed on as incomplete: from now on changes are missed.
    async fn mark_books(&mut self) -> Result<(), Refused> {
        let arrival = Arrival { unix_ns: UnixNs::now(), at: std::time::Instant::now() };
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        self.mapper.end_connection(arrival, &mut batch);
        for step in batch.steps() {
            if let Step::Update { subject, ts_ns, data, .. } = step {
                let record = Record::Update { subject, ts_ns, data, received_ns: arrival.unix_ns };
                self.sender.send(&record).await?;
            }
        }
        self.batch = batch;
        Ok(())
    }

    async fn wait(&mut self, text: String, wait: Duration) -> Result<(), Refused> {
        self.sender.send(&Record::Trouble { kind: "disconnected", text: &text }).await?;
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Subscribes, follows the connection to its end, and then sends the server a close, in case it still listens.
    async fn serve(&mut self, mut socket: Socket) -> End {
        tracing::info!("{}: connected", self.target.address());
        self.mapper.begin_connection();
        self.fetcher.forget();
        self.numbering.begin_connection();
        let end = match self.follow(&mut socket).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let _ = timeout(Duration::from_millis(CLOSE_MS_MAX), socket.close(None)).await;
        end
    }

    async fn follow(&mut self, socket: &mut Socket) -> Result<std::convert::Infallible, End> {
        for message in &self.subscribe {
            send(socket, Message::text(message)).await?;
        }
        let now = Instant::now();
        let every = |period: Duration| {
            let mut interval = interval_at(now + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let mut clock = Clock {
            heard: now,
            told: now,
            is_live: false,
            is_silent: false,
            ping: self.ping_interval.map(every),
            silence: self.mapper.silence_interval().map(every),
            periodic: Periodic::new(&self.periodic, now),
        };
        let sender = self.sender.clone();
        let mut closed = std::pin::pin!(sender.closed());
        let mut turn = 0;
        loop {
            let silent_at = self.silent_max.filter(|_| clock.is_live && !clock.is_silent).map(|max| clock.told + max);
            let periodic_at = clock.periodic.due();
            // Wait for the next event. In this order (`biased`), so that messages cannot delay what we must send.
            let next = tokio::select! {
                biased;
                // Before the messages, however many there are: a venue closes if it does not hear from us.
                () = sleep_until(periodic_at.unwrap_or(now)), if periodic_at.is_some() => Turn::SayPeriodic,
                () = tick(&mut clock.ping) => Turn::Ping,
                () = tick(&mut clock.silence) => Turn::LookForSilence,
                fetched = self.fetcher.next() => Turn::Fetched(fetched),
                // Arrived messages are read before the clock is checked: a pause of ours is no silence of the server.
                heard = socket.next() => Turn::Heard(heard),
                () = sleep_until(clock.heard + self.idle_max) => {
                    return Err(End::Lost(format!("nothing has come for {} ms", self.idle_max.as_millis())));
                }
                () = sleep_until(silent_at.unwrap_or(now)), if silent_at.is_some() => Turn::BeSilent,
                () = &mut closed => return Err(End::Stopped),
            };
            match next {
                Turn::Heard(Some(Ok(message))) => {
                    self.take(socket, &message, &mut clock).await?;
                    // A venue that sends without pause must not hold up the other tasks of the thread.
                    turn += 1;
                    if turn % MESSAGES_PER_TURN_MAX == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Turn::Heard(Some(Err(error))) => return Err(End::Lost(explain(&error))),
                Turn::Heard(None) => return Err(End::Lost("the server has broken off".to_owned())),
                Turn::Fetched(Fetched { subject, body, .. }) => {
                    let body = body.as_deref().map_err(String::as_str);
                    let take = |mapper: &mut Mapper, arrival: Arrival, batch: &mut Batch| {
                        mapper.take_snapshot(&subject, body, arrival, batch);
                    };
                    self.do_now(socket, &mut clock, take).await?;
                }
                Turn::LookForSilence => {
                    let look = |mapper: &mut Mapper, arrival: Arrival, batch: &mut Batch| {
                        mapper.tell_silence(arrival.at, batch);
                    };
                    self.do_now(socket, &mut clock, look).await?;
                }
                Turn::SayPeriodic => {
                    while let Some(text) = clock.periodic.take(Instant::now(), UnixNs::now().ms()) {
                        send(socket, Message::text(text)).await?;
                    }
                }
                Turn::Ping => send(socket, Message::Ping(tungstenite::Bytes::new())).await?,
                Turn::BeSilent => {
                    clock.is_silent = true;
                    self.become_(Condition::Stale(Stale::Silent));
                }
            }
        }
    }

    /// Lets the mapper do something other than taking a message, and carries out the steps.
    async fn do_now(
        &mut self,
        socket: &mut Socket,
        clock: &mut Clock,
        what: impl FnOnce(&mut Mapper, Arrival, &mut Batch),
    ) -> Result<(), End> {
        let arrival = Arrival { unix_ns: UnixNs::now(), at: std::time::Instant::now() };
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        what(&mut self.mapper, arrival, &mut batch);
        let done = self.carry_out(socket, &batch, arrival, clock).await;
        self.batch = batch;
        done
    }

    async fn take(&mut self, socket: &mut Socket, message: &Message, clock: &mut Clock) -> Result<(), End> {
        let arrival = Arrival { unix_ns: UnixNs::now(), at: std::time::Instant::now() };
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let mut is_pong = false;
        let is_message = match message {
            Message::Text(text) => self.mapper.take(text, arrival, &mut batch),
            Message::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.mapper.take(text, arrival, &mut batch),
                Err(_) => {
                    let len = bytes.len();
                    let what = format!(
                        "a binary message of {len} bytes that is not text; the blade does not decompress messages"
                    );
                    self.mapper.refuse(&what, &mut batch);
                    true
                }
            },
            Message::Close(_) => return Err(End::Lost(explain_close(message))),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                is_pong = true;
                false
            }
        };
        self.counters.store(&self.mapper.totals(), arrival.unix_ns, is_pong);
        if is_message && std::mem::take(&mut clock.is_silent) {
            self.become_(Condition::Live);
        }
        let done = self.carry_out(socket, &batch, arrival, clock).await;
        self.batch = batch;
        // While the queue was full, nothing was read: that is no silence of the server.
        clock.heard = Instant::now();
        if is_message {
            clock.told = clock.heard;
        }
        done
    }

    async fn carry_out(
        &mut self,
        socket: &mut Socket,
        batch: &Batch,
        arrival: Arrival,
        clock: &mut Clock,
    ) -> Result<(), End> {
        let mut lost = None;
        for step in batch.steps() {
            match step {
                Step::Update { subject, ts_ns, data, seq } => {
                    self.numbering.before_update(&self.sender, seq, arrival.unix_ns).await?;
                    let record = Record::Update { subject, ts_ns, data, received_ns: arrival.unix_ns };
                    self.sender.send(&record).await?;
                    if !clock.is_live {
                        clock.is_live = true;
                        self.become_(Condition::Live);
                    }
                }
                Step::SubjectGap { subject, from, to } => {
                    self.sender.send(&Record::SubjectGap { subject, from, to }).await?;
                }
                Step::Gap { from, to } => self.numbering.gap(&self.sender, from, to).await?,
                Step::Trouble { kind, text } => {
                    let text = format!("{}: {text}", self.target.address());
                    self.sender.send(&Record::Trouble { kind, text: &text }).await?;
                }
                Step::Epoch => self.numbering.begin_anew(),
                Step::Send(text) => send(socket, Message::text(text)).await?,
                Step::Fetch { subject, url } => self.fetcher.ask(subject, url),
                Step::Reconnect(why) => lost = Some(why),
            }
        }
        match lost {
            Some(why) => Err(End::Lost(format!("the blade has given up the connection: {why}"))),
            None => Ok(()),
        }
    }

    fn become_(&mut self, condition: Condition) {
        if self.condition != condition {
            self.condition = condition;
            self.sender.set_condition(condition);
        }
    }
}

/// Sends within a time limit: a server that does not read is given up.
async fn send(socket: &mut Socket, message: Message) -> Result<(), End> {
    match timeout(Duration::from_millis(SEND_MS_MAX), socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(End::Lost(explain(&error))),
        Err(_) => Err(End::Lost(format!("the server has taken nothing for {SEND_MS_MAX} ms"))),
    }
}

async fn tick(ping: &mut Option<Interval>) {
    match ping {
        Some(ping) => {
            ping.tick().await;
        }
        None => std::future::pending().await,
    }
}
