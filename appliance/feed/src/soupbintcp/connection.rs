//! One TCP connection to a server: made, logged in, received from, kept alive. It is polled and never blocks.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fanblade_net::dial::{Dial, DialError};
use nix::poll::PollFlags;

use super::{Inbound, LoginAccepted, LoginRequest, Packet, PacketError, PacketFault, PayloadTooLong, Rejection};

/// A client's connection. Whoever holds it calls [`Connection::receive`] until it has nothing more, then
/// [`Connection::work`], and begins anew if that brought something.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
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

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name in logs.
    pub name: String,
    /// The addresses of that name, which all have their turn.
    pub addresses: Vec<SocketAddr>,
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Host {
        Host { name: address.to_string(), addresses: vec![address] }
    }
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
    /// The server cannot be reached at any of its addresses.
    #[error("cannot connect: {0}")]
    Connect(#[from] DialError),
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

#[derive(Debug)]
enum Socket {
    Connecting(Dial),
    Connected(TcpStream),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    LoggingIn,
    LoggedIn,
}

impl Connection {
    /// Begins to connect to any of these addresses, in order to log in. The attempt with number `turn` begins with
    /// another address than the one before it.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn open(
        addresses: &[SocketAddr],
        turn: usize,
        login: &LoginRequest,
        timing: Timing,
        now: Instant,
    ) -> Result<Self, ConnectionError> {
        let socket = Socket::Connecting(Dial::new(addresses, turn, timing.connect_max, now)?);
        let mut outbound = Vec::new();
        Packet::LoginRequest(*login).write(&mut outbound)?;
        let (phase, inbound) = (Phase::Connecting, Inbound::new());
        Ok(Self { socket, phase, timing, inbound, outbound, sent: now, heard: now, is_heard: false })
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
        if let Socket::Connecting(dial) = &mut self.socket {
            let Some(stream) = dial.poll(now)? else { return Ok(0) };
            self.socket = Socket::Connected(stream);
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
        let Socket::Connected(stream) = &mut self.socket else { return Ok(0) };
        match stream.read(self.inbound.space()) {
            Ok(0) => Err(ConnectionError::Closed { is_within_packet: self.inbound.is_within_packet() }),
            Ok(len) => {
                self.inbound.filled(len);
                Ok(len)
            }
            // This comes after the read, since the process may have slept while packets came.
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
        let silent_until = self.heard + self.timing.silence_max;
        match (&self.socket, self.phase) {
            (Socket::Connecting(dial), _) => dial.due(),
            (_, Phase::LoggedIn) => (self.sent + self.timing.heartbeat).min(silent_until),
            _ => silent_until,
        }
    }

    /// The server has been reached, and is being talked to.
    pub fn is_connected(&self) -> bool {
        self.phase != Phase::Connecting
    }

    /// What of its socket to wait for.
    pub fn interest(&self) -> PollFlags {
        match self.phase {
            Phase::LoggingIn | Phase::LoggedIn if !self.outbound.is_empty() => PollFlags::POLLIN | PollFlags::POLLOUT,
            _ => PollFlags::POLLIN,
        }
    }

    fn flush(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let Socket::Connected(stream) = &mut self.socket else { return Ok(()) };
        while !self.outbound.is_empty() {
            match stream.write(&self.outbound) {
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
        match &self.socket {
            Socket::Connecting(dial) => dial.as_fd(),
            Socket::Connected(stream) => stream.as_fd(),
        }
    }
}

/// Says goodbye, if the socket takes it: so the server need not find out by waiting.
impl Drop for Connection {
    fn drop(&mut self) {
        if let Socket::Connected(stream) = &mut self.socket
            && self.phase == Phase::LoggedIn
            && self.outbound.is_empty()
        {
            let mut goodbye = Vec::new();
            if Packet::LogoutRequest.write(&mut goodbye).is_ok() {
                let _ = stream.write(&goodbye);
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
