//! A session's socket leaves its engine, and comes back: over both engines.

#[macro_use]
mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use fanblade_net::SessionId;
use support::*;

over_both_engines!(
    gives_a_socket_away_and_takes_it_back,
    what_came_before_a_socket_left_is_reported_first,
    a_peer_that_ends_is_not_given_away,
    a_session_without_a_socket_can_be_closed,
    gives_500_sockets_away_while_their_peers_talk,
);

fn gives_a_socket_away_and_takes_it_back(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, mut client) = server.pair();
    let socket = server.detach(session);
    assert_eq!(server.engine.sessions(), 1, "the id stays taken");
    // Nothing is sent meanwhile, and nothing received by the engine.
    assert_eq!(server.send(session, b"lost"), None);
    server.engine.want_writable(session);
    server.engine.pause_reading(session);
    server.engine.shutdown_write(session);
    server.engine.detach(session);
    client.write_all(b"to whom").unwrap();
    assert_eq!(server.poll_for(Duration::from_millis(50)), []);
    // It is an ordinary socket, and the only descriptor of the connection.
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    assert_eq!(read_exactly(&mut stream, 7), b"to whom");
    stream.write_all(b"to you").unwrap();
    assert_eq!(read_exactly(&mut client, 6), b"to you");
    stream.set_nonblocking(true).unwrap();
    server.engine.attach(session, stream.into()).unwrap();
    client.write_all(b"again").unwrap();
    server.poll_until("the bytes", |server, got| {
        assert_eq!(got, Got::Received(session, b"again".to_vec()));
        assert_eq!(server.send(session, b"hello"), None);
        true
    });
    assert_eq!(read_exactly(&mut client, 5), b"hello");
    server.engine.want_writable(session);
    server.poll_until("room", |_, got| got == Got::Writable(session));
    drop(client);
    server.poll_until("the end", |_, got| got == Got::Closed(session, None));
    server.engine.close(session);
    // The id is free: it is given to the next connection, of which all goes well.
    let (next, mut client) = server.pair();
    assert_eq!(server.send(next, b"next"), None);
    assert_eq!(read_exactly(&mut client, 4), b"next");
}

fn what_came_before_a_socket_left_is_reported_first(make: Make) {
    let mut server = Server::new(make, 4);
    for round in 0..50_u8 {
        let (session, mut client) = server.pair();
        client.write_all(&[round; 100]).unwrap();
        server.engine.detach(session);
        let (mut received, mut socket) = (Vec::new(), None);
        server.poll_until("the socket", |_, got| match got {
            Got::Received(it, bytes) if it == session => {
                assert!(socket.is_none(), "bytes after the socket");
                received.extend(bytes);
                false
            }
            Got::Detached(it, Ok(fd)) if it == session => {
                socket = Some(own_fd(fd));
                true
            }
            other => panic!("{other:?}"),
        });
        // What the engine had not received yet is in the socket.
        let mut stream = TcpStream::from(socket.unwrap());
        stream.set_nonblocking(false).unwrap();
        received.extend(read_exactly(&mut stream, 100 - received.len()));
        assert_eq!(received, [round; 100]);
        server.engine.close(session);
        assert_eq!(server.engine.sessions(), 0);
    }
}

fn a_peer_that_ends_is_not_given_away(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, client) = server.pair();
    drop(client);
    server.poll_until("the end", |_, got| got == Got::Closed(session, None));
    server.engine.detach(session);
    server.engine.close(session);
    assert_eq!(server.poll_for(Duration::from_millis(20)), []);
    assert_eq!(server.engine.sessions(), 0);
}

fn a_session_without_a_socket_can_be_closed(make: Make) {
    let mut server = Server::new(make, 2);
    // Closed with its socket away, while the socket leaves, and before its leaving is reported.
    for polls in [2, 1, 0] {
        let (session, mut client) = server.pair();
        server.engine.detach(session);
        let mut socket = None;
        for _ in 0..polls {
            for got in server.poll_for(Duration::from_millis(10)) {
                let Got::Detached(_, Ok(fd)) = got else { panic!("{got:?}") };
                socket = Some(own_fd(fd));
            }
        }
        server.engine.close(session);
        let attached = server.engine.attach(session, socket.unwrap_or_else(some_socket));
        assert_eq!(attached.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(server.poll_for(Duration::from_millis(20)), []);
        assert_eq!(server.engine.sessions(), 0);
        // Nobody has the connection any more.
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "{polls}");
    }
    let (session, client) = server.pair();
    let error = server.engine.attach(session, some_socket()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "it has a socket");
    drop(client);
}

fn gives_500_sockets_away_while_their_peers_talk(make: Make) {
    const CLIENTS: usize = 500;
    let mut server = Server::new(make, CLIENTS);
    let mut clients: HashMap<SessionId, TcpStream> = (0..CLIENTS).map(|_| server.pair()).collect();
    let mut noise = Noise::new(7);
    let mut sent: HashMap<SessionId, u8> = HashMap::new();
    let mut got_bytes: HashMap<SessionId, Vec<u8>> = HashMap::new();
    for _ in 0..20 {
        let all: Vec<SessionId> = clients.keys().copied().collect();
        for session in all.iter().filter(|_| noise.below(2) == 0) {
            server.engine.detach(*session);
        }
        for (session, client) in &mut clients {
            let next = sent.entry(*session).or_default();
            client.write_all(&[*next]).unwrap();
            *next += 1;
        }
        // Each socket comes back at once.
        for got in server.poll_for(Duration::from_millis(10)) {
            match got {
                Got::Received(session, bytes) => got_bytes.entry(session).or_default().extend(bytes),
                Got::Detached(session, Ok(fd)) => server.engine.attach(session, own_fd(fd)).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
    let wanted: Vec<u8> = (0..20).collect();
    let is_done = |got_bytes: &HashMap<SessionId, Vec<u8>>| {
        got_bytes.len() == CLIENTS && got_bytes.values().all(|bytes| bytes.len() == wanted.len())
    };
    if !is_done(&got_bytes) {
        server.poll_until("all bytes", |server, got| {
            match got {
                Got::Received(session, bytes) => got_bytes.entry(session).or_default().extend(bytes),
                Got::Detached(session, Ok(fd)) => server.engine.attach(session, own_fd(fd)).unwrap(),
                other => panic!("{other:?}"),
            }
            is_done(&got_bytes)
        });
    }
    assert!(got_bytes.values().all(|bytes| *bytes == wanted), "in order, and none twice");
}

/// A socket that is no session's.
fn some_socket() -> OwnedFd {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()
}
