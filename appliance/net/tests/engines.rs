//! What an engine promises, over both of them: each test is written once and run twice.

#[macro_use]
mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fanblade_net::{ListenOptions, SessionId, listen};
use nix::sys::eventfd::EventFd;
use support::*;

over_both_engines!(
    accepts_and_echoes,
    serves_2000_at_once,
    sends_shared_slices_whole,
    tells_exactly_what_was_not_sent,
    a_wait_for_room_is_not_lost,
    reuses_ids_under_churn,
    reports_a_reset,
    a_half_closed_peer_can_still_be_sent_to,
    a_half_closed_peer_can_still_be_waited_for,
    shuts_its_own_half,
    pauses_and_resumes_accepting,
    whom_a_dead_predecessor_was_told_of_is_accepted,
    pauses_and_resumes_reading,
    keeps_to_its_capacity,
    the_waker_wakes_it,
    keeps_time,
    one_poll_takes_what_many_have_said,
    a_send_to_a_dead_peer_says_so,
    ids_that_are_not_open_are_ignored,
);

fn accepts_and_echoes(make: Make) {
    let mut server = Server::new(make, 16);
    let mut client = server.connect();
    let mut session = None;
    server.poll_until("the connection", |_, got| match got {
        Got::Accepted(it, peer) => {
            assert_eq!(peer, client.local_addr().unwrap());
            session = Some(it);
            true
        }
        other => panic!("{other:?}"),
    });
    let session = session.unwrap();
    assert!(session.index() < server.engine.capacity());
    client.write_all(b"marco").unwrap();
    server.poll_until("the bytes", |server, got| {
        assert_eq!(got, Got::Received(session, b"marco".to_vec()));
        assert_eq!(server.send(session, b"polo"), None);
        true
    });
    assert_eq!(read_exactly(&mut client, 4), b"polo");
    drop(client);
    server.poll_until("the end", |_, got| got == Got::Closed(session, None));
    server.engine.close(session);
    assert_eq!(server.poll_for(Duration::from_millis(20)), []);
    assert_eq!(server.engine.sessions(), 0);
}

fn serves_2000_at_once(make: Make) {
    const CLIENTS: usize = 2000;
    let mut server = Server::new(make, CLIENTS);
    let addr = server.addr;
    let clients = std::thread::spawn(move || {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(addr).unwrap()).collect();
        for round in 0..3u32 {
            for (at, client) in (0..).zip(&mut clients) {
                client.write_all(&(round * 10_000 + at).to_le_bytes()).unwrap();
            }
            for (at, client) in (0..).zip(&mut clients) {
                assert_eq!(read_exactly(client, 4), (round * 10_000 + at).to_le_bytes());
            }
        }
    });
    let (mut accepted, mut closed, mut echoed) = (0, 0, HashMap::<SessionId, usize>::new());
    server.poll_until("all clients", |server, got| {
        match got {
            Got::Accepted(..) => accepted += 1,
            Got::Received(session, bytes) => {
                *echoed.entry(session).or_default() += bytes.len();
                assert_eq!(server.send(session, &bytes), None);
            }
            Got::Closed(session, error) => {
                assert_eq!(error, None);
                server.engine.close(session);
                closed += 1;
            }
            other => panic!("{other:?}"),
        }
        closed == CLIENTS
    });
    clients.join().unwrap();
    assert_eq!((accepted, echoed.len()), (CLIENTS, CLIENTS));
    assert!(echoed.values().all(|&len| len == 12));
    assert_eq!(server.engine.counters().accepted, CLIENTS as u64);
}

