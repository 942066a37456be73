//! A SoupBinTCP server on loopback that does what a test says, made of the project's own codec.
#![allow(
    dead_code,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use fanblade_feed::Session;
use fanblade_feed::soupbintcp::{Inbound, LoginAccepted, LoginRequest, Packet};
pub use fanblade_testkit::PATIENCE;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};

/// A listening server. It serves one connection after the other until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one. `script` is called with each connection and its number, from 0.
    pub fn start(mut script: impl FnMut(usize, Client) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                for number in 0.. {
                    let (stream, _) = listener.accept().unwrap();
                    if stop.load(Relaxed) {
                        return;
                    }
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    script(number, Client { stream, inbound: Inbound::new() });
                }
            }
        });
        Server { address, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Ends its wait for another connection.
        drop(TcpStream::connect(self.address));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server of the test panicked");
    }
}

/// A client that has connected. Writing to one that has gone is no error: tests cut connections on purpose.
pub struct Client {
    pub stream: TcpStream,
    inbound: Inbound,
}

impl Client {
    /// Waits for its next packet; none when it has gone.
    pub fn receive<T>(&mut self, take: impl FnOnce(Packet<'_>) -> T) -> Option<T> {
        loop {
            // Two steps, since the packet borrows what reading changes.
            if self.inbound.is_within_packet()
                && let Some(packet) = self.inbound.next_packet().unwrap()
            {
                return Some(take(packet));
            }
            match self.stream.read(self.inbound.space()) {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.inbound.filled(len),
            }
        }
    }

    /// Waits for its login request.
    pub fn login(&mut self) -> LoginRequest {
        self.receive(|packet| match packet {
            Packet::LoginRequest(request) => request,
            other => panic!("{other:?} in place of a login"),
        })
        .expect("a client that logs in")
    }

    pub fn accept(&mut self, session: &Session, sequence: u64) {
        self.send(&Packet::LoginAccepted(LoginAccepted { session: *session, sequence }));
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.write(&mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until it has closed its side.
    pub fn until_gone(&mut self) {
        while self.receive(|_| ()).is_some() {}
    }
}

/// The bytes of these messages as sequenced packets.
pub fn sequenced<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        Packet::Sequenced(message).write(&mut bytes).unwrap();
    }
    bytes
}

/// A listener whose queue is full: further requests to connect are not answered.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: OwnedFd,
    _queued: TcpStream,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let address: SockaddrIn = getsockname(listener.as_raw_fd()).unwrap();
        let address = SocketAddr::from((address.ip(), address.port()));
        let queued = TcpStream::connect(address).unwrap();
        BlackHole { address, _listener: listener, _queued: queued }
    }
}
