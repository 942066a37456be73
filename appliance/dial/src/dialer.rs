//! Hosts that are connected to repeatedly.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use fanblade_net::dial::{Dial, DialError};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

/// A host to connect to repeatedly.
#[derive(Debug)]
pub struct Dialer {
    host: String,
    port: u16,
    /// Attempts so far.
    turn: AtomicUsize,
    /// A look-up that was not done in time: the next attempt uses its answer. So name servers that do not answer hold
    /// one thread, not one for each attempt.
    asked: Mutex<Option<JoinHandle<io::Result<Vec<SocketAddr>>>>>,
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The look-up of the name failed.
    #[error("`{host}` cannot be resolved: {error}")]
    Name {
        /// The name.
        host: String,
        /// What was wrong.
        error: io::Error,
    },
    /// The name servers do not answer.
    #[error("`{host}` cannot be resolved: no answer from name servers within {ms} ms")]
    NameLate {
        /// The name.
        host: String,
        /// How long we waited, milliseconds.
        ms: u128,
    },
    /// No address answers.
    #[error("{0}")]
    Dial(#[from] DialError),
}

impl ConnectError {
    /// Whether the address refuses connections: nothing listens there.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, ConnectError::Dial(error) if error.is_refused())
    }
}

impl Dialer {
    /// `host` may be an address, in brackets or not.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Dialer {
        Dialer {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            turn: AtomicUsize::new(0),
            asked: Mutex::new(None),
        }
    }

    /// Parses HOST:PORT.
    ///
    /// # Errors
    /// The text has another form.
    pub fn of(address: &str) -> io::Result<Dialer> {
        let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() => Ok(Dialer::new(host, port)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT")),
        }
    }

    /// Connects within `limit`, look-up included. The next attempt begins with another address, since this one may lead
    /// to a server that accepts connections but is of no use.
    ///
    /// # Errors
    /// The name has no address, the look-up takes too long, or none of the addresses answers.
    pub async fn connect(&self, limit: Duration) -> Result<TcpStream, ConnectError> {
        let began = Instant::now();
        let addresses = self.addresses(limit).await?;
        let turn = self.turn.fetch_add(1, Relaxed);
        Ok(dial(&addresses, turn, limit.saturating_sub(began.elapsed())).await?)
    }

    async fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![(address, self.port).into()]);
        }
        let asked = self.asked.lock().take();
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
                *self.asked.lock() = Some(asked);
                Err(ConnectError::NameLate { host: host(), ms: limit.as_millis() })
            }
        }
    }
}

/// A connection to the first of these addresses that answers.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CONNECT_MAX;

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
        // A resolver that does not answer is asked once, and a later caller gets its answer.
        *dialer.asked.lock() = Some(tokio::spawn(std::future::pending()));
        let error = dialer.connect(Duration::from_millis(20)).await.unwrap_err().to_string();
        assert_eq!(error, "`no-such-host.invalid` cannot be resolved: no answer from name servers within 20 ms");
        dialer.asked.lock().take().unwrap().abort();
        *dialer.asked.lock() = Some(tokio::spawn(async move { Ok(vec![address]) }));
        assert_eq!(dialer.connect(CONNECT_MAX).await.unwrap().peer_addr().unwrap(), address);
        assert!(dialer.asked.lock().is_none());
    }
}
