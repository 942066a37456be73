//! `fanblade-echo`: a WebSocket echo server on the blade's own `net` and `wire`, for conformance suites.
//!
//! It takes any path, offers no subprotocol, and sends every message back. Its limits are those of a conformance suite
//! (messages of 16 MiB), not the blade's.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use fanblade_net::{Engine, EngineConfig, Event, IoSlices, ListenOptions, SessionId};
use fanblade_wire::frame::{Opcode, write_close, write_frame};
use fanblade_wire::handshake::{self, Head};
use fanblade_wire::{Flow, Inbound, InboundLimits};

/// WebSocket echo server for conformance suites.
#[derive(Debug, Parser)]
#[command(name = "fanblade-echo")]
struct Arguments {
    /// Address to listen on; port 0 takes a free one. The first line of output says which.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The engine that drives the sockets.
    #[arg(long, value_enum, default_value = "uring")]
    engine: EngineKind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineKind {
    Uring,
    Epoll,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = fanblade_net::listen(arguments.listen, &ListenOptions::default())?;
    let addr = listener.local_addr();
    let config = EngineConfig { sessions_max: SESSIONS_MAX, waker: None };
    let engine = match arguments.engine {
        EngineKind::Uring => fanblade_net::uring(listener, &config)?,
        EngineKind::Epoll => fanblade_net::epoll(listener, &config)?,
    };
    writeln!(std::io::stdout(), "listening on {addr} ({})", engine.name()).context("cannot print the address")?;
    let sessions = (0..engine.capacity()).map(|_| None).collect();
    Echo { engine, sessions, slices: IoSlices::new() }.serve()
}

struct Echo {
    engine: Box<dyn Engine>,
    /// By the index of the session's id.
    sessions: Vec<Option<Session>>,
    slices: IoSlices,
}

impl Echo {
    fn serve(mut self) -> anyhow::Result<()> {
        let mut touched = Vec::new();
        let mut swept = Instant::now();
        loop {
            self.receive(&mut touched)?;
            self.send(&touched)?;
            for id in touched.drain(..) {
                self.settle(id);
            }
            if swept.elapsed() >= SWEEP_INTERVAL {
                swept = Instant::now();
                self.sweep(swept);
            }
        }
    }

    /// Polls once. Sessions with events are noted in `touched`.
    fn receive(&mut self, touched: &mut Vec<SessionId>) -> anyhow::Result<()> {
        let Echo { engine, sessions, .. } = self;
        engine.poll(Some(SWEEP_INTERVAL), &mut |event| {
            let id = match &event {
                Event::Accepted { session, .. }
                | Event::Received { session, .. }
                | Event::Writable { session }
                | Event::Closed { session, .. } => *session,
                Event::Detached { .. } | Event::Woken => return,
            };
            let Some(slot) = sessions.get_mut(id.index()) else { return };
            if matches!(event, Event::Accepted { .. }) {
                *slot = Some(Session::new());
                return;
            }
            let Some(session) = slot else { return };
            match event {
                Event::Received { bytes, .. } => session.receive(bytes),
                Event::Writable { .. } => session.is_blocked = false,
                Event::Closed { error, .. } => session.end(error.is_some()),
                Event::Accepted { .. } | Event::Detached { .. } | Event::Woken => {}
            }
            if !std::mem::replace(&mut session.is_touched, true) {
                touched.push(id);
            }
        })?;
        Ok(())
    }

    /// Sends what the touched sessions are owed.
    #[expect(unsafe_code, reason = "lends the sessions' buffers to the kernel until the end of the flush")]
    fn send(&mut self, touched: &[SessionId]) -> anyhow::Result<()> {
        let Echo { engine, sessions, slices } = self;
        for id in touched {
            let Some(session) = sessions.get_mut(id.index()).and_then(Option::as_mut) else { continue };
            session.is_touched = false;
            let owed = session.owed();
            if owed.is_empty() || session.is_blocked || session.is_lost {
                continue;
            }
            // SAFETY: the bytes must stay readable until `flush` returns: they are the session's own buffer, and
            // neither it nor the session is touched before that. The slices are cleared before they are filled again.
            unsafe { slices.begin(owed.as_ptr(), owed.len()) };
            engine.send(*id, slices);
            session.in_flight = owed.len();
        }
        // All of it counts as taken, unless the flush says otherwise. The closure changes counts, never a buffer.
        engine.flush(&mut |unsent| {
            if let Some(session) = sessions.get_mut(unsent.session.index()).and_then(Option::as_mut) {
                session.in_flight = unsent.sent;
                session.is_blocked = unsent.error.is_none();
                session.is_lost = unsent.error.is_some();
            }
        })?;
        Ok(())
    }

    /// After the sends: handles a buffer that is empty now, or still full.
    fn settle(&mut self, id: SessionId) {
        let Some(slot) = self.sessions.get_mut(id.index()) else { return };
        let Some(session) = slot else { return };
        session.forget_sent();
        let is_drained = session.owed().is_empty();
        if session.is_lost || (session.has_peer_ended && is_drained) {
            *slot = None;
            self.engine.close(id);
            return;
        }
        if session.is_blocked {
            self.engine.want_writable(id);
        }
        let wants_pause = session.owed().len() > OWED_LEN_MAX;
        if wants_pause && !session.is_paused {
            self.engine.pause_reading(id);
            session.is_paused = true;
        } else if session.is_paused && is_drained {
            self.engine.resume_reading(id);
            session.is_paused = false;
        }
        // RFC 6455 section 7.1.1: the server ends its side first, and then waits for the client's end, so that nothing
        // of the close frame is lost to a reset. The deadline limits the wait.
        if is_drained && matches!(session.phase, Phase::Closing) && session.deadline.is_none() {
            self.engine.shutdown_write(id);
            session.deadline = Some(Instant::now() + LINGER_MAX);
        }
    }

