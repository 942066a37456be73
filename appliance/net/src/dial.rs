//! Connecting to a name that has several addresses (RFC 8305): one that does not answer costs a quarter of a second,
//! and not the connection. Nothing here blocks or needs a runtime; whoever has one waits for the descriptor.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use nix::sys::time::TimeSpec;

use crate::limits::{DIAL_ADDRESSES_MAX, DIAL_STAGGER_MS};

/// An attempt to connect to any of some addresses. The first that answers wins, and the others are closed.
///
/// Call [`Dial::poll`] at once, whenever the descriptor is readable, and at [`Dial::due`].
#[derive(Debug)]
pub struct Dial {
    /// Addresses that have not been tried yet.
    queue: VecDeque<SocketAddr>,
    /// Attempts under way, in the order in which they began.
    trying: Vec<(SocketAddr, TcpStream)>,
    failed: Vec<(SocketAddr, io::Error)>,
    stagger: Duration,
    /// When the next address has its turn, if none answers until then.
    next: Instant,
    until: Instant,
    limit: Duration,
    /// All sockets that are connecting, as one descriptor.
    sockets: Epoll,
}

/// Why there is no connection: what became of each address that was tried.
#[derive(Debug)]
pub struct DialError {
    attempts: Vec<(SocketAddr, io::Error)>,
    /// Why some attempts could not begin.
    local: Option<io::Error>,
}

impl Dial {
    /// Prepares to connect within `limit`. The attempt with number `turn` begins with another address than the one
    /// before it.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn new(addresses: &[SocketAddr], turn: usize, limit: Duration, now: Instant) -> Result<Dial, DialError> {
        let queue = in_turn(addresses, turn);
        let most = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        Ok(Dial {
            // Where time is short, each address still gets some of it.
            stagger: Duration::from_millis(DIAL_STAGGER_MS).min(limit / most.saturating_add(1)),
            queue,
            trying: Vec::new(),
            failed: Vec::new(),
            next: now,
            until: now + limit,
            limit,
            sockets: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?,
        })
    }

    /// Goes on, and returns the connection when there is one. It is non-blocking, and does not delay short segments.
    ///
    /// # Errors
    /// No address can be connected to, or the time is over.
    pub fn poll(&mut self, now: Instant) -> Result<Option<TcpStream>, DialError> {
        loop {
            let mut at = 0;
            while let Some((_, stream)) = self.trying.get(at) {
                match is_connected(stream) {
                    Ok(true) => return Ok(Some(self.trying.swap_remove(at).1)),
                    Ok(false) => at += 1,
                    Err(error) => {
                        self.failed.push((self.trying.remove(at).0, error));
                        // An address that has refused need not be waited for.
                        self.next = now;
                    }
                }
            }
            if now >= self.until {
                return Err(self.late());
            }
            if self.queue.is_empty() && self.trying.is_empty() {
                return Err(DialError { attempts: std::mem::take(&mut self.failed), local: None });
            }
            if !self.trying.is_empty() && now < self.next {
                return Ok(None);
            }
            let Some(address) = self.queue.pop_front() else { return Ok(None) };
            match self.begin(address) {
                Ok(stream) => {
                    self.trying.push((address, stream));
                    self.next = now + self.stagger;
                }
                Err(error) => self.failed.push((address, error)),
            }
        }
    }

    /// When [`Dial::poll`] has something to do even if no address answers.
    pub fn due(&self) -> Instant {
        if self.queue.is_empty() { self.until } else { self.until.min(self.next) }
    }

    /// The same for a thread that may block.
    ///
    /// # Errors
    /// As [`Dial::poll`].
    pub fn wait(mut self) -> Result<TcpStream, DialError> {
        loop {
            if let Some(stream) = self.poll(Instant::now())? {
                return Ok(stream);
            }
            let timeout = TimeSpec::from_duration(self.due().saturating_duration_since(Instant::now()));
            // Whatever this answers, the next poll finds out what there is.
            let _ = ppoll(&mut [PollFd::new(self.sockets.0.as_fd(), PollFlags::POLLIN)], Some(timeout), None);
        }
    }

    /// Opens a socket that connects meanwhile.
    fn begin(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.sockets.add(&socket, EpollEvent::new(EpollFlags::EPOLLOUT, 0))?;
        let stream = TcpStream::from(socket);
        // Requests are short and must not wait for an acknowledgement.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn late(&mut self) -> DialError {
        let ms = self.limit.as_millis();
        let mut attempts = std::mem::take(&mut self.failed);
        for (address, _) in self.trying.drain(..) {
            let error = io::Error::new(ErrorKind::TimedOut, format!("no answer within {ms} ms"));
            attempts.push((address, error));
        }
        DialError { attempts, local: None }
    }
}

impl AsFd for Dial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sockets.0.as_fd()
    }
}

impl AsRawFd for Dial {
    fn as_raw_fd(&self) -> RawFd {
        self.sockets.0.as_raw_fd()
    }
}

impl DialError {
    /// Nobody listens at any of the addresses.
    pub fn is_refused(&self) -> bool {
        !self.attempts.is_empty() && self.attempts.iter().all(|(_, error)| error.kind() == ErrorKind::ConnectionRefused)
    }

    /// Time ran out before any other answer.
    pub fn is_late(&self) -> bool {
        self.attempts.iter().any(|(_, error)| error.kind() == ErrorKind::TimedOut)
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.local {
            Some(error) => return error.fmt(f),
            None if self.attempts.is_empty() => return f.write_str("the name has no address"),
            None => {}
        }
        for (position, (address, error)) in self.attempts.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> DialError {
        DialError { attempts: Vec::new(), local: Some(error) }
    }
}

/// The addresses in the order of their turns: families alternate, so that a network that carries only one of them costs
/// one wait (RFC 8305, 4); each attempt begins one further.
fn in_turn(addresses: &[SocketAddr], turn: usize) -> VecDeque<SocketAddr> {
    let is_of_first =
        |address: &SocketAddr| addresses.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let mut first = addresses.iter().copied().filter(is_of_first);
    let mut second = addresses.iter().copied().filter(|address| !is_of_first(address));
    let mut queue: VecDeque<SocketAddr> = VecDeque::with_capacity(addresses.len());
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            break;
        }
        for address in [one, other].into_iter().flatten() {
            if !queue.contains(&address) {
                queue.push_back(address);
            }
        }
    }
    if !queue.is_empty() {
        let len = queue.len();
        queue.rotate_left(turn % len);
    }
    queue.truncate(DIAL_ADDRESSES_MAX);
    queue
}

fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_each_attempt_begins_one_further() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let addresses = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]);
        let first = parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(in_turn(&addresses, 0), first);
        assert_eq!(in_turn(&addresses, 5), first);
        assert_eq!(in_turn(&addresses, 6)[0], first[1]);
        assert_eq!(in_turn(&addresses, usize::MAX).len(), 5);
        assert_eq!(in_turn(&[], 3).len(), 0);
        let many: Vec<SocketAddr> = (0..100).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        assert_eq!(in_turn(&many, 50)[0], many[50]);
        assert_eq!(in_turn(&many, 50).len(), DIAL_ADDRESSES_MAX);
    }
}
