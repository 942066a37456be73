//! The feed over SoupBinTCP servers: what is lost with one connection comes by the next.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, ppoll};
use nix::sys::time::TimeSpec;

use super::catch_up::CatchUp;
use super::numbering::{Numbering, Unfit};
use super::{Connection, ConnectionError, Host, LoginRequest, PacketError, Received, Rejection, Retry, Timing};
use crate::limits::POLL_MESSAGES_MAX;
use crate::moldudp64::Start;
use crate::{Condition, Event, Feed, FeedCounters, FeedError, Poll, Session, Stale, Trouble, UnixNs};

/// What a feed needs to know.
#[derive(Clone)]
pub struct SoupbintcpConfig {
    /// Servers of the same messages, taken in turn.
    pub servers: Vec<Host>,
    /// Padded on the right, as in [`LoginRequest`].
    pub username: [u8; 6],
    /// Likewise.
    pub password: [u8; 10],
    /// The one session that is wanted. None: the current one, and those that follow it.
    pub session: Option<Session>,
    /// What to ask for at first.
    pub start: Start,
    /// What a login of 4.x says of heartbeats, milliseconds. None: logins of 3.00.
    pub heartbeat_timeout_ms: Option<u32>,
    /// How long things may take.
    pub timing: Timing,
    /// When to try again.
    pub retry: Retry,
}

/// Takes numbered messages from a server, or from several in turn.
pub struct SoupbintcpFeed {
    config: SoupbintcpConfig,
    servers: Servers,
    state: State,
    numbering: Numbering,
    /// Attempts in a row that brought nothing.
    failures: u32,
}

/// The servers, of which one is asked at a time.
struct Servers {
    all: Vec<Host>,
    at: usize,
    /// How often it was another one's turn.
    turns: usize,
}

enum State {
    Waiting {
        until: Instant,
    },
    Connected {
        connection: Box<Connection>,
        /// The login is accepted.
        is_in: bool,
        /// Until the present is reached.
        catch_up: Option<CatchUp>,
    },
    Finished,
}

/// Why a connection is given up, or was not made.
enum End {
    Error(ConnectionError),
    Unfit(Unfit),
    SessionOver,
}

impl SoupbintcpFeed {
    /// A feed that connects when it is polled. Without servers it is at its end.
    pub fn new(config: SoupbintcpConfig) -> Self {
        let all = config.servers.clone();
        Self {
            servers: Servers { all, at: 0, turns: 0 },
            state: State::Waiting { until: Instant::now() },
            numbering: Numbering::new(config.session, config.start),
            failures: 0,
            config,
        }
    }

    fn connect(&mut self, now: Instant) -> Result<(), End> {
        let Some((addresses, turn)) = self.servers.addresses() else {
            self.state = State::Finished;
            return Ok(());
        };
        let SoupbintcpConfig { username, password, heartbeat_timeout_ms, timing, .. } = self.config;
        let (session, sequence) = self.numbering.request();
        let login = LoginRequest { username, password, session, sequence, heartbeat_timeout_ms };
        let connection = Connection::open(addresses, turn, &login, timing, now).map_err(End::Error)?;
        self.state = State::Connected { connection: Box::new(connection), is_in: false, catch_up: None };
        Ok(())
    }

