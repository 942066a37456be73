//! Connecting to names with several addresses, of which some swallow every request, or say no.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use fanblade_net::dial::{Dial, DialError};
use socket2::{Domain, Protocol, Socket, Type};

/// A listener that takes no connection any more: what comes is not answered.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    fn at(address: &str) -> BlackHole {
        let address: SocketAddr = address.parse().unwrap();
        let socket = || Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        let listener = socket();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // Some are queued, the next is not answered.
        let queued: Vec<Socket> = (0..8)
            .map(|_| {
                let client = socket();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&address.into());
                client
            })
            .collect();
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "the queue is not full");
        BlackHole { address, _listener: listener, _queued: queued }
    }
}

fn dial(addresses: &[SocketAddr], turn: usize, limit: Duration) -> Result<TcpStream, DialError> {
    Dial::new(addresses, turn, limit, Instant::now()).unwrap().wait()
}

/// Nobody listens there.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn an_address_that_swallows_requests_costs_a_moment_and_not_the_connection() {
    let hole = BlackHole::at("127.0.0.1:0");
    let good = TcpListener::bind("127.0.0.2:0").unwrap();
    let began = Instant::now();
    let mut stream = dial(&[hole.address, good.local_addr().unwrap()], 0, LONG).unwrap();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
    let (mut accepted, _) = good.accept().unwrap();
    accepted.write_all(b"x").unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    assert!(stream.nodelay().unwrap());
}

#[test]
fn the_other_family_is_next_and_who_says_no_is_not_waited_for() {
    let Ok(good) = TcpListener::bind("[::1]:0") else {
        println!("skipped: no IPv6 on this machine");
        return;
    };
    let good_address = good.local_addr().unwrap();
    let hole = BlackHole::at("127.0.0.1:0");
    let addresses = [hole.address, nobody(), nobody(), good_address];
    for turn in 0..8 {
        assert_eq!(dial(&addresses, turn, LONG).unwrap().peer_addr().unwrap(), good_address, "turn {turn}");
    }
}

#[test]
fn losers_are_closed() {
    // Two that answer; the second has its turn only because the first is slow to be asked.
    let (first, second) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.2:0").unwrap());
    let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
    let long_ago = Instant::now();
    let mut dial = Dial::new(&addresses, 0, LONG, long_ago).unwrap();
    let stream = loop {
        if let Some(stream) = dial.poll(Instant::now()).unwrap() {
            break stream;
        }
    };
    drop(dial);
    let winner = stream.peer_addr().unwrap();
    drop(stream);
    for listener in [first, second] {
        listener.set_nonblocking(true).unwrap();
        if let Ok((mut other, _)) = listener.accept() {
            other.set_nonblocking(false).unwrap();
            other.set_read_timeout(Some(LONG)).unwrap();
            assert!(matches!(other.read(&mut [0]), Ok(0) | Err(_)), "open still, beside {winner}");
        }
    }
}

#[test]
fn all_that_was_tried_is_told() {
    let hole = BlackHole::at("127.0.0.1:0");
    let gone = nobody();
    let error = dial(&[hole.address, gone], 0, Duration::from_millis(500)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{}: no answer within 500 ms", hole.address)), "{text}");
    assert!(text.contains(&format!("{gone}: Connection refused")), "{text}");
    assert!(error.is_late() && !error.is_refused());
    let error = dial(&[gone], 0, LONG).unwrap_err();
    assert!(error.is_refused() && !error.is_late(), "{error}");
    assert_eq!(dial(&[], 0, LONG).unwrap_err().to_string(), "the name has no address");
}

#[test]
fn while_it_waits_it_costs_nothing_and_says_when_it_is_due() {
    let hole = BlackHole::at("127.0.0.1:0");
    let now = Instant::now();
    let mut dial = Dial::new(&[hole.address, hole.address], 0, LONG, now).unwrap();
    assert!(dial.poll(now).unwrap().is_none());
    // One address only, named twice: nothing to do before the end.
    assert_eq!(dial.due(), now + LONG);
    assert!(dial.poll(now + LONG / 2).unwrap().is_none());
    assert!(dial.poll(now + LONG).unwrap_err().is_late());
}
