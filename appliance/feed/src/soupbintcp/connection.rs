//! One TCP connection to a server: made, logged in, received from, kept alive. It is polled and never blocks.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::{Inbound, LoginAccepted, LoginRequest, Packet, PacketError, PacketFault, PayloadTooLong, Rejection};

/// A client's connection. Whoever holds it calls [`Connection::receive`] until it has nothing more, then
/// [`Connection::work`], and begins anew if that brought something.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    phase: Phase,
    timing: Timing,
    inbound: Inbound,
    /// What the socket has not taken yet: at most a login request, or a heartbeat.
    outbound: Vec<u8>,
    sent: Instant,
    heard: Instant,
    /// A packet has come since [`Connection::work`] looked at its clock.
    is_heard: bool,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the first packet of the handshake to the last.
    pub connect_max: Duration,
    /// The silence of ours after which we say that we are there.
    pub heartbeat: Duration,
    /// The silence of the server after which the connection is dead; the login's answer has as long.
    pub silence_max: Duration,
}

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// We are in. Comes once, before all messages.
    Accepted {
        /// Where in the connection's bytes this was said.
        offset: u64,
        /// Where we are, and what comes next.
        accepted: LoginAccepted,
    },
    /// The next message.
    Message {
        /// Where in the connection's bytes it begins.
        offset: u64,
        /// The message.
        bytes: &'a [u8],
    },
    /// Nothing has happened for a second.
    Heartbeat,
    /// No more messages will come.
    EndOfSession,
    /// Something that is not for us: text for people, which is logged, or a message without a number.
    Aside,
}

/// How a connection ends, or is not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The server cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// Nobody answers there.
    #[error("cannot connect: no answer within {ms} ms")]
    ConnectTimeout {
        /// How long it was waited for.
        ms: u128,
    },
    /// The server does not let us in.
    #[error("login refused: {0}")]
    Refused(Rejection),
    /// It has stopped to talk.
    #[error("no packet for {ms} ms")]
    Silent {
        /// How long it has been silent.
        ms: u128,
    },
    /// It has closed the connection.
    #[error("the server closed the connection{}", if *is_within_packet { " within a packet" } else { "" })]
    Closed {
        /// What it said last is cut short.
        is_within_packet: bool,
    },
    /// The network has broken it.
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    /// What it says is not SoupBinTCP.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// Cannot happen: what we write is short.
    #[error(transparent)]
    Write(#[from] PayloadTooLong),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { until: Instant },
    LoggingIn,
    LoggedIn,
}

impl Connection {
    /// Begins to connect, in order to log in.
    ///
    /// # Errors
    /// It is known at once that there is no way to `address`.
    pub fn open(
        address: SocketAddr,
        login: &LoginRequest,
        timing: Timing,
        now: Instant,
    ) -> Result<Self, ConnectionError> {
        let stream = begin_to_connect(address).map_err(ConnectionError::Connect)?;
        let mut outbound = Vec::new();
        Packet::LoginRequest(*login).write(&mut outbound)?;
        let phase = Phase::Connecting { until: now + timing.connect_max };
        let inbound = Inbound::new();
        Ok(Self { stream, phase, timing, inbound, outbound, sent: now, heard: now, is_heard: false })
    }

