//! A worker with its ring, in this process, and subscribers over real sockets.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its part of it")]

mod observed;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::time::{Duration, Instant};

use fanblade_net::{Engine, EngineConfig, ListenOptions, listen};
use fanblade_ring::{LANES, NewFrame, RingConfig, SubjectId, UnixNs, Writer};
pub(crate) use fanblade_testkit::PATIENCE;
use fanblade_wire::client::{self, ServerFrames, UpgradeRequest};
use fanblade_wire::frame::Opcode;
use fanblade_worker::{Batching, Command, Limits, WorkerConfig, WorkerHandle, spawn};
#[allow(unused_imports, reason = "each test binary uses its part of it")]
pub(crate) use observed::{Hold, Observed, Step};
use serde_json::Value;

/// Each engine twice: with a list of its own for each session, and with a set that even one alone shares.
pub(crate) const ENGINES: [&str; 4] = ["epoll", "uring", "epoll, shared sets", "uring, shared sets"];

/// Microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    UnixNs::now().0 / 1_000
}

/// A worker, and the publisher that feeds it.
pub(crate) struct Blade {
    pub(crate) writer: Writer,
    pub(crate) worker: Running,
    pub(crate) address: SocketAddr,
    subjects: HashMap<String, SubjectId>,
    pub(crate) seq: u64,
}

pub(crate) struct BladeConfig {
    pub(crate) limits: Limits,
    pub(crate) index_len: usize,
    pub(crate) lane_len: usize,
    pub(crate) origins: Vec<String>,
    pub(crate) batching: Vec<Batching>,
    pub(crate) listen: ListenOptions,
    /// What else there is to be configured.
    pub(crate) worker: WorkerConfig,
    /// Puts something between the worker and its engine, on the worker's thread.
    pub(crate) wrap: Wrap,
}

pub(crate) type Wrap = Box<dyn FnOnce(Box<dyn Engine>) -> Box<dyn Engine> + Send>;

impl Default for BladeConfig {
    fn default() -> Self {
        let (origins, batching) = (Vec::new(), Vec::new());
        let listen = ListenOptions { sndbuf_bytes: Some(64 * 1024), ..ListenOptions::default() };
        Self {
            limits: Limits::default(),
            index_len: 1 << 17,
            lane_len: 1 << 26,
            origins,
            batching,
            listen,
            worker: WorkerConfig::default(),
            wrap: Box::new(|engine| engine),
        }
    }
}

impl Blade {
    pub(crate) fn start(engine: &str) -> Self {
        Self::start_with(engine, BladeConfig::default())
    }

    pub(crate) fn start_with(engine: &str, config: BladeConfig) -> Self {
        let ring = RingConfig {
            index_len: config.index_len,
            lane_len: [config.lane_len, config.lane_len, 0, 0],
            subjects_max: u32::try_from(config.index_len / 64).unwrap().max(500),
            checksums: true,
        };
        let mut writer = Writer::create(&ring, "test-1").unwrap();
        let (waker, sleeper) = fanblade_ring::pair().unwrap();
        writer.add_waker(waker.clone());
        let listener = listen("127.0.0.1:0".parse().unwrap(), &config.listen).unwrap();
        let address = listener.local_addr();
        let sharing_sessions_min = if engine.ends_with("shared sets") { 1 } else { config.limits.sharing_sessions_min };
        let worker_config = WorkerConfig {
            limits: Limits { sharing_sessions_min, ..config.limits },
            origins: config.origins,
            batching: config.batching,
            source: "test".to_owned(),
            ..config.worker
        };
        let is_uring = engine.starts_with("uring");
        let wrap = config.wrap;
        let worker = spawn(worker_config, writer.open_reader().unwrap(), sleeper, waker, move |sleeper| {
            let config = EngineConfig { sessions_max: 20_000, waker: Some(sleeper.fd()) };
            let engine =
                if is_uring { fanblade_net::uring(listener, &config) } else { fanblade_net::epoll(listener, &config) };
            engine.map(wrap).map_err(std::io::Error::other)
        })
        .unwrap();
        Self { writer, worker: Running(Some(worker)), address, subjects: HashMap::new(), seq: 0 }
    }