fn sends_shared_slices_whole(make: Make) {
    const CLIENTS: usize = 8;
    let memory = Noise::new(1).bytes(1_500_000);
    // Neither adjoining nor in order, of very different lengths.
    let parts: Vec<&[u8]> = vec![
        &memory[1_000_000..1_400_000],
        &memory[3..4],
        &memory[500_000..900_000],
        &memory[10..138],
        &memory[200_000..490_000],
    ];
    let whole = parts.concat();
    assert!(whole.len() > 1 << 20);
    let mut server = Server::new(make, CLIENTS);
    let mut readers = Vec::new();
    let mut owed = HashMap::new();
    for _ in 0..CLIENTS {
        let (session, mut client) = server.pair();
        owed.insert(session, 0);
        let len = whole.len();
        readers.push(std::thread::spawn(move || (read_exactly(&mut client, len), client)));
    }
    let slices = slices_of(&parts);
    assert_eq!((slices.count(), slices.len_total()), (5, whole.len()));
    owed.keys().for_each(|&session| server.engine.send(session, &slices));
    let mut writable: Vec<_> = owed.keys().copied().collect();
    let mut total = 0;
    loop {
        let (mut taken, mut short) = (0, Vec::new());
        let stats = server
            .engine
            .flush(&mut |unsent| {
                assert_eq!(unsent.error, None);
                short.push(unsent);
            })
            .unwrap();
        // Whoever was sent to and is not mentioned has got all that was owed.
        let mentioned: Vec<_> = short.iter().map(|unsent| unsent.session).collect();
        for &session in &writable {
            if !mentioned.contains(&session) {
                taken += whole.len() - owed[&session];
                owed.remove(&session);
            }
        }
        for unsent in &short {
            *owed.get_mut(&unsent.session).unwrap() += unsent.sent;
            taken += unsent.sent;
            server.engine.want_writable(unsent.session);
        }
        assert_eq!((stats.bytes, stats.unsent), (taken as u64, short.len()));
        total += taken;
        if owed.is_empty() {
            break;
        }
        writable.clear();
        server.poll_until("room", |_, got| {
            let Got::Writable(session) = got else { panic!("{got:?}") };
            writable.push(session);
            true
        });
        for &session in &writable {
            server.engine.send(session, &slices_of(&[&whole[owed[&session]..]]));
        }
    }
    assert_eq!(total, CLIENTS * whole.len());
    for reader in readers {
        assert!(reader.join().unwrap().0 == whole, "the stream is not what was sent");
    }
}

fn tells_exactly_what_was_not_sent(make: Make) {
    let options = ListenOptions { sndbuf_bytes: Some(64 * 1024), ..ListenOptions::default() };
    let mut server = Server::with(make, 4, &options, None);
    let (session, mut client) = server.pair();
    let stream = Noise::new(2).bytes(8 << 20);
    // The peer does not read: some are taken, then a part of one, then nothing.
    let mut sent = 0;
    let mut chunks = 0;
    let short = loop {
        let chunk = &stream[sent..sent + 100_000];
        let Some(unsent) = server.send(session, chunk) else {
            sent += chunk.len();
            chunks += 1;
            assert!(chunks < 70, "the kernel takes it all");
            continue;
        };
        assert_eq!((unsent.session, unsent.error), (session, None));
        assert!(unsent.sent < chunk.len());
        break unsent.sent;
    };
    sent += short;
    // A busy kernel may still be moving bytes to the peer's socket, which makes room.
    let end = Instant::now() + PATIENCE;
    loop {
        while let more @ 1.. = server.send(session, &stream[sent..sent + 1]).map_or(1, |unsent| unsent.sent) {
            sent += more;
        }
        server.engine.want_writable(session);
        let got = server.poll_for(Duration::from_millis(50));
        if got.is_empty() {
            break;
        }
        assert_eq!(got, [Got::Writable(session)]);
        let more = server.send(session, &stream[sent..sent + 1]).map_or(1, |unsent| unsent.sent);
        assert!(more > 0, "writable without room");
        sent += more;
        assert!(Instant::now() < end, "the kernel takes it all");
    }
    let len = stream.len();
    let reader = std::thread::spawn(move || read_exactly(&mut client, len));
    while sent < stream.len() {
        server.poll_until("room", |_, got| got == Got::Writable(session));
        match server.send(session, &stream[sent..]) {
            Some(unsent) => {
                assert_eq!(unsent.error, None);
                sent += unsent.sent;
                server.engine.want_writable(session);
            }
            None => sent = stream.len(),
        }
    }
    assert!(reader.join().unwrap() == stream, "the stream is not what was sent");
}

