//! A SoupBinTCP client that reads one packet at a time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use fanblade_feed::soupbintcp::{Inbound, LoginRequest, Packet, padded};
use fanblade_testkit::PATIENCE;

/// A connection.
pub struct SoupClient {
    stream: TcpStream,
    inbound: Inbound,
}

/// What the client received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The answer to the login: session, next number.
    Accepted(String, u64),
    Rejected(u8),
    Message(Vec<u8>),
    Heartbeat,
    EndOfSession,
    Closed,
}

impl SoupClient {
    pub fn connect(server: SocketAddr) -> SoupClient {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        SoupClient { stream, inbound: Inbound::new() }
    }

    /// Connects and logs in; returns the server's answer, too.
    pub fn login(server: SocketAddr, name: [&str; 2], session: &str, sequence: u64) -> (SoupClient, Received) {
        let mut client = SoupClient::connect(server);
        client.send(&Packet::LoginRequest(LoginRequest {
            username: padded(name[0]).unwrap(),
            password: padded(name[1]).unwrap(),
            session: padded(session).unwrap(),
            sequence,
            heartbeat_timeout_ms: None,
        }));
        let answer = client.receive();
        (client, answer)
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.write(&mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads the next packet.
    pub fn receive(&mut self) -> Received {
        loop {
            match self.inbound.next_packet().unwrap() {
                Some(Packet::LoginAccepted(accepted)) => {
                    let session = String::from_utf8_lossy(&accepted.session).trim_end().to_owned();
                    return Received::Accepted(session, accepted.sequence);
                }
                Some(Packet::LoginRejected(rejection)) => return Received::Rejected(rejection.into()),
                Some(Packet::Sequenced(message)) => return Received::Message(message.to_vec()),
                Some(Packet::ServerHeartbeat) => return Received::Heartbeat,
                Some(Packet::EndOfSession) => return Received::EndOfSession,
                Some(other) => panic!("{other:?} from a server"),
                None => {}
            }
            match self.stream.read(self.inbound.space()) {
                Ok(0) => return Received::Closed,
                Ok(len) => self.inbound.filled(len),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Received::Closed,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reads messages, without heartbeats, until something else comes; returns that, too.
    pub fn messages(&mut self) -> (Vec<Vec<u8>>, Received) {
        let mut messages = Vec::new();
        loop {
            match self.receive() {
                Received::Message(message) => messages.push(message),
                Received::Heartbeat => {}
                other => return (messages, other),
            }
        }
    }

    /// Reads the messages of a GLIMPSE snapshot, and the number at which the session goes on.
    pub fn snapshot(&mut self) -> (Vec<Vec<u8>>, u64) {
        let mut messages = Vec::new();
        loop {
            match self.receive() {
                Received::Message(message) => match fanblade_feed::glimpse::parse_end_of_snapshot(&message) {
                    Some(next) => return (messages, next),
                    None => messages.push(message),
                },
                Received::Heartbeat => {}
                other => panic!("{other:?} within a snapshot"),
            }
        }
    }
}
