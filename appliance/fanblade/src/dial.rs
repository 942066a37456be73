//! Connections that this program opens: the name is looked up within a deadline and never on a thread of data, then all
//! of its addresses have their turn ([`fanblade_net::dial`]).

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanblade_net::dial::{Dial, DialError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::blade::lock;

/// A host to connect to, again and again.
#[derive(Debug)]
pub(crate) struct Dialer {
    host: String,
    port: u16,
    /// Attempts so far.
    turn: AtomicUsize,
    /// A look-up that did not come to its end in time: the next attempt takes its answer, so that name servers that do
    /// not answer hold one thread and not one for each attempt.
    asked: Mutex<Option<JoinHandle<io::Result<Vec<SocketAddr>>>>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("`{host}` cannot be resolved: {error}")]
    Name { host: String, error: io::Error },
    #[error("`{host}` cannot be resolved: no answer from name servers within {ms} ms")]
    NameLate { host: String, ms: u128 },
    #[error("{0}")]
    Dial(#[from] DialError),
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("connected, but no answer to the opening handshake within {ms} ms")]
    Late { ms: u128 },
    #[error(transparent)]
    Handshake(#[from] tungstenite::Error),
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl ConnectError {
    /// Nobody listens there.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, ConnectError::Dial(error) if error.is_refused())
    }
}

impl Dialer {
    /// `host` may be an address, in brackets or not.
    pub(crate) fn new(host: &str, port: u16) -> Dialer {
        Dialer {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            turn: AtomicUsize::new(0),
            asked: Mutex::new(None),
        }
    }

    /// From HOST:PORT.
    pub(crate) fn of(address: &str) -> io::Result<Dialer> {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() => Ok(Dialer::new(host, port)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT")),
        }
    }

    /// Connects within `limit`, look-up included. The next attempt begins with another address: this one may lead to a
    /// server that accepts and is of no use.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<TcpStream, ConnectError> {
        let began = Instant::now();
        let addresses = self.addresses(limit).await?;
        let turn = self.turn.fetch_add(1, Relaxed);
        Ok(dial(&addresses, turn, limit.saturating_sub(began.elapsed())).await?)
    }

    async fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![(address, self.port).into()]);
        }
        let asked = lock(&self.asked).take();
        let mut asked = asked.unwrap_or_else(|| {
            let name = (self.host.clone(), self.port);
            tokio::task::spawn_blocking(move || name.to_socket_addrs().map(Iterator::collect))
        });
        let host = || self.host.clone();
        match timeout(limit, &mut asked).await {
            Ok(Ok(Ok(addresses))) => Ok(addresses),
            Ok(Ok(Err(error))) => Err(ConnectError::Name { host: host(), error }),
            Ok(Err(error)) => Err(ConnectError::Name { host: host(), error: io::Error::other(error) }),
            Err(_) => {
                *lock(&self.asked) = Some(asked);
                Err(ConnectError::NameLate { host: host(), ms: limit.as_millis() })
            }
        }
    }
}

/// Opens a WebSocket, all of it within `limit`. `tls` is whom to trust; `None`: those that browsers trust.
pub(crate) async fn websocket(
    request: Request,
    tls: Option<Arc<rustls::ClientConfig>>,
    limit: Duration,
) -> Result<(Socket, Response), OpenError> {
    let began = Instant::now();
    let uri = request.uri();
    let host = uri.host().ok_or(tungstenite::Error::Url(tungstenite::error::UrlError::NoHostName))?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("wss") { 443 } else { 80 });
    let stream = Dialer::new(host, port).connect(limit).await?;
    let opening = client_async_tls_with_config(request, stream, None, tls.map(Connector::Rustls));
    match timeout(limit.saturating_sub(began.elapsed()), opening).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(OpenError::Late { ms: limit.as_millis() }),
    }
}

/// The first of these addresses that answers.
async fn dial(addresses: &[SocketAddr], turn: usize, limit: Duration) -> Result<TcpStream, DialError> {
    let dial = Dial::new(addresses, turn, limit, Instant::now())?;
    #[expect(deprecated, reason = "its successor is unsafe, for types that change their descriptor: this one cannot")]
    let mut dial = AsyncFd::with_interest(dial, Interest::READABLE)?;
    loop {
        if let Some(stream) = dial.get_mut().poll(Instant::now())? {
            return Ok(TcpStream::from_std(stream)?);
        }
        let due = dial.get_ref().due();
        tokio::select! {
            ready = dial.readable() => ready?.clear_ready(),
            () = sleep_until(due.into()) => {}
        }
    }
}

/// All addresses of HOST:PORT, for who may wait, but not for ever.
pub(crate) fn look_up(name: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let (tell, told) = mpsc::sync_channel(1);
    let asked = name.to_owned();
    // The thread cannot be ended; it ends when the resolver gives up.
    std::thread::Builder::new().name("look-up".to_owned()).spawn(move || {
        let _ = tell.send(asked.to_socket_addrs().map(Iterator::collect));
    })?;
    match told.recv_timeout(limit) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => {
            let words = format!("no answer from name servers within {} ms", limit.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the look-up has ended without an answer")),
    }
}

/// A name server that answers at all does so by then.
pub(crate) const LOOK_UP_MAX: Duration = Duration::from_secs(10);
/// How long a command waits for its connection.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_look_up_and_names_have_a_deadline() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Dialer::of(&address.to_string()).unwrap();
        let stream = dialer.connect(CONNECT_MAX).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        for wrong in ["127.0.0.1", ":7400", "host:port", "host:99999", ""] {
            assert!(Dialer::of(wrong).is_err(), "{wrong}");
        }
        let dialer = Dialer::new("no-such-host.invalid", 1);
        // A resolver that does not answer is asked once, and its answer is taken by whoever asks later.
        *lock(&dialer.asked) = Some(tokio::spawn(std::future::pending()));
        let error = dialer.connect(Duration::from_millis(20)).await.unwrap_err().to_string();
        assert_eq!(error, "`no-such-host.invalid` cannot be resolved: no answer from name servers within 20 ms");
        lock(&dialer.asked).take().unwrap().abort();
        *lock(&dialer.asked) = Some(tokio::spawn(async move { Ok(vec![address]) }));
        assert_eq!(dialer.connect(CONNECT_MAX).await.unwrap().peer_addr().unwrap(), address);
        assert!(lock(&dialer.asked).is_none());
    }
}