    /// Publishes one update of `subject` under the next sequence number.
    pub(crate) fn publish(&mut self, subject: &str, data: &str) -> u64 {
        self.seq += 1;
        self.publish_at(subject, self.seq, data);
        self.seq
    }

    pub(crate) fn publish_at(&mut self, subject: &str, seq: u64, data: &str) {
        let id = match self.subjects.get(subject) {
            Some(id) => *id,
            None => {
                let id = self.writer.subject(subject, 1).unwrap();
                self.subjects.insert(subject.to_owned(), id);
                id
            }
        };
        let prev = self.writer.last_seq(id);
        let json = format!(r#"{{"s":"{subject}","q":{seq},"p":{prev},"t":"0","d":{data}}}"#);
        let mut binary = seq.to_le_bytes().to_vec();
        binary.extend_from_slice(&prev.to_le_bytes());
        let mut payloads: [&[u8]; LANES] = [&[]; LANES];
        payloads[0] = json.as_bytes();
        payloads[1] = &binary;
        let update = NewFrame { subject: id, channel: 1, seq, ts_feed_ns: UnixNs(0), ts_publish_ns: UnixNs(0) };
        self.writer.publish(&update, &payloads).unwrap();
    }

    /// A counter of the worker by its name.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let mut found = None;
        self.worker.stats().for_each(&mut |other, _, _, value| {
            if other == name {
                found = Some(value);
            }
        });
        found.unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Waits until the worker has read all that was published, if there was a client before any of it: a worker does
    /// not read what was there before it.
    pub(crate) fn wait_read(&self) {
        let published = self.writer.stats().published + self.writer.stats().refreshed;
        self.wait_stat("descriptors", |read| read + 1 >= published);
    }

    /// Waits until a counter has a value.
    pub(crate) fn wait_stat(&self, name: &str, is_so: impl Fn(u64) -> bool) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.stat(name);
            if is_so(value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{name} stays at {value}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address, "/v1/stream", None)
    }

    /// A client that has subscribed and read the reply.
    pub(crate) fn subscriber(&self, subjects: &[&str], mode: &str) -> Client {
        let mut client = self.client();
        client.subscribe(subjects, mode);
        let reply = client.message();
        assert_eq!(reply["op"], "subscribed", "{reply}");
        client
    }
}

/// A worker that ends with its test: its ring's memory is taken from the start, and a process has many tests.
pub(crate) struct Running(Option<WorkerHandle>);

impl Running {
    /// Waits for its end.
    pub(crate) fn join(mut self) -> std::io::Result<()> {
        self.0.take().expect("nobody has taken it").join()
    }
}

impl Deref for Running {
    type Target = WorkerHandle;

    fn deref(&self) -> &WorkerHandle {
        self.0.as_ref().expect("it goes when this goes")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(worker) = self.0.take() {
            worker.send(Command::Stop);
        }
    }
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Received {
    Text(Value),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
    /// The end of the stream.
    End,
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    frames: ServerFrames,
    queue: std::collections::VecDeque<Received>,
    pub(crate) head: String,
}

impl Client {
    /// Connects and upgrades.
    pub(crate) fn connect(address: SocketAddr, target: &str, protocol: Option<&str>) -> Self {
        Self::open(address, target, protocol, &[], false)
    }

