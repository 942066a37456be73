//! The attacks. Each is a loop in a thread, over sockets of its own, until the attack is over; it notes what it counts.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fanblade_feed::publisher::{Hello, Record, Request, Value};
use fanblade_wire::client::{self, UpgradeRequest};
use fanblade_wire::frame::Opcode;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage};

use super::aim::Aim;

/// An attack, and the blade that it needs.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) does: &'static str,
    pub(super) feed: Feed,
    pub(super) log: Log,
    /// Symbols of the simulated market: each has six subjects and more.
    pub(super) symbols: u32,
    /// Limits of the blade's memory, if the attack is about memory.
    pub(super) memory: Option<Memory>,
    pub(super) run: fn(&Aim, usize),
}

/// Limits of how much the blade's own memory grows, in MiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) height_mib_max: u64,
    /// How much of the growth may be left some seconds after the attack.
    pub(super) left_mib_max: u64,
}

/// Where the blade's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feed {
    Market,
    Publishers,
}

impl Feed {
    /// What the subscriber that behaves well subscribes to.
    pub(super) fn subjects(self) -> &'static str {
        match self {
            Feed::Market => "/NASDAQ/**",
            Feed::Publishers => "/GOOD/**",
        }
    }
}

/// What happens to the blade's log while it is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// Nobody needs to read it.
    Quiet,
    /// The log is a full pipe that nobody reads.
    Stuck,
    /// The log is a pipe whose reader has gone.
    Gone,
}

const fn on_market(name: &'static str, does: &'static str, run: fn(&Aim, usize)) -> Attack {
    Attack { name, does, feed: Feed::Market, log: Log::Quiet, symbols: 50, memory: None, run }
}

/// An attack on memory, with a market of more than ten thousand subjects.
const fn on_memory(name: &'static str, does: &'static str, height_mib_max: u64, run: fn(&Aim, usize)) -> Attack {
    let memory = Some(Memory { height_mib_max, left_mib_max: 32 });
    Attack { symbols: 2_000, memory, ..on_market(name, does, run) }
}

pub(super) const ATTACKS: [Attack; 23] = [
    on_market("admin-half-open", "600 connections to the admin port that send half a request", admin_half_open),
    // Half a MiB for each, and what they are owed.
    on_memory(
        "deferred-requests",
        "200 subscribers of everything that never read, and keep sending long requests",
        160,
        deferred_requests,
    ),
    on_memory(
        "filter-toggle",
        "16 subscribers of everything that add and remove one filter at the permitted rate",
        64,
        filter_toggle,
    ),
    on_market("garbage", "random bytes to the data, admin and publishers' ports", garbage),
    on_market("half-close", "subscribers that end their own side at once and read the answer", half_close),
    Attack {
        log: Log::Gone,
        ..on_market("log-gone", "the log's reader is gone; faulty clients at level debug", faulty)
    },
    Attack { log: Log::Stuck, ..on_market("log-stuck", "nobody reads the log; faulty clients at level debug", faulty) },
    on_market("monitors", "clients that read the metrics and the status without a pause", monitors),
    // 32 KiB for each.
    on_memory("non-readers", "2,000 subscribers of more than 10,000 subjects that never read", 96, non_readers),
    on_market(
        "pattern-flood",
        "sessions that subscribe to 850 new patterns at once; each is then replaced by another",
        pattern_flood,
    ),
    on_market(
        "pattern-toggle",
        "sessions that subscribe to and unsubscribe from 900 patterns at the permitted rate",
        pattern_toggle,
    ),
    on_market("ping-flood", "sessions that send pings without a pause", ping_flood),
    on_market("pong-flood", "sessions that send pongs without a pause", pong_flood),
    on_market(
        "proxy-garbage",
        "PROXY headers from a balancer's address that are wrong, too long or cut short",
        proxy_garbage,
    ),
    on_market("reconnect-storm", "clients that connect, subscribe and reset without a pause", reconnect_storm),
    on_market("request-flood", "sessions that subscribe and unsubscribe without a pause", request_flood),
    on_market("resume-storm", "subscribers that request the whole history again and again", resume_storm),
    Attack {
        feed: Feed::Publishers,
        ..on_market("ring-full", "publishers of 1,500 subjects with 60 kB each, more than the ring holds", ring_full)
    },
    on_market("slow-loris", "500 clients that send the head of a request, one byte at a time", slow_loris),
    on_market("stalled-readers", "200 subscribers of everything that never read", stalled_readers),
    Attack {
        log: Log::Stuck,
        ..on_market(
            "stop-while-stuck",
            "the blade is told to stop while nobody reads the log or the sessions",
            stop_while_stuck,
        )
    },
    on_market("tiny-segments", "sessions whose messages come in segments of one byte", tiny_segments),
    on_market("unknown-subjects", "sessions that hold 1,000 subjects each that nobody publishes", unknown_subjects),
];