/// The room comes after the send that found none and before the wish to be told: polls in between see (and may swallow)
/// it.
fn a_wait_for_room_is_not_lost(make: Make) {
    let options = ListenOptions { sndbuf_bytes: Some(32 * 1024), ..ListenOptions::default() };
    let mut server = Server::with(make, 4, &options, None);
    let (session, mut client) = server.pair();
    let chunk = vec![7u8; 1 << 20];
    let mut sent = 0;
    for round in 0..10 {
        let unsent = loop {
            match server.send(session, &chunk) {
                None => sent += chunk.len(),
                Some(unsent) => break unsent,
            }
        };
        sent += unsent.sent;
        drop(read_exactly(&mut client, sent));
        sent = 0;
        if round % 2 == 0 {
            assert_eq!(server.poll_for(Duration::from_millis(20)), [], "nobody has asked");
        }
        server.engine.want_writable(session);
        let start = Instant::now();
        server.poll_until("room", |_, got| got == Got::Writable(session));
        assert!(start.elapsed() < PATIENCE / 10);
        assert_eq!(server.poll_for(Duration::from_millis(5)), [], "one shot");
    }
}

/// A client's life in the churn.
struct Life {
    stream: TcpStream,
    written: bool,
}

/// The kernel tells one of those who wait at a listener, and that may be an engine that nobody polls any more.
fn whom_a_dead_predecessor_was_told_of_is_accepted(make: Make) {
    let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    let mut predecessor = Server::over(make, listener.try_clone().unwrap(), 16, None);
    assert_eq!(predecessor.poll(Duration::ZERO), []);
    let mut server = Server::over(make, listener, 16, None);
    assert_eq!(server.poll(Duration::ZERO), []);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.connect());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(predecessor);
    for _ in &clients {
        server.accept();
    }
    assert_eq!(server.engine.sessions(), 3);
    // epoll asks the listener itself, and needs no second look.
    assert_eq!(server.engine.counters().accepts_renewed > 0, server.engine.name() == "uring");
}

fn reuses_ids_under_churn(make: Make) {
    const CONNECTIONS: u64 = 20_000;
    let mut server = Server::new(make, 300);
    let addr = server.addr;
    // More clients than slots, so that some wait in the backlog; they come, speak or not, and go in all ways.
    let clients = std::thread::spawn(move || {
        let mut noise = Noise::new(3);
        let mut lives: Vec<Life> = Vec::new();
        for _ in 0..CONNECTIONS {
            lives.push(Life { stream: TcpStream::connect(addr).unwrap(), written: false });
            while lives.len() as u64 > noise.below(400) {
                let at = usize::try_from(noise.below(lives.len() as u64)).unwrap();
                if !lives[at].written && noise.below(2) == 0 {
                    lives[at].written = true;
                    let _ = lives[at].stream.write_all(b"hello");
                    continue;
                }
                let life = lives.swap_remove(at);
                match noise.below(3) {
                    0 => reset(life.stream),
                    1 => drop(life.stream),
                    _ => {
                        let _ = life.stream.shutdown(Shutdown::Write);
                    }
                }
            }
        }
    });
    let mut noise = Noise::new(4);
    let mut open: HashMap<SessionId, bool> = HashMap::new();
    let mut accepted = 0u64;
    let end = Instant::now() + 2 * PATIENCE;
    while accepted < CONNECTIONS || !open.is_empty() {
        assert!(Instant::now() < end, "accepted {accepted}, open {}", open.len());
        for got in server.poll(Duration::from_millis(10)) {
            match got {
                Got::Accepted(session, _) => {
                    accepted += 1;
                    assert!(session.index() < 300);
                    assert_eq!(open.insert(session, false), None, "an id that is in use");
                }
                Got::Received(session, bytes) => {
                    assert_eq!(open.get(&session), Some(&false), "bytes for an id that is not open");
                    assert_eq!(bytes, b"hello");
                }
                Got::Closed(session, _) => {
                    assert_eq!(open.insert(session, true), Some(false), "the end of an id that is not open");
                }
                Got::Writable(session) => assert!(open.contains_key(&session)),
                Got::Detached(..) | Got::Woken => panic!("{got:?}"),
            }
        }
        // Close the ended, and now and then others, with requests of all sorts under way.
        let ids: Vec<_> = open.iter().map(|(&session, &ended)| (session, ended)).collect();
        for (session, ended) in ids {
            match noise.below(64) {
                0 => server.engine.want_writable(session),
                1 => server.engine.pause_reading(session),
                2 => server.engine.resume_reading(session),
                3 => server.engine.shutdown_write(session),
                4 => drop(server.send(session, b"x")),
                chance if ended || chance < 7 => {
                    server.engine.close(session);
                    open.remove(&session);
                }
                _ => {}
            }
        }
        assert!(server.engine.sessions() >= open.len());
    }
    clients.join().unwrap();
    assert_eq!(server.poll_for(Duration::from_millis(50)), []);
    assert_eq!(server.engine.sessions(), 0);
    assert_eq!(server.engine.counters().accepted, CONNECTIONS);
}