    /// The same, with `more` right behind the upgrade request, in the same segment; with `ends`, then the end of input.
    pub(crate) fn open(address: SocketAddr, target: &str, protocol: Option<&str>, more: &[u8], ends: bool) -> Self {
        let mut stream = connect_small(address);
        let mut request = Vec::new();
        let host = address.to_string();
        UpgradeRequest { host: &host, target, key: client::KEY, protocol, token: None }.write(&mut request);
        request.extend_from_slice(more);
        stream.write_all(&request).unwrap();
        if ends {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        let head_len = loop {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "closed during the handshake: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&buffer[..len]);
            if let Some(response) = client::read_response(&bytes, client::KEY).unwrap() {
                break response.head_len;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
        let mut client =
            Self { stream, frames: ServerFrames::new(1 << 20), queue: std::collections::VecDeque::new(), head };
        client.take(&bytes[head_len..]);
        client
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes());
    }

    pub(crate) fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        self.stream.write_all(&client_frame(opcode, payload)).unwrap();
    }

    /// Nothing more will be sent.
    pub(crate) fn end(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    pub(crate) fn subscribe(&mut self, subjects: &[&str], mode: &str) {
        self.send(&serde_json::json!({"op":"subscribe","id":1,"subjects":subjects,"mode":mode}).to_string());
    }

    /// The next thing that comes.
    pub(crate) fn receive(&mut self) -> Received {
        self.receive_within(PATIENCE).expect("nothing came")
    }

    pub(crate) fn receive_within(&mut self, patience: Duration) -> Option<Received> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(received) = self.queue.pop_front() {
                return Some(received);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(Received::End),
                Ok(len) => self.take(&buffer[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(_) => return Some(Received::End),
            }
        }
    }

    /// The next text message.
    pub(crate) fn message(&mut self) -> Value {
        match self.receive() {
            Received::Text(value) => value,
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// Reads until the close frame; its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            match self.receive() {
                Received::Close(code, _) => return code,
                Received::End => panic!("closed without a close frame"),
                _ => {}
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let queue = &mut self.queue;
        self.frames
            .push(bytes, |opcode, payload| {
                queue.push_back(match opcode {
                    Opcode::Text => Received::Text(serde_json::from_slice(payload).expect("JSON")),
                    Opcode::Binary => Received::Binary(payload.to_vec()),
                    Opcode::Ping => Received::Ping,
                    Opcode::Pong => Received::Pong(payload.to_vec()),
                    Opcode::Close => Received::Close(
                        payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code)),
                        String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned(),
                    ),
                    Opcode::Continuation => panic!("the server does not fragment"),
                });
            })
            .expect("the server's frames are whole");
    }
}

/// A frame as a client sends it.
pub(crate) fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client::write_frame(&mut out, opcode, [1, 2, 3, 4], payload);
    out
}

/// A connection whose receive buffer is small, so that a reader that stops is noticed soon.
pub(crate) fn connect_small(address: SocketAddr) -> TcpStream {
    use std::os::fd::{FromRawFd, IntoRawFd};
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Stream,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(32 * 1024)).unwrap();
    // Loopback's segments of 64 KiB would fill it at once, and then the window opens in steps of 200 ms and more.
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::TcpMaxSeg, &1_400).unwrap();
    let SocketAddr::V4(address) = address else { panic!("IPv4 only") };
    let address = nix::sys::socket::SockaddrIn::from(address);
    nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).unwrap();
    #[expect(unsafe_code, reason = "std has no safe way from a socket of nix")]
    // SAFETY: the descriptor is ours and given away.
    let stream = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
    stream.set_nodelay(true).unwrap();
    stream
}

/// Checks frames of a subscription: order and gaps per subject (PROTOCOL.md, "Data").
#[derive(Default)]
pub(crate) struct Checker {
    last: HashMap<String, u64>,
    /// Gaps that a notice has announced: subject and the `to` of it.
    gaps: HashMap<String, u64>,
    pub(crate) frames: u64,
    pub(crate) dropped: u64,
    pub(crate) gap_notices: u64,
    pub(crate) newest: HashMap<String, Value>,
}

impl Checker {
    /// Takes one message; with `all`, each `p` must be what was seen last, or announced as a gap.
    pub(crate) fn take(&mut self, message: &Value, all: bool) {
        if message["op"] == "notice" {
            match message["kind"].as_str().unwrap() {
                "lagging" => self.dropped += message["dropped"].as_u64().unwrap(),
                "gap" => {
                    self.gap_notices += 1;
                    let subject = message["subject"].as_str().unwrap().to_owned();
                    self.gaps.insert(subject, message["to"].as_u64().unwrap());
                }
                "epoch" => self.last.clear(),
                other => panic!("notice {other}"),
            }
            return;
        }
        let subject = message["s"].as_str().unwrap_or_else(|| panic!("not a frame: {message}"));
        let (seq, prev) = (message["q"].as_u64().unwrap(), message["p"].as_u64().unwrap());
        if let Some(last) = self.last.get(subject) {
            assert!(seq > *last, "{subject}: {seq} after {last}");
            if all && prev != *last {
                assert_eq!(self.gaps.remove(subject), Some(prev), "{subject}: {prev} instead of {last}, untold");
            }
        }
        self.last.insert(subject.to_owned(), seq);
        self.newest.insert(subject.to_owned(), message["d"].clone());
        self.frames += 1;
    }
}