/// Attackers wait no longer than this for anything, so that they end with the attack.
const PATIENCE: Duration = Duration::from_millis(500);
/// The address from which the blade accepts PROXY headers.
pub(super) const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Connections of each attacker that floods.
const FLOODERS: usize = 4;
/// The default limit of a session's requests in a second.
const REQUESTS_PER_S_MAX: u32 = 50;
const ALL: &str = "/v1/stream?subjects=/NASDAQ/**&mode=all";
const QUIET: &str = "/v1/stream?subjects=/NASDAQ/NOT_LISTED/bbo";

fn connect(address: SocketAddr) -> Option<TcpStream> {
    patient(TcpStream::connect_timeout(&address, PATIENCE).ok()?)
}

fn patient(stream: TcpStream) -> Option<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Connects from the balancer's address.
fn connect_as_balancer(address: SocketAddr) -> Option<TcpStream> {
    use nix::sys::socket::{bind, connect, socket};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(BALANCER, 0))).ok()?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).ok()?;
    patient(TcpStream::from(socket))
}

/// A session whose upgrade has been answered.
fn session(aim: &Aim, target: &str) -> Option<TcpStream> {
    let mut stream = connect(aim.data)?;
    stream.write_all(&upgrade(target)).ok()?;
    let mut answer = [0; 512];
    let len = stream.read(&mut answer).ok()?;
    answer[..len].starts_with(b"HTTP/1.1 101").then_some(stream)
}

fn upgrade(target: &str) -> Vec<u8> {
    let mut request = Vec::new();
    UpgradeRequest { host: "blade", target, key: client::KEY, protocol: None, token: None }.write(&mut request);
    request
}

/// Keeps `count` streams open, opens each again that has been closed, and calls `each` for them in turn; `None` ends a
/// stream.
fn keep(aim: &Aim, count: usize, open: impl Fn() -> Option<TcpStream>, each: impl Fn(&mut TcpStream) -> Option<u64>) {
    let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    while !aim.is_over() {
        let mut has_opened = false;
        for stream in &mut streams {
            if aim.is_over() {
                return;
            }
            if stream.is_none() {
                *stream = open();
                has_opened |= stream.is_some();
            }
            match stream.as_mut().and_then(&each) {
                Some(done) => aim.note(done),
                None => *stream = None,
            }
        }
        // A blade that refuses everything is asked again, but after a pause.
        if !has_opened && streams.iter().all(Option::is_none) {
            aim.pause(Duration::from_millis(10));
        }
    }
}

/// Sends frames of one kind again and again; the answers are thrown away.
fn flood(aim: &Aim, opcode: Opcode, payload: &[u8]) {
    let mut frames = Vec::new();
    let mut count = 0;
    while frames.len() < 64 << 10 {
        client::write_frame(&mut frames, opcode, [7; 4], payload);
        count += 1;
    }
    let each = |stream: &mut TcpStream| {
        stream.write_all(&frames).ok()?;
        discard(stream)?;
        Some(count)
    };
    keep(aim, FLOODERS, || session(aim, QUIET), each);
}

/// Reads what has come, without waiting. None: the other side has ended.
fn discard(stream: &mut TcpStream) -> Option<()> {
    stream.set_nonblocking(true).ok()?;
    let mut buffer = [0; 16 << 10];
    let is_open = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).ok()?;
    is_open.then_some(())
}

fn pong_flood(aim: &Aim, _: usize) {
    flood(aim, Opcode::Pong, b"");
}

fn ping_flood(aim: &Aim, _: usize) {
    flood(aim, Opcode::Ping, b"?");
}