fn reports_a_reset(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, client) = server.pair();
    reset(client);
    server.poll_until("the reset", |_, got| {
        assert_eq!(got, Got::Closed(session, Some(nix::libc::ECONNRESET)));
        true
    });
    server.engine.close(session);
}

fn a_half_closed_peer_can_still_be_sent_to(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, mut client) = server.pair();
    client.write_all(b"last words").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    server.poll_until("the end", |_, it| {
        got.push(it);
        matches!(got.last(), Some(Got::Closed(..)))
    });
    assert_eq!(got, [Got::Received(session, b"last words".to_vec()), Got::Closed(session, None)]);
    assert_eq!(server.send(session, b"farewell"), None);
    server.engine.close(session);
    let mut rest = Vec::new();
    let reader = std::thread::spawn(move || {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_to_end(&mut rest).unwrap();
        rest
    });
    assert_eq!(server.poll_until_end(reader), b"farewell");
}

/// More than its socket takes, in several sends, after its own end.
fn a_half_closed_peer_can_still_be_waited_for(make: Make) {
    let options = ListenOptions { sndbuf_bytes: Some(32 * 1024), ..ListenOptions::default() };
    let mut server = Server::with(make, 4, &options, None);
    let (session, mut client) = server.pair();
    client.shutdown(Shutdown::Write).unwrap();
    server.poll_until("the end", |_, got| got == Got::Closed(session, None));
    let bytes = Noise::new(5).bytes(4 << 20);
    let len = bytes.len();
    let reader = std::thread::spawn(move || (read_exactly(&mut client, len), client));
    let mut sent = 0;
    while let Some(unsent) = server.send(session, &bytes[sent..]) {
        assert_eq!(unsent.error, None);
        sent += unsent.sent;
        server.engine.want_writable(session);
        server.poll_until("room", |_, got| got == Got::Writable(session));
    }
    server.engine.close(session);
    server.poll_for(Duration::from_millis(20));
    assert!(reader.join().unwrap().0 == bytes, "the stream is not what was sent");
}

fn shuts_its_own_half(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, mut client) = server.pair();
    assert_eq!(server.send(session, b"close frame"), None);
    server.engine.shutdown_write(session);
    let reader = std::thread::spawn(move || {
        assert_eq!(read_exactly(&mut client, 11), b"close frame");
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "no FIN");
        client
    });
    let mut client = server.poll_until_end(reader);
    client.write_all(b"close frame too").unwrap();
    drop(client);
    let mut got = Vec::new();
    server.poll_until("the end", |_, it| {
        got.push(it);
        matches!(got.last(), Some(Got::Closed(..)))
    });
    assert_eq!(got, [Got::Received(session, b"close frame too".to_vec()), Got::Closed(session, None)]);
    server.engine.close(session);
}

fn pauses_and_resumes_accepting(make: Make) {
    let mut server = Server::new(make, 16);
    let (_, _client) = server.pair();
    server.engine.pause_accepting();
    server.poll_for(Duration::from_millis(20));
    let waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    assert_eq!(server.poll_for(Duration::from_millis(100)), [], "accepted while paused");
    server.engine.resume_accepting();
    for _ in &waiting {
        server.accept();
    }
    assert_eq!(server.engine.sessions(), 6);
}

fn pauses_and_resumes_reading(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, mut client) = server.pair();
    server.engine.pause_reading(session);
    server.poll_for(Duration::from_millis(20));
    client.write_all(b"patience").unwrap();
    assert_eq!(server.poll_for(Duration::from_millis(100)), [], "received while paused");
    server.engine.resume_reading(session);
    server.poll_until("the bytes", |_, got| got == Got::Received(session, b"patience".to_vec()));
    // Back and forth within a pass.
    for _ in 0..10 {
        server.engine.pause_reading(session);
        server.engine.resume_reading(session);
    }
    client.write_all(b"again").unwrap();
    server.poll_until("the bytes", |_, got| got == Got::Received(session, b"again".to_vec()));
    client.write_all(b"!").unwrap();
    server.poll_until("the bytes", |_, got| got == Got::Received(session, b"!".to_vec()));
}