    /// Closes sessions whose client does not end its side.
    fn sweep(&mut self, now: Instant) {
        for (index, slot) in (0..).zip(&mut self.sessions) {
            if slot.as_ref().and_then(|session| session.deadline).is_some_and(|deadline| deadline <= now) {
                *slot = None;
                self.engine.close(SessionId(index));
            }
        }
    }
}

struct Session {
    phase: Phase,
    /// Bytes to send, of which the first `sent` have been.
    out: Vec<u8>,
    sent: usize,
    /// What the kernel took in the flush of this pass.
    in_flight: usize,
    /// The socket is full: an [`Event::Writable`] is due.
    is_blocked: bool,
    /// Not read from, until `out` has drained.
    is_paused: bool,
    /// The connection has failed.
    is_lost: bool,
    has_peer_ended: bool,
    /// Noted in `touched` for this pass.
    is_touched: bool,
    /// Our side has ended; the client's must end by this time.
    deadline: Option<Instant>,
}

enum Phase {
    Handshake { head: Vec<u8> },
    Open { inbound: Inbound },
    Closing,
}

impl Session {
    fn new() -> Session {
        Session {
            phase: Phase::Handshake { head: Vec::new() },
            out: Vec::new(),
            sent: 0,
            in_flight: 0,
            is_blocked: false,
            is_paused: false,
            is_lost: false,
            has_peer_ended: false,
            is_touched: false,
            deadline: None,
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) {
        match &mut self.phase {
            Phase::Handshake { head } => {
                let scanned = head.len();
                head.extend_from_slice(bytes);
                self.shake_hands(scanned);
            }
            Phase::Open { .. } => self.echo(bytes),
            Phase::Closing => {}
        }
    }

    fn shake_hands(&mut self, scanned: usize) {
        let Phase::Handshake { head } = &mut self.phase else { return };
        let mut head = std::mem::take(head);
        match handshake::parse(&head, scanned) {
            Head::Incomplete => self.phase = Phase::Handshake { head },
            Head::Reject(rejection) => {
                rejection.response(&mut self.out);
                self.phase = Phase::Closing;
            }
            Head::Upgrade(upgrade) => {
                upgrade.response(None, &mut self.out);
                let head_len = upgrade.head_len;
                self.phase = Phase::Open { inbound: Inbound::new() };
                self.echo(head.get_mut(head_len..).unwrap_or_default());
            }
        }
    }

    fn echo(&mut self, bytes: &mut [u8]) {
        let Phase::Open { inbound } = &mut self.phase else { return };
        let out = &mut self.out;
        let result = inbound.push(bytes, &LIMITS, &mut |event| {
            match event {
                fanblade_wire::Event::Text(text) => write_frame(out, Opcode::Text, text.as_bytes()),
                fanblade_wire::Event::Binary(bytes) => write_frame(out, Opcode::Binary, bytes),
                fanblade_wire::Event::Ping(bytes) => write_frame(out, Opcode::Pong, bytes),
                // Nothing is dropped for its length: LIMITS.skipped_len_max.
                fanblade_wire::Event::Pong(_) | fanblade_wire::Event::TooLong { .. } => {}
                fanblade_wire::Event::Close { code: None, .. } => write_frame(out, Opcode::Close, b""),
                // RFC 6455 section 5.5.1: "the endpoint typically echos the status code it received".
                fanblade_wire::Event::Close { code: Some(code), .. } => write_close(out, code, ""),
            }
            Flow::Continue
        });
        if let Err(error) = result {
            write_close(out, error.close_code(), &error.to_string());
        }
        if inbound.is_finished() {
            self.phase = Phase::Closing;
        }
    }

    /// The client's side has ended, orderly or not. After an orderly end, what it is owed may still reach it.
    fn end(&mut self, is_lost: bool) {
        self.has_peer_ended = true;
        self.is_lost |= is_lost;
    }

    fn owed(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Counts what this pass sent, and makes room where that costs no more than the sending did.
    fn forget_sent(&mut self) {
        self.sent += std::mem::take(&mut self.in_flight);
        if self.sent == self.out.len() {
            self.out = Vec::new();
            self.sent = 0;
        } else if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// Autobahn opens one connection per case and runs a handful at once.
const SESSIONS_MAX: usize = 1024;
/// Autobahn's section 9: messages of 16 MiB, and one of 4 MiB in fragments of 64 bytes.
const LIMITS: InboundLimits = InboundLimits { message_len_max: 16 << 20, skipped_len_max: 0, fragments_max: 1 << 20 };
/// Bytes owed to one session beyond which it is not read from: two messages of the longest.
const OWED_LEN_MAX: usize = 2 * LIMITS.message_len_max;
/// How long a client may take to end its side after we have ended ours, looked at each `SWEEP_INTERVAL`.
const LINGER_MAX: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