    /// Takes what has come, some of it if it is much. Says when there is something to do again; none: at once.
    fn receive(
        &mut self,
        now: Instant,
        now_ns: UnixNs,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Instant>, End> {
        let Self { state, numbering, failures, servers, .. } = self;
        let State::Connected { connection, is_in, catch_up } = state else { return Ok(None) };
        for _ in 0..POLL_MESSAGES_MAX {
            let Some(received) = connection.receive().map_err(End::Error)? else {
                // All that was read has been taken: read on, or wait for the socket.
                let len = connection.work(now).map_err(End::Error)?;
                numbering.counters.bytes += len as u64;
                if len > 0 {
                    continue;
                }
                if catch_up.as_mut().is_some_and(|catch_up| catch_up.is_over(now)) {
                    *catch_up = None;
                }
                let due = connection.due();
                return Ok(Some(catch_up.as_ref().map_or(due, |catch_up| due.min(catch_up.due()))));
            };
            numbering.counters.packets += 1;
            match received {
                Received::Message { offset, bytes } => {
                    if numbering.message(bytes, offset, now_ns, sink) {
                        *failures = 0;
                        if let Some(catch_up) = catch_up {
                            catch_up.message(bytes);
                        }
                    }
                }
                Received::Accepted { offset, accepted } => {
                    numbering.accept(&accepted, offset, servers.name(), sink).map_err(End::Unfit)?;
                    *is_in = true;
                    *catch_up = Some(CatchUp::new(now));
                }
                Received::Heartbeat => {
                    numbering.counters.heartbeats += 1;
                    // The server had nothing to send: this is the present.
                    *catch_up = None;
                    *failures = 0;
                }
                Received::EndOfSession => return Err(End::SessionOver),
                Received::Aside => {}
            }
        }
        Ok(None)
    }

    /// A connection has ended, or was not made: says why, and decides when there will be another.
    fn end(&mut self, end: &End, now: Instant, sink: &mut dyn FnMut(Event<'_>)) {
        let Self { config, servers, state, numbering, failures } = self;
        let (asked, _) = numbering.request();
        let failures_before = *failures;
        *failures = failures.saturating_add(1);
        let short = config.retry.pause(*failures, servers.all.len());
        let long = config.retry.refusal_pause();
        let address = servers.name();
        let pause = match end {
            // The session is over, for good or until the next one begins.
            End::SessionOver if !numbering.end_of_session(sink) => {
                *state = State::Finished;
                return;
            }
            End::SessionOver => {
                *failures = 0;
                long
            }
            // The server can be asked for something else.
            End::Unfit(Unfit::AskAgain) => short,
            End::Error(ConnectionError::Refused(Rejection::SessionUnavailable)) if numbering.unavailable() => {
                // There are few other things to ask for.
                *failures = failures_before;
                short
            }
            End::Error(ConnectionError::Refused(Rejection::SessionUnavailable))
                if numbering.current().is_some_and(|current| current.is_ended) =>
            {
                // This is expected until the next session begins.
                *failures = 0;
                long
            }
            // What has to change lies with people, which takes time.
            End::Error(ConnectionError::Refused(rejection)) => {
                let (rejection, retry_ms) = (*rejection, milliseconds(long));
                sink(Event::Trouble(Trouble::LoginRefused { address, session: asked, rejection, retry_ms }));
                servers.turn();
                long
            }
            End::Unfit(Unfit::OtherSession { session, expected }) => {
                let (session, expected, retry_ms) = (*session, *expected, milliseconds(long));
                sink(Event::Trouble(Trouble::OtherSession { address, session, expected, retry_ms }));
                servers.turn();
                long
            }
            // The connection is of no use: the next one goes to the next server.
            End::Unfit(Unfit::Implausible(error)) | End::Error(ConnectionError::Packet(error)) => {
                let PacketError { offset, fault } = *error;
                numbering.counters.malformed += 1;
                sink(Event::Malformed { offset, reason: fault.into() });
                disconnected(address, error, short, sink);
                servers.turn();
                short
            }
            End::Error(error) => {
                disconnected(address, error, short, sink);
                servers.turn();
                short
            }
        };
        *state = State::Waiting { until: now + pause };
    }
}

impl Feed for SoupbintcpFeed {
    fn name(&self) -> &'static str {
        "soupbintcp"
    }

    fn poll(&mut self, now_ns: UnixNs, sink: &mut dyn FnMut(Event<'_>)) -> Result<Poll, FeedError> {
        // Silence and pauses go by a clock that nobody sets.
        let now = Instant::now();
        let polled = match self.state {
            State::Waiting { until } if now < until => Ok(Some(until)),
            State::Waiting { .. } => self.connect(now).map(|()| None),
            State::Connected { .. } => self.receive(now, now_ns, sink),
            State::Finished => return Ok(Poll::Finished),
        };
        match polled {
            Ok(Some(due)) => {
                let pause = due.saturating_duration_since(now);
                let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
                return Ok(Poll::IdleUntil(now_ns.plus(pause_ns)));
            }
            Ok(None) => {}
            Err(end) => self.end(&end, now, sink),
        }
        Ok(Poll::Busy)
    }

    fn counters(&self) -> FeedCounters {
        self.numbering.counters
    }

    fn wait(&mut self, timeout: Duration) {
        match &self.state {
            State::Connected { connection, .. } => {
                let mut socket = [PollFd::new(connection.as_fd(), connection.interest())];
                // Whatever this answers, the next poll finds out what there is.
                let _ = ppoll(&mut socket, Some(TimeSpec::from_duration(timeout)), None);
            }
            State::Waiting { .. } | State::Finished => std::thread::park_timeout(timeout),
        }
    }

    fn condition(&self) -> Condition {
        match (&self.state, self.numbering.current()) {
            // Nothing was ever there that could be out of date.
            (_, None) => Condition::CatchingUp,
            // Between sessions nothing is missed, as long as somebody is there who would say otherwise.
            (_, Some(current)) if current.is_ended && self.failures == 0 => Condition::Live,
            (State::Connected { is_in: true, catch_up: Some(_), .. }, _) => Condition::CatchingUp,
            (State::Connected { is_in: true, .. }, Some(current)) if current.is_incomplete => {
                Condition::Stale(Stale::Incomplete)
            }
            (State::Connected { is_in: true, .. }, _) => Condition::Live,
            _ => Condition::Stale(Stale::Disconnected),
        }
    }
}

impl Servers {
    /// Where to try, and with which of the addresses to begin.
    fn addresses(&self) -> Option<(&[SocketAddr], usize)> {
        let turn = self.turns / self.all.len().max(1);
        self.all.get(self.at).map(|host| (host.addresses.as_slice(), turn))
    }

    fn name(&self) -> &str {
        self.all.get(self.at).map_or("", |host| &host.name)
    }

    fn turn(&mut self) {
        self.at = (self.at + 1) % self.all.len().max(1);
        self.turns = self.turns.wrapping_add(1);
    }
}

fn disconnected(address: &str, error: &dyn std::error::Error, pause: Duration, sink: &mut dyn FnMut(Event<'_>)) {
    let error = &error.to_string();
    sink(Event::Trouble(Trouble::Disconnected { address, error, retry_ms: milliseconds(pause) }));
}

fn milliseconds(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}