fn keeps_to_its_capacity(make: Make) {
    let mut server = Server::new(make, 10);
    let _clients: Vec<_> = (0..15).map(|_| server.connect()).collect();
    let mut sessions: Vec<_> = (0..10).map(|_| server.accept()).collect();
    assert_eq!(server.poll_for(Duration::from_millis(100)), [], "more than its capacity");
    assert_eq!(server.engine.sessions(), 10);
    for _ in 0..5 {
        server.engine.close(sessions.swap_remove(3));
        let session = server.accept();
        assert!(session.index() < 10 && !sessions.contains(&session));
        sessions.push(session);
    }
    assert_eq!(server.poll_for(Duration::from_millis(50)), []);
}

fn the_waker_wakes_it(make: Make) {
    let waker = EventFd::new().unwrap();
    let mut server = Server::with(make, 4, &ListenOptions::default(), Some(waker.as_fd()));
    // Whether anybody reads the eventfd or not.
    for read in [false, true, false, false, true, true] {
        let writer = waker.as_fd().try_clone_to_owned().unwrap();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            nix::unistd::write(&writer, &1u64.to_ne_bytes()).unwrap();
            Instant::now()
        });
        let mut got = Vec::new();
        while got.is_empty() {
            got = server.poll(PATIENCE);
        }
        assert_eq!(got, [Got::Woken]);
        assert!(thread.join().unwrap().elapsed() < PATIENCE / 10);
        if read {
            waker.read().unwrap();
        }
        assert_eq!(server.poll_for(Duration::from_millis(10)), [], "woken twice");
    }
}

fn keeps_time(make: Make) {
    let mut server = Server::new(make, 4);
    server.poll_for(Duration::from_millis(10));
    let start = Instant::now();
    assert_eq!(server.poll(Duration::ZERO), []);
    assert!(start.elapsed() < PATIENCE / 10);
    for ms in [1, 20, 50] {
        let start = Instant::now();
        assert_eq!(server.poll(Duration::from_millis(ms)), []);
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(ms), "{elapsed:?} instead of {ms} ms");
        assert!(elapsed < Duration::from_millis(ms) + PATIENCE / 10, "{elapsed:?} instead of {ms} ms");
    }
}

/// A worker that is busy with sending polls seldom; pongs must not wait for many polls, or they come too late.
fn one_poll_takes_what_many_have_said(make: Make) {
    const CLIENTS: usize = 2_000;
    let mut server = Server::new(make, CLIENTS);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.pair().1).collect();
    // Again, as what has been received must give back what it took.
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.write_all(b"pong").unwrap());
        until_delivered(&clients);
        let heard = server.poll(PATIENCE).iter().filter(|got| matches!(got, Got::Received(..))).count();
        assert_eq!(heard, CLIENTS);
    }
}

fn a_send_to_a_dead_peer_says_so(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, client) = server.pair();
    reset(client);
    server.poll_until("the reset", |_, got| matches!(got, Got::Closed(..)));
    let unsent = server.send(session, b"anyone there?").unwrap();
    assert_eq!((unsent.session, unsent.sent), (session, 0));
    assert!(matches!(unsent.error, Some(nix::libc::EPIPE | nix::libc::ECONNRESET)), "{unsent:?}");
}

fn ids_that_are_not_open_are_ignored(make: Make) {
    let mut server = Server::new(make, 4);
    let (session, _client) = server.pair();
    server.engine.close(session);
    for session in [session, SessionId(3), SessionId(4), SessionId(u32::MAX)] {
        assert_eq!(server.send(session, b"nobody"), None);
        server.engine.want_writable(session);
        server.engine.pause_reading(session);
        server.engine.resume_reading(session);
        server.engine.shutdown_write(session);
        server.engine.close(session);
    }
    assert_eq!(server.poll_for(Duration::from_millis(20)), []);
    // And it still works.
    server.pair();
}
