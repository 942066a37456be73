//! What the engines' tests share: an engine with a listener on loopback, polled by hand.

#![allow(dead_code, unused_macros, clippy::allow_attributes, reason = "each test binary uses its own part of this")]

use std::collections::{HashSet, VecDeque};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{BorrowedFd, FromRawFd as _, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use fanblade_net::{
    Engine, EngineConfig, Event, IoSlices, ListenOptions, Listener, NetError, SessionId, Unsent, listen,
};

/// Each test once for each engine. A plain user's soft limit of descriptors is often 1,024, so it is raised.
macro_rules! over_both_engines {
    ($($test:ident),* $(,)?) => {
        over_both_engines!(epoll: $($test)*);
        over_both_engines!(uring: $($test)*);
    };
    ($engine:ident: $($test:ident)*) => {
        mod $engine {
            $(#[test] fn $test() {
                fanblade_net::rlimit::raise_descriptors().unwrap();
                super::$test(fanblade_net::$engine)
            })*
        }
    };
}

/// Every wait of a test ends here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type Make = fn(Listener, &EngineConfig<'_>) -> Result<Box<dyn Engine>, NetError>;

/// An event that owns its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Accepted(SessionId, SocketAddr),
    Received(SessionId, Vec<u8>),
    Writable(SessionId),
    Closed(SessionId, Option<i32>),
    /// The descriptor, which the test owns now, or the errno.
    Detached(SessionId, Result<i32, Option<i32>>),
    Woken,
}

pub(crate) struct Server {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) addr: SocketAddr,
    /// By [`Self::accept`], which has found several at once.
    accepted: VecDeque<SessionId>,
}

impl Server {
    pub(crate) fn new(make: Make, sessions_max: usize) -> Server {
        Self::with(make, sessions_max, &ListenOptions::default(), None)
    }

    pub(crate) fn with(
        make: Make,
        sessions_max: usize,
        options: &ListenOptions,
        waker: Option<BorrowedFd<'_>>,
    ) -> Server {
        Self::over(make, listen("127.0.0.1:0".parse().unwrap(), options).unwrap(), sessions_max, waker)
    }

    /// An engine at a listener that it may share.
    pub(crate) fn over(make: Make, listener: Listener, sessions_max: usize, waker: Option<BorrowedFd<'_>>) -> Server {
        let addr = listener.local_addr();
        let engine = make(listener, &EngineConfig { sessions_max, waker }).unwrap();
        Server { engine, addr, accepted: VecDeque::new() }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).unwrap()
    }

    /// One poll.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Vec<Got> {
        let mut got = Vec::new();
        self.engine.poll(Some(timeout), &mut |event| got.push(own(event))).unwrap();
        got
    }

    /// All that comes in some time; at least one poll, and so all requests are under way.
    pub(crate) fn poll_for(&mut self, time: Duration) -> Vec<Got> {
        let end = Instant::now() + time;
        let mut got = self.poll(time);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            got.extend(self.poll(left));
        }
        got
    }

    /// Polls until this thread has ended; what it returns. Nothing may come meanwhile.
    pub(crate) fn poll_until_end<T>(&mut self, thread: std::thread::JoinHandle<T>) -> T {
        let end = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            assert_eq!(self.poll(Duration::from_millis(5)), []);
            assert!(Instant::now() < end, "the client waits in vain");
        }
        thread.join().unwrap()
    }

    /// Polls until `done` says so of an event.
    pub(crate) fn poll_until(&mut self, what: &str, mut done: impl FnMut(&mut Server, Got) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut over = false;
            for got in self.poll(Duration::from_millis(100)) {
                over |= done(self, got);
            }
            if over {
                return;
            }
            assert!(Instant::now() < end, "waited in vain: {what}");
        }
    }

    /// The next connection.
    pub(crate) fn accept(&mut self) -> SessionId {
        if self.accepted.is_empty() {
            self.poll_until("a connection", |server, got| {
                if let Got::Accepted(session, _) = got {
                    server.accepted.push_back(session);
                }
                !server.accepted.is_empty()
            });
        }
        self.accepted.pop_front().unwrap()
    }

    /// Connects and accepts.
    pub(crate) fn pair(&mut self) -> (SessionId, TcpStream) {
        let client = self.connect();
        (self.accept(), client)
    }

    /// Has the engine give a session's socket away.
    pub(crate) fn detach(&mut self, session: SessionId) -> OwnedFd {
        self.engine.detach(session);
        let mut socket = None;
        self.poll_until("the socket", |_, got| {
            if let Got::Detached(it, fd) = got {
                assert_eq!(it, session);
                socket = Some(own_fd(fd.unwrap()));
            }
            socket.is_some()
        });
        socket.unwrap()
    }

    /// Sends and flushes; what was not taken.
    pub(crate) fn send(&mut self, session: SessionId, bytes: &[u8]) -> Option<Unsent> {
        let slices = slices_of(&[bytes]);
        self.engine.send(session, &slices);
        let mut unsent = None;
        self.engine.flush(&mut |it| unsent = Some(it)).unwrap();
        unsent
    }
}

fn own(event: Event<'_>) -> Got {
    match event {
        Event::Accepted { session, peer } => Got::Accepted(session, peer),
        Event::Received { session, bytes } => Got::Received(session, bytes.to_vec()),
        Event::Writable { session } => Got::Writable(session),
        Event::Closed { session, error } => Got::Closed(session, error),
        Event::Detached { session, socket } => {
            let socket = socket.map(IntoRawFd::into_raw_fd).map_err(|error| error.raw_os_error());
            Got::Detached(session, socket)
        }
        Event::Woken => Got::Woken,
    }
}

/// The caller keeps `parts` until the flush: all of them do, by sending and flushing in the same scope.
#[expect(unsafe_code, reason = "the tests make slices as a worker does")]
pub(crate) fn slices_of(parts: &[&[u8]]) -> IoSlices {
    let mut slices = IoSlices::new();
    for part in parts {
        // SAFETY: see above.
        assert!(unsafe { slices.push(part.as_ptr(), part.len()) });
    }
    slices
}

/// Plausible noise; the same seed gives the same bytes.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Reads until `len` bytes are there.
pub(crate) fn read_exactly(client: &mut TcpStream, len: usize) -> Vec<u8> {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

/// Waits until what these have written is at the server's sockets: a busy kernel may bring it later.
pub(crate) fn until_delivered(clients: &[TcpStream]) {
    let end = Instant::now() + PATIENCE;
    let ports: HashSet<u16> = clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    // "SL LOCAL REMOTE STATE TX_QUEUE:RX_QUEUE …"; what is in TX_QUEUE has not been acknowledged.
    let is_under_way = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().take(5).collect();
        let [_, local, _, _, queues] = fields[..] else { return false };
        let port = local.split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        port.is_some_and(|port| ports.contains(&port)) && !queues.starts_with("00000000:")
    };
    while std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap().lines().any(is_under_way) {
        assert!(Instant::now() < end, "the kernel keeps what the clients have written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends with RST.
pub(crate) fn reset(client: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    drop(client);
}

/// The descriptor of a [`Got::Detached`], which nobody else closes.
#[expect(unsafe_code, reason = "an event that can be compared holds a number")]
pub(crate) fn own_fd(fd: i32) -> OwnedFd {
    // SAFETY: `own` has taken it from its owner, and each event is looked at once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
