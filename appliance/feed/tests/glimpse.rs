//! Snapshots over TCP, from a server that is asked properly and one that does all kinds of things.

#[path = "common/soupbintcp.rs"]
mod soupbintcp;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fanblade_feed::glimpse::{Progress, Snapshot, SnapshotConfig, SnapshotError, end_of_snapshot};
use fanblade_feed::soupbintcp::{ConnectionError, LoginRequest, Packet, Rejection, Timing, padded};
use nix::poll::{PollFd, PollTimeout, poll};
use soupbintcp::{Client, PATIENCE, Server, sequenced};

const LOGIN: LoginRequest = LoginRequest {
    username: *b"late01",
    password: *b"secret    ",
    session: [b' '; 10],
    sequence: 1,
    heartbeat_timeout_ms: None,
};
const SESSION: [u8; 10] = *b"GLIMPSE01 ";

fn config(server: &Server) -> SnapshotConfig {
    let timing = Timing { connect_max: PATIENCE, heartbeat: Duration::from_secs(1), silence_max: PATIENCE };
    SnapshotConfig { server: server.address.into(), login: LOGIN, timing, duration_max: PATIENCE }
}

/// Polls it to its end, sleeping as it says: messages, and how it ended.
fn fetch(config: &SnapshotConfig) -> (Vec<Vec<u8>>, Result<Progress, SnapshotError>) {
    let mut messages = Vec::new();
    let mut snapshot = match Snapshot::start(config, 0, Instant::now()) {
        Ok(snapshot) => snapshot,
        Err(error) => return (messages, Err(error)),
    };
    loop {
        let progress = snapshot.poll(Instant::now(), &mut |message, _| messages.push(message.to_vec()));
        match progress {
            Ok(Progress::Busy) => {}
            Ok(Progress::Pending) => {
                let timeout = snapshot.due().saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                let timeout = PollTimeout::try_from(timeout).unwrap();
                poll(&mut [PollFd::new(snapshot.fd(), snapshot.interest())], timeout).unwrap();
            }
            end => {
                assert_eq!(snapshot.messages(), messages.len() as u64);
                if let Ok(complete) = &end {
                    let again = snapshot.poll(Instant::now(), &mut |_, _| panic!("nothing follows")).unwrap();
                    assert_eq!(again, *complete);
                }
                return (messages, end);
            }
        }
    }
}

fn messages(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("A{n}").into_bytes()).collect()
}

fn snapshot_bytes(count: u32, end: &[u8]) -> Vec<u8> {
    let messages = messages(count);
    sequenced(messages.iter().map(Vec::as_slice).chain([end]))
}

#[test]
fn a_snapshot_is_passed_on_whole() {
    // More than one poll takes; then by single bytes; then with the number padded on the other side.
    for (count, piece, end) in [
        (2_000, usize::MAX, end_of_snapshot(4_711)),
        (20, 1, end_of_snapshot(4_711)),
        (0, 7, *b"G4711                "),
    ] {
        let server = Server::start(move |_, mut client: Client| {
            assert_eq!(client.login(), LOGIN);
            client.send(&Packet::Debug(b"welcome"));
            client.accept(&SESSION, 1);
            client.send(&Packet::ServerHeartbeat);
            let bytes = snapshot_bytes(count, &end);
            bytes.chunks(piece.min(bytes.len())).for_each(|piece| client.send_bytes(piece));
            client.until_gone();
        });
        let (got, end) = fetch(&config(&server));
        assert_eq!(end.unwrap(), Progress::Complete { session: SESSION, next_seq: 4_711 });
        assert_eq!(got, messages(count));
    }
}

