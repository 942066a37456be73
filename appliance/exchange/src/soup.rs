//! The SoupBinTCP servers: the messages themselves, and GLIMPSE snapshots.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fanblade_feed::Session;
use fanblade_feed::soupbintcp::{
    HEARTBEAT_INTERVAL_MS, Inbound, LoginAccepted, LoginRequest, Packet, Rejection, SILENCE_MS_MAX,
};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::error::ExchangeError;
use super::limits::{CLIENTS_MAX, LOGIN_TIME_MAX, STREAM_READ_LEN};
use super::settings::Login;
use super::state::State;
use super::store::{self, Store};

/// Serves clients that log in.
#[derive(Debug)]
pub(super) struct SoupServer {
    listener: TcpListener,
    gate: Arc<Gate>,
}

/// What the clients of one server have in common.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) session: Session,
    /// None: anybody may log in.
    pub(super) credentials: Option<Login>,
    pub(super) service: Service,
    pub(super) store: Arc<Store>,
    pub(super) counters: Counters,
}

/// What a client gets.
#[derive(Debug)]
pub(super) enum Service {
    /// All messages from the number on that it asks for.
    Messages,
    /// The state of the market, as messages.
    Snapshot(Arc<Mutex<State>>),
}

/// What a server did.
#[derive(Debug, Default)]
pub(super) struct Counters {
    logins: AtomicU64,
    rejected: AtomicU64,
    messages: AtomicU64,
    completed: AtomicU64,
    refused: AtomicU64,
}

/// What a server did, at its end.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct SoupCounts {
    pub(super) logins: u64,
    /// Logins with a wrong name, password or session.
    pub(super) rejected: u64,
    /// Sequenced messages written.
    pub(super) messages: u64,
    /// Clients that got everything: up to the end of the session, or of the snapshot.
    pub(super) completed: u64,
    /// Connections beyond the limit.
    pub(super) refused: u64,
}

impl SoupServer {
    /// Listens. Call it within a runtime.
    pub(super) async fn bind(address: SocketAddr, gate: Gate) -> Result<Self, ExchangeError> {
        let listened = TcpListener::bind(address).await;
        let listener = listened.map_err(|error| ExchangeError::Listen { address, error })?;
        Ok(Self { listener, gate: Arc::new(gate) })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn counts(&self) -> SoupCounts {
        let counters = &self.gate.counters;
        let [logins, rejected, messages, completed, refused] =
            [&counters.logins, &counters.rejected, &counters.messages, &counters.completed, &counters.refused]
                .map(|counter| counter.load(Relaxed));
        SoupCounts { logins, rejected, messages, completed, refused }
    }

    /// Serves until it is dropped.
    pub(super) async fn run(&self) {
        let clients = Arc::new(());
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // It may be out of descriptors, and others may be given back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if Arc::strong_count(&clients) > CLIENTS_MAX {
                self.gate.counters.refused.fetch_add(1, Relaxed);
                continue;
            }
            let (gate, place) = (Arc::clone(&self.gate), Arc::clone(&clients));
            tokio::spawn(async move {
                // A client may break off whenever it likes.
                let _: io::Result<()> = Client::new(stream).serve(&gate).await;
                drop(place);
            });
        }
    }
}

impl Gate {
    fn check(&self, request: &LoginRequest) -> Result<(), Rejection> {
        // In upper and lower case they mean the same.
        let is_known = self.credentials.is_none_or(|known| {
            known.user.eq_ignore_ascii_case(&request.username) && known.password.eq_ignore_ascii_case(&request.password)
        });
        if !is_known {
            return Err(Rejection::NotAuthorized);
        }
        match request.session == *b"          " || request.session == self.session {
            true => Ok(()),
            false => Err(Rejection::SessionUnavailable),
        }
    }
}