fn request_flood(aim: &Aim, number: usize) {
    let op = ["subscribe", "unsubscribe"][number % 2];
    flood(aim, Opcode::Text, format!(r#"{{"op":"{op}","subjects":["/NASDAQ/**"]}}"#).as_bytes());
}

/// A request for `count` subjects or patterns.
fn subscription(op: &str, count: usize, filter: impl Fn(usize) -> String) -> Vec<u8> {
    let filters: Vec<String> = (0..count).map(|n| format!("{:?}", filter(n))).collect();
    masked(&format!(r#"{{"op":"{op}","subjects":[{}]}}"#, filters.join(",")))
}

fn pattern_flood(aim: &Aim, number: usize) {
    let made = Cell::new(number << 40);
    let each = |stream: &mut TcpStream| {
        let from = made.replace(made.get() + 850);
        // All patterns begin as the market's subjects do, so that each looks at all of them.
        stream.write_all(&subscription("subscribe", 850, |n| format!("/NASDAQ/*/{}", from + n))).ok()?;
        aim.pause(Duration::from_millis(5));
        aim.note(1);
        // More would be refused: this session ends and its patterns leave; another session takes its place.
        None
    };
    keep(aim, FLOODERS, || session(aim, QUIET), each);
}

fn pattern_toggle(aim: &Aim, number: usize) {
    let wide = ["/NASDAQ/**", "/*/**", "/**", "/*/*/*", "/NASDAQ/*/bbo", "/*/*/trade", "/NASDAQ/*/*"];
    let turns = Cell::new(number << 40);
    let each = |stream: &mut TcpStream| {
        let from = turns.replace(turns.get() + 900);
        let filter = |n: usize| wide.get(n).map_or_else(|| format!("/*/*/{}", from + n), |&text| text.to_owned());
        for op in ["subscribe", "unsubscribe"] {
            stream.write_all(&subscription(op, 900, filter)).ok()?;
            aim.pause(Duration::from_millis(1_000) / REQUESTS_PER_S_MAX);
            discard(stream)?;
        }
        Some(2)
    };
    keep(aim, 1, || session(aim, QUIET), each);
}

fn unknown_subjects(aim: &Aim, number: usize) {
    let named = Cell::new(number << 40);
    let open = || {
        let mut stream = session(aim, QUIET)?;
        let from = named.replace(named.get() + 999);
        stream.write_all(&subscription("subscribe", 999, |n| format!("/NASDAQ/NOBODY{}/bbo", from + n))).ok()?;
        Some(stream)
    };
    let each = |stream: &mut TcpStream| {
        aim.pause(Duration::from_millis(2));
        discard(stream)?;
        Some(1)
    };
    keep(aim, 100, open, each);
}

fn tiny_segments(aim: &Aim, _: usize) {
    let mut message = Vec::new();
    client::write_frame(&mut message, Opcode::Text, [7; 4], &[b' '; 2_000]);
    let each = |stream: &mut TcpStream| {
        for byte in &message {
            stream.write_all(std::slice::from_ref(byte)).ok()?;
            if aim.is_over() {
                return None;
            }
        }
        discard(stream)?;
        Some(message.len() as u64)
    };
    keep(aim, FLOODERS, || session(aim, QUIET), each);
}

fn half_close(aim: &Aim, _: usize) {
    let subscribe = [&upgrade(QUIET)[..], &masked(r#"{"op":"ping"}"#)].concat();
    while !aim.is_over() {
        let done = connect(aim.data).and_then(|mut stream| {
            stream.write_all(&subscribe).ok()?;
            stream.shutdown(Shutdown::Write).ok()?;
            let mut answer = Vec::new();
            stream.take(64 << 10).read_to_end(&mut answer).ok()
        });
        aim.note(u64::from(done.is_some()));
    }
}

fn masked(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    client::write_frame(&mut frame, Opcode::Text, [7; 4], text.as_bytes());
    frame
}

fn reconnect_storm(aim: &Aim, _: usize) {
    while !aim.is_over() {
        let Some(stream) = session(aim, ALL) else { continue };
        // Closed with RST, so that nothing lingers on this side.
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger);
        aim.note(1);
    }
}

fn resume_storm(aim: &Aim, _: usize) {
    // Each reply names the numbering. A wrong name is answered with all snapshots, which is work as well.
    let resume = |epoch: &str| {
        let from = format!(r#""resume":{{"epoch":"{epoch}","seq":1}}"#);
        masked(&format!(r#"{{"op":"subscribe","subjects":["/NASDAQ/**"],"mode":"all",{from}}}"#))
    };
    while !aim.is_over() {
        let done = connect(aim.data).and_then(|mut stream| {
            stream.write_all(&[&upgrade(QUIET)[..], &masked(r#"{"op":"list"}"#)].concat()).ok()?;
            let mut heard = Vec::new();
            let mut buffer = [0; 4_096];
            let epoch = loop {
                let len = stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
                heard.extend_from_slice(&buffer[..len]);
                let text = String::from_utf8_lossy(&heard);
                if let Some(epoch) = text.split_once(r#""epoch":""#).and_then(|(_, rest)| Some(rest.split_once('"')?.0))
                {
                    break epoch.to_owned();
                }
            };
            stream.write_all(&resume(&epoch)).ok()?;
            // Reads some of the answer, and then leaves.
            for _ in 0..16 {
                stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
            }
            Some(())
        });
        aim.note(u64::from(done.is_some()));
    }
}

fn stalled_readers(aim: &Aim, _: usize) {
    let each = |_: &mut TcpStream| {
        aim.pause(Duration::from_millis(5));
        Some(1)
    };
    keep(aim, 100, || session(aim, ALL), each);
}

fn non_readers(aim: &Aim, _: usize) {
    let each = |_: &mut TcpStream| {
        std::thread::sleep(Duration::from_micros(100));
        Some(1)
    };
    keep(aim, 1_000, || silent(aim), each);
}

/// A session that subscribes to everything and whose window is soon closed.
fn silent(aim: &Aim) -> Option<TcpStream> {
    let stream = session(aim, QUIET)?;
    let _ = nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::RcvBuf, &4_096);
    (&stream).write_all(&masked(r#"{"op":"subscribe","subjects":["/NASDAQ/**"],"mode":"all"}"#)).ok()?;
    Some(stream)
}

fn deferred_requests(aim: &Aim, _: usize) {
    // The name of a numbering may have any length.
    let epoch = "x".repeat(100_000);
    let resume = format!(r#""resume":{{"epoch":"{epoch}","seq":1}}"#);
    let request = masked(&format!(r#"{{"op":"subscribe","subjects":["/NASDAQ/AAPL/bbo"],{resume}}}"#));
    let each = |stream: &mut TcpStream| {
        stream.write_all(&request).ok()?;
        // Ten a second for each session: the attack is the amount that waits, not the rate at which it comes.
        std::thread::sleep(Duration::from_millis(1));
        Some(1)
    };
    keep(aim, 100, || silent(aim), each);
}

fn filter_toggle(aim: &Aim, number: usize) {
    let toggle = |op| masked(&format!(r#"{{"op":"{op}","subjects":["/TOGGLED/BY{number}/v"]}}"#));
    let toggles = [toggle("subscribe"), toggle("unsubscribe")].concat();
    let each = |stream: &mut TcpStream| {
        stream.write_all(&toggles).ok()?;
        discard(stream)?;
        // Stays within the permitted rate.
        aim.pause(Duration::from_millis(10));
        Some(2)
    };
    keep(aim, 8, || session(aim, ALL), each);
}

fn slow_loris(aim: &Aim, _: usize) {
    let open = || {
        let mut stream = connect(aim.data)?;
        stream.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: blade\r\nX: ").ok()?;
        Some(stream)
    };
    let each = |stream: &mut TcpStream| {
        stream.write_all(b"x").ok()?;
        discard(stream)?;
        std::thread::sleep(Duration::from_micros(200));
        Some(1)
    };
    keep(aim, 250, open, each);
}

fn monitors(aim: &Aim, number: usize) {
    let path = ["/metrics", "/v1/status"][number % 2];
    while !aim.is_over() {
        let answer = connect(aim.admin).and_then(|mut stream| {
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = Vec::new();
            stream.take(1 << 20).read_to_end(&mut answer).ok()?;
            answer.starts_with(b"HTTP/1.1 200").then_some(())
        });
        aim.note(u64::from(answer.is_some()));
    }
}

fn admin_half_open(aim: &Aim, _: usize) {
    let open = || {
        let mut stream = connect(aim.admin)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n").ok()?;
        Some(stream)
    };
    let each = |stream: &mut TcpStream| {
        discard(stream)?;
        std::thread::sleep(Duration::from_micros(200));
        Some(1)
    };
    keep(aim, 300, open, each);
}

fn garbage(aim: &Aim, number: usize) {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64 ^ number as u64;
    let mut bytes = move |len: usize| -> Vec<u8> {
        let next = |_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise.to_le_bytes()[0]
        };
        (0..len).map(next).collect()
    };
    while !aim.is_over() {
        let len = 1 + usize::from(bytes(1)[0]) * 16;
        if let Some(mut stream) = connect(aim.data) {
            // Half of them come behind an upgrade request.
            let head = if len.is_multiple_of(2) { upgrade(QUIET) } else { Vec::new() };
            aim.note(u64::from(stream.write_all(&[head, bytes(len)].concat()).is_ok()));
            let _ = discard(&mut stream);
        }
        if let Some(mut stream) = connect(aim.admin) {
            aim.note(u64::from(stream.write_all(&bytes(len)).is_ok()));
        }
        if let Ok(mut stream) = UnixStream::connect(&aim.publishers) {
            aim.note(u64::from(stream.write_all(&bytes(len)).is_ok()));
        }
    }
}

fn proxy_garbage(aim: &Aim, number: usize) {
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let v2 = |rest: &[u8]| [V2, rest].concat();
    let headers = [
        b"PROXY TCP4 999.0.0.1 10.0.0.1 70000 0\r\n".to_vec(),
        [&b"PROXY TCP4 "[..], &[b'1'; 4_000]].concat(),
        b"PROXY UNKNOWN".to_vec(),
        // A length of 65,535 without the bytes; an unknown family; an unknown command.
        v2(b"\x21\x11\xff\xff"),
        v2(b"\x21\xff\0\x04abcd"),
        v2(b"\x2f\x11\0\x0c0123456789ab"),
        upgrade(QUIET),
        b"\0".to_vec(),
    ];
    // Some stay open until the blade closes them, or a later one takes their place.
    let mut open: Vec<Option<TcpStream>> = (0..32).map(|_| None).collect();
    for at in number.. {
        if aim.is_over() {
            return;
        }
        let place = at % open.len();
        open[place] = connect_as_balancer(aim.data).and_then(|mut stream| {
            stream.write_all(&headers[at % headers.len()]).ok()?;
            Some(stream)
        });
        aim.note(u64::from(open[place].is_some()));
    }
}

/// Each faulty client causes a line in the log.
fn faulty(aim: &Aim, _: usize) {
    while !aim.is_over() {
        // A frame without a mask: a protocol error.
        let done = session(aim, QUIET).and_then(|mut stream| {
            stream.write_all(b"\x81\x01x").ok()?;
            stream.read_to_end(&mut Vec::new()).ok()
        });
        aim.note(u64::from(done.is_some()));
        aim.pause(Duration::from_millis(1));
    }
}

fn stop_while_stuck(aim: &Aim, number: usize) {
    if number == 0 { faulty(aim, number) } else { stalled_readers(aim, number) }
}

fn ring_full(aim: &Aim, number: usize) {
    let value = format!("\"{}\"", "x".repeat(60_000));
    while !aim.is_over() {
        let Ok(mut stream) = UnixStream::connect(&aim.publishers) else { return aim.pause(PATIENCE) };
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let mut bytes = Vec::new();
        Request::Hello(Hello { wants_acks: false, name: "flood", token: b"" }).write(&mut bytes);
        for subject in (0..1_500).map(|subject| format!("/FLOOD/S{number}_{subject}/value")).cycle() {
            let record = Record { ts_ns: None, subject: &subject, value: Value::Json(value.as_bytes()) };
            Request::Record(record).write(&mut bytes);
            // The blade slows down a publisher that is too fast, which is no reason to stop. After a timeout, a part of
            // a record may have been written: the connection is of no use any more.
            if aim.is_over() || stream.write_all(&bytes).is_err() {
                break;
            }
            aim.note(1);
            bytes.clear();
        }
    }
}