    /// The next thing of what has come already.
    ///
    /// # Errors
    /// The login was refused, or what has come is not of this protocol. The connection is of no more use.
    pub fn receive(&mut self) -> Result<Option<Received<'_>>, ConnectionError> {
        let offset = self.inbound.offset();
        let Some(packet) = self.inbound.next_packet()? else { return Ok(None) };
        self.is_heard = true;
        let is_in = self.phase == Phase::LoggedIn;
        Ok(Some(match packet {
            Packet::Sequenced(bytes) if is_in => Received::Message { offset: offset + 3, bytes },
            Packet::ServerHeartbeat => Received::Heartbeat,
            Packet::EndOfSession if is_in => Received::EndOfSession,
            Packet::LoginAccepted(accepted) if !is_in => {
                self.phase = Phase::LoggedIn;
                Received::Accepted { offset, accepted }
            }
            Packet::LoginRejected(rejection) if !is_in => return Err(ConnectionError::Refused(rejection)),
            Packet::Debug(text) => {
                tracing::debug!("a SoupBinTCP server says: {}", text.escape_ascii());
                Received::Aside
            }
            Packet::Unsequenced(_) => Received::Aside,
            other => {
                let fault = PacketFault::OutOfPlace { kind: other.kind() };
                return Err(PacketError { offset: offset + 2, fault }.into());
            }
        }))
    }

    /// Goes on connecting, writes what is due, and reads once. Says how many bytes have come.
    ///
    /// # Errors
    /// The connection cannot be made, has ended, or is dead.
    pub fn work(&mut self, now: Instant) -> Result<usize, ConnectionError> {
        if let Phase::Connecting { until } = self.phase {
            if !self.is_connected()? {
                let ms = self.timing.connect_max.as_millis();
                return if now < until { Ok(0) } else { Err(ConnectionError::ConnectTimeout { ms }) };
            }
            self.phase = Phase::LoggingIn;
            self.heard = now;
        }
        if std::mem::take(&mut self.is_heard) {
            self.heard = now;
        }
        if self.phase == Phase::LoggedIn && self.outbound.is_empty() && now >= self.sent + self.timing.heartbeat {
            Packet::ClientHeartbeat.write(&mut self.outbound)?;
        }
        self.flush(now)?;
        match self.stream.read(self.inbound.space()) {
            Ok(0) => Err(ConnectionError::Closed { is_within_packet: self.inbound.is_within_packet() }),
            Ok(len) => {
                self.inbound.filled(len);
                Ok(len)
            }
            // Only now, since this process may have slept while packets came.
            Err(error) if is_transient(&error) => match now.saturating_duration_since(self.heard) {
                silence if silence >= self.timing.silence_max => {
                    Err(ConnectionError::Silent { ms: silence.as_millis() })
                }
                _ => Ok(0),
            },
            Err(error) => Err(ConnectionError::Broken(error)),
        }
    }

    /// When [`Connection::work`] has something to do even if nothing comes.
    pub fn due(&self) -> Instant {
        match self.phase {
            Phase::Connecting { until } => until,
            Phase::LoggingIn => self.heard + self.timing.silence_max,
            Phase::LoggedIn => (self.sent + self.timing.heartbeat).min(self.heard + self.timing.silence_max),
        }
    }

    /// What of its socket to wait for.
    pub fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::Connecting { .. } => PollFlags::POLLOUT,
            _ if self.outbound.is_empty() => PollFlags::POLLIN,
            _ => PollFlags::POLLIN | PollFlags::POLLOUT,
        }
    }

    fn is_connected(&self) -> Result<bool, ConnectionError> {
        if let Some(error) = self.stream.take_error().map_err(ConnectionError::Connect)? {
            return Err(ConnectionError::Connect(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(ConnectionError::Connect(error)),
        }
    }

    fn flush(&mut self, now: Instant) -> Result<(), ConnectionError> {
        while !self.outbound.is_empty() {
            match self.stream.write(&self.outbound) {
                Ok(len) => {
                    self.outbound.drain(..len);
                    self.sent = now;
                }
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(ConnectionError::Broken(error)),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Says goodbye, if the socket takes it: so the server need not find out by waiting.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.phase == Phase::LoggedIn && self.outbound.is_empty() {
            let mut goodbye = Vec::new();
            if Packet::LogoutRequest.write(&mut goodbye).is_ok() {
                let _ = self.stream.write(&goodbye);
            }
        }
    }
}

/// A socket that connects meanwhile.
fn begin_to_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    // Requests are short and must not wait for an acknowledgement.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