/// One connection.
struct Client {
    stream: TcpStream,
    inbound: Inbound,
    out: Vec<u8>,
    /// When something came last, and for how long that may be.
    heard: Instant,
    silence_max: Duration,
    /// When a heartbeat is due, so that the client does not take us for dead.
    heartbeat_due: Instant,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        // Whole packets are written; to wait for more would only delay them.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            inbound: Inbound::new(),
            out: Vec::new(),
            heard: Instant::now(),
            silence_max: Duration::from_millis(SILENCE_MS_MAX),
            heartbeat_due: Instant::now(),
        }
    }

    async fn serve(mut self, gate: &Gate) -> io::Result<()> {
        let request = timeout(LOGIN_TIME_MAX, self.login()).await??;
        if let Err(rejection) = gate.check(&request) {
            gate.counters.rejected.fetch_add(1, Relaxed);
            self.say(Packet::LoginRejected(rejection)).await?;
            return self.stream.shutdown().await;
        }
        gate.counters.logins.fetch_add(1, Relaxed);
        self.heard = Instant::now();
        if let Some(ms) = request.heartbeat_timeout_ms {
            self.silence_max = Duration::from_millis(ms.into());
        }
        match &gate.service {
            Service::Messages => self.stream_messages(request.sequence, gate).await,
            Service::Snapshot(state) => self.snapshot(state, gate).await,
        }
    }

    /// The login, which has to be the first packet.
    async fn login(&mut self) -> io::Result<LoginRequest> {
        loop {
            match self.inbound.next_packet() {
                Ok(Some(Packet::LoginRequest(request))) => return Ok(request),
                Ok(Some(Packet::Debug(_))) => {}
                Ok(Some(_)) => return Err(ErrorKind::InvalidData.into()),
                Ok(None) => self.read().await?,
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }

    /// Everything from `sequence` on, then whatever is published, then the end of the session.
    async fn stream_messages(mut self, sequence: u64, gate: &Gate) -> io::Result<()> {
        let mut progress = gate.store.watch();
        let published = progress.borrow_and_update().next;
        // 0 means from now on. A number that is not there yet means the same.
        let mut next = if sequence == 0 { published } else { sequence.min(published) };
        self.say(Packet::LoginAccepted(LoginAccepted { session: gate.session, sequence: next })).await?;
        let mut framed = Vec::new();
        loop {
            // This comes before the read: what is published meanwhile makes another turn.
            let has_ended = progress.borrow_and_update().has_ended;
            framed.clear();
            gate.store.read(next, STREAM_READ_LEN, &mut framed)?;
            let before = next;
            for message in store::messages(&framed) {
                // It fits, as a packet of UDP held it.
                next += u64::from(Packet::Sequenced(message).write(&mut self.out).is_ok());
            }
            if next > before {
                self.send().await?;
                gate.counters.messages.fetch_add(next - before, Relaxed);
            } else if has_ended {
                gate.counters.completed.fetch_add(1, Relaxed);
                self.say(Packet::EndOfSession).await?;
                return self.listen(std::future::pending::<()>()).await;
            } else {
                self.listen(progress.changed()).await?;
            }
        }
    }

    /// The state of the market as it is now.
    async fn snapshot(mut self, state: &Arc<Mutex<State>>, gate: &Gate) -> io::Result<()> {
        self.say(Packet::LoginAccepted(LoginAccepted { session: gate.session, sequence: 1 })).await?;
        let (state, store) = (Arc::clone(state), Arc::clone(&gate.store));
        let made = tokio::task::spawn_blocking(move || {
            let (mut state, mut out) = (state.lock(), Vec::new());
            state.follow(&store)?;
            let count = state.snapshot(&mut out);
            io::Result::Ok((out, count))
        });
        let (out, count) = made.await.map_err(io::Error::other)??;
        self.out = out;
        self.send().await?;
        gate.counters.messages.fetch_add(count, Relaxed);
        gate.counters.completed.fetch_add(1, Relaxed);
        // The client ends the connection when it has enough.
        self.listen(std::future::pending::<()>()).await
    }

    /// Takes what the client says and sends heartbeats, until `event`. The conversation ends with an error where the
    /// client leaves, is silent, or says what it must not.
    async fn listen(&mut self, event: impl Future) -> io::Result<()> {
        tokio::pin!(event);
        loop {
            loop {
                match self.inbound.next_packet() {
                    Ok(Some(Packet::ClientHeartbeat | Packet::Debug(_) | Packet::Unsequenced(_))) => {}
                    Ok(Some(Packet::LogoutRequest)) => return Err(ErrorKind::ConnectionAborted.into()),
                    Ok(Some(_)) => return Err(ErrorKind::InvalidData.into()),
                    Ok(None) => break,
                    Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
                }
            }
            let (heartbeat_due, dead) = (self.heartbeat_due, self.heard + self.silence_max);
            tokio::select! {
                _ = &mut event => return Ok(()),
                read = self.read() => read?,
                () = sleep_until(heartbeat_due) => self.say(Packet::ServerHeartbeat).await?,
                () = sleep_until(dead) => return Err(ErrorKind::TimedOut.into()),
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.stream.read(self.inbound.space()).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            len => {
                self.inbound.filled(len);
                self.heard = Instant::now();
                Ok(())
            }
        }
    }

    async fn say(&mut self, packet: Packet<'_>) -> io::Result<()> {
        packet.write(&mut self.out).map_err(io::Error::other)?;
        self.send().await
    }

    /// Sends what was written, all of it, or gives up.
    async fn send(&mut self) -> io::Result<()> {
        timeout(self.silence_max, self.stream.write_all(&self.out)).await??;
        self.out.clear();
        self.heartbeat_due = Instant::now() + Duration::from_millis(HEARTBEAT_INTERVAL_MS);
        Ok(())
    }
}