#[test]
fn what_goes_wrong_has_its_error() {
    type Script = fn(&mut Client);
    let cases: [(Script, &str); 7] = [
        (|client| client.send(&Packet::LoginRejected(Rejection::NotAuthorized)), "login refused: not authorised"),
        (
            |client| {
                client.accept(&SESSION, 1);
                client.send_bytes(&snapshot_bytes(3, b"A3"));
                client.send(&Packet::EndOfSession);
            },
            "the server ended its session after 4 messages, before the end of the snapshot",
        ),
        (
            |client| {
                client.accept(&SESSION, 1);
                client.send_bytes(&snapshot_bytes(0, b"G                  4x"));
            },
            "the message that ends the snapshot has no sequence number (message at byte 36 of the connection)",
        ),
        (
            |client| {
                client.accept(&SESSION, 1);
                let bytes = snapshot_bytes(3, b"A3");
                client.send_bytes(&bytes[..bytes.len() - 1]);
                let _ = client.stream.shutdown(std::net::Shutdown::Write);
            },
            "the server closed the connection within a packet",
        ),
        (
            |client| client.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "SoupBinTCP packet of unknown type 'T', at byte 2",
        ),
        (|client| client.send(&Packet::Sequenced(b"A0")), "SoupBinTCP packet 'S' out of place, at byte 2"),
        (
            |client| {
                client.accept(&SESSION, 1);
                client.send(&Packet::ClientHeartbeat);
            },
            "SoupBinTCP packet 'R' out of place, at byte 35",
        ),
    ];
    for (script, expected) in cases {
        let server = Server::start(move |_, mut client: Client| {
            client.login();
            script(&mut client);
            client.until_gone();
        });
        assert_eq!(fetch(&config(&server)).1.unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_snapshot_that_does_not_end_is_given_up() {
    // Heartbeats show that the server lives, and bring nothing.
    let server = Server::start(|_, mut client: Client| {
        client.login();
        client.accept(&SESSION, 1);
        client.send_bytes(&snapshot_bytes(3, b"A3"));
        while client.receive(|_| ()).is_some() {
            client.send(&Packet::ServerHeartbeat);
        }
    });
    let mut config = config(&server);
    config.timing.heartbeat = Duration::from_millis(20);
    config.duration_max = Duration::from_secs(3);
    let (messages, end) = fetch(&config);
    assert_eq!(
        (messages.len(), end.unwrap_err().to_string()),
        (4, "the snapshot is not complete after 3000 ms: 4 messages have come".to_owned())
    );
    // One that says nothing at all is noticed before.
    config.duration_max = PATIENCE;
    config.timing = Timing { silence_max: Duration::from_millis(100), heartbeat: PATIENCE, ..config.timing };
    let end = fetch(&config).1.unwrap_err();
    assert!(matches!(end, SnapshotError::Connection(ConnectionError::Silent { ms: 100.. })), "{end}");
}

#[test]
fn a_server_that_is_not_there() {
    let mut config = {
        let server = Server::start(|_, _| ());
        config(&server)
    };
    config.login.username = padded("nobody").unwrap();
    let end = fetch(&config).1.unwrap_err();
    assert!(matches!(end, SnapshotError::Connection(ConnectionError::Connect(_))), "{end}");
    // One that takes connections and never looks at them.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    config.server = listener.local_addr().unwrap().into();
    config.timing.silence_max = Duration::from_millis(100);
    let end = fetch(&config).1.unwrap_err();
    assert!(matches!(end, SnapshotError::Connection(ConnectionError::Silent { .. })), "{end}");
}

#[test]
fn an_address_that_swallows_requests_is_followed_by_the_next() {
    let server = Server::start(|_, mut client| {
        assert_eq!(client.login(), LOGIN);
        client.accept(&SESSION, 1);
        client.send_bytes(&snapshot_bytes(3, &end_of_snapshot(7)));
        client.until_gone();
    });
    let hole = soupbintcp::BlackHole::new();
    let mut config = config(&server);
    config.server.addresses.insert(0, hole.address);
    let (got, end) = fetch(&config);
    assert_eq!(end.unwrap(), Progress::Complete { session: SESSION, next_seq: 7 });
    assert_eq!(got, messages(3));
}
