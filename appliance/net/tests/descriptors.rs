//! Engines and the process's limit of descriptors: one is stopped by it (and says so, and recovers), the other is not.
//! A binary of its own, because the limit is the whole process's.

mod support;

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanblade_net::rlimit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use support::*;

/// One test at a time.
static LIMIT: Mutex<()> = Mutex::new(());

fn set_limit(soft: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

#[test]
fn epoll_parks_without_descriptors_and_resumes() {
    let _alone = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    rlimit::raise_descriptors().unwrap();
    let mut server = Server::new(fanblade_net::epoll, 100);
    let _clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    // Count without the directory's own descriptor.
    set_limit(open_descriptors() - 1 + 5);
    let mut sessions: Vec<_> = (0..5).map(|_| server.accept()).collect();
    // Parked, not spinning: the polls wait.
    let start = Instant::now();
    let mut polls = 0;
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(server.poll(Duration::from_millis(500)), []);
        polls += 1;
    }
    assert!(polls < 20, "{polls} polls in half a second: it spins");
    let parked = server.engine.counters().accept_parked;
    assert!((1..20).contains(&parked), "parked {parked} times");
    // A descriptor is freed: at once.
    server.engine.close(sessions.pop().unwrap());
    sessions.push(server.accept());
    // Or by somebody else: soon.
    rlimit::raise_descriptors().unwrap();
    for _ in 0..14 {
        server.accept();
    }
}

#[test]
fn uring_serves_more_sessions_than_descriptors() {
    const CLIENTS: usize = 1000;
    let _alone = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    set_limit(100);
    let mut server = Server::new(fanblade_net::uring, CLIENTS);
    // The clients' descriptors are not the point here. The engine's tables are limited to 64 entries from now on, so
    // that it takes 16 rings.
    rlimit::raise_descriptors().unwrap();
    let before = open_descriptors();
    let mut clients = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        let (session, client) = server.pair();
        assert!(session.index() < CLIENTS);
        sessions.push(session);
        clients.push(client);
    }
    assert_eq!(server.engine.counters().rings, CLIENTS.div_ceil(64) as u64);
    // One descriptor per ring, and the eventfd that they share; the clients' are theirs.
    assert!(open_descriptors() - before <= CLIENTS as u64 + 17);
    // Whichever ring has something to say, it ends a long wait.
    for at in (0..CLIENTS).step_by(37) {
        assert_eq!(server.poll_for(Duration::from_millis(2)), []);
        let mut client = clients[at].try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(3));
            client.write_all(b"up").unwrap();
        });
        let start = Instant::now();
        let mut got = Vec::new();
        while got.is_empty() {
            got = server.poll(PATIENCE);
        }
        assert_eq!(got, [Got::Received(sessions[at], b"up".to_vec())]);
        assert!(start.elapsed() < PATIENCE / 10);
        writer.join().unwrap();
    }
    // One flush over all rings.
    let message = *b"to everybody";
    let slices = slices_of(&[&message[..5], &message[6..]]);
    sessions.iter().for_each(|&session| server.engine.send(session, &slices));
    let stats = server.engine.flush(&mut |unsent| panic!("{unsent:?}")).unwrap();
    assert_eq!((stats.sends, stats.bytes), (CLIENTS, 11 * CLIENTS as u64));
    for client in &mut clients {
        assert_eq!(read_exactly(client, 11), b"to evrybody");
    }
    // Slots that become free in any ring are used again.
    sessions.iter().skip(500).take(300).for_each(|&session| server.engine.close(session));
    clients.drain(500..800);
    for _ in 0..300 {
        clients.push(server.pair().1);
    }
    assert_eq!(server.engine.sessions(), CLIENTS);
}
