//! User memory per session: what the process has grown by, held against what the engine predicts. A binary of its own,
//! so that nothing else grows.

mod support;

use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fanblade_net::{Event, rlimit};
use support::*;

/// Client and server share a process's 20,000 descriptors here.
const CLIENTS: usize = 5000;

static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn epoll_holds_what_it_predicts() {
    measure(fanblade_net::epoll);
}

#[test]
fn uring_holds_what_it_predicts() {
    measure(fanblade_net::uring);
}

fn measure(make: Make) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    rlimit::raise_descriptors().unwrap();
    let mut clients: Vec<TcpStream> = Vec::with_capacity(CLIENTS);
    // Warm up what is not the engine's: the allocator, the test's own code.
    drop(Server::new(make, 1).pair());
    let before = resident_bytes();
    let mut server = Server::new(make, CLIENTS);
    let mut accepted = 0;
    while accepted < CLIENTS {
        if clients.len() < CLIENTS {
            clients.push(server.connect());
        }
        let mut sink = |event: Event<'_>| accepted += usize::from(matches!(event, Event::Accepted { .. }));
        server.engine.poll(Some(Duration::ZERO), &mut sink).unwrap();
    }
    let grown = resident_bytes().saturating_sub(before);
    let (name, predicted) = (server.engine.name(), server.engine.bytes_per_session());
    println!("{name}: {} bytes per idle session, {predicted} predicted, {CLIENTS} sessions", grown.div_ceil(CLIENTS));
    // A few pages are the allocator's.
    assert!(grown <= predicted * CLIENTS + 64 * 1024, "{name} holds {grown} bytes, predicted {}", predicted * CLIENTS);
    assert!(predicted <= 200);
}

/// The process's resident set, from /proc/self/smaps, which is exact (statm lags behind by some pages per thread),
/// without files: of the program itself the kernel maps sixteen pages at a time, whenever it gets to them.
fn resident_bytes() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut bytes, mut is_file) = (0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") if !is_file => bytes += words.next().unwrap().parse::<usize>().unwrap() * 1024,
            // A range of addresses begins a mapping; its name is the last of six words.
            Some(range) if range.contains('-') => is_file = words.nth(4).is_some_and(|name| name.starts_with('/')),
            _ => {}
        }
    }
    bytes
}
