//! A running `fanblade replay`, and a receiver of its lines.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fanblade_feed::UnixNs;
use fanblade_feed::moldudp64::{Kind, Packet};
use fanblade_testkit::{Child, PATIENCE};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use super::FANBLADE;

/// An exchange made by `fanblade replay`; it ends with its test.
pub struct Exchange {
    child: Child,
    pub stdin: Option<ChildStdin>,
    /// The fields of the line that it prints when it is ready: `session`, `a`, `b`, `requests` …
    pub ready: HashMap<String, String>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
}

impl Exchange {
    /// Starts one with these arguments.
    pub fn start(args: &[&str]) -> Exchange {
        let mut command = Command::new(FANBLADE);
        command.args(["replay", "--json"]).args(args);
        Exchange::spawn(command)
    }

    /// Starts one with a complete command.
    pub fn spawn(mut command: Command) -> Exchange {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut log = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            text
        });
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(fields) = line.strip_prefix("ready ") else {
            let status = child.wait();
            panic!("the exchange did not start ({status:?}): {line}{}", stderr.join().unwrap());
        };
        let ready = fields.split_whitespace().filter_map(|field| field.split_once('='));
        let ready = ready.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let stdin = child.stdin.take();
        Exchange { child, stdin, ready, stdout, stderr: Some(stderr) }
    }

    /// An address that it is bound to.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.ready[name].parse().unwrap()
    }

    /// Lets an exchange begin that was started with `--wait-for stdin`.
    pub fn begin(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Ends it with the signal of Ctrl-C.
    pub fn interrupt(&self) {
        self.child.signal(Signal::SIGINT);
    }

    /// Waits for its end; returns its summary.
    pub fn report(mut self) -> Value {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        let log = self.stderr.take().unwrap().join().unwrap();
        assert!(status.success(), "{status}: {log}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{log}"))
    }
}

/// A group and port that no other test uses, on loopback: an argument for `--to`.
pub fn loopback_group() -> String {
    // The bound port keeps other sockets away until the test has its own.
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("239.{}.{high}.{low}:{port}@lo", 192 + port % 4)
}

/// A socket that has joined the group of a `--to` argument, on loopback, with as much buffer as allowed.
pub fn join(target: &str) -> UdpSocket {
    let group: SocketAddrV4 = target.split('@').next().unwrap().parse().unwrap();
    // Bound to the group, so that packets to other groups on the same port stay out.
    let socket = UdpSocket::bind(group).unwrap();
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::LOCALHOST).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Receives packets on a thread of its own, from now until the end of the session.
pub fn receive_until_end(socket: UdpSocket) -> JoinHandle<Vec<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut packets = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let packet = receive(&socket);
            let kind = Packet::parse(&packet).unwrap().kind();
            packets.push(packet);
            if kind == Kind::EndOfSession {
                return packets;
            }
            assert!(Instant::now() < deadline, "no end of the session");
        }
    })
}

/// Receives one packet.
pub fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

/// Receives one packet, if it comes within a moment.
pub fn receive_soon(socket: &UdpSocket) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut bytes = vec![0; 65_536];
    let len = socket.recv(&mut bytes).ok();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    len.map(|len| {
        bytes.truncate(len);
        bytes
    })
}

/// The messages of packets with their numbers, in the order in which they came.
pub fn messages(packets: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
    let mut messages = Vec::new();
    for packet in packets {
        for message in Packet::parse(packet).unwrap().messages() {
            let (seq, _, bytes) = message.unwrap();
            messages.push((seq, bytes.to_vec()));
        }
    }
    messages
}

/// The messages of a BinaryFILE with their numbers.
pub fn file_messages(path: &std::path::Path) -> Vec<(u64, Vec<u8>)> {
    use fanblade_feed::{Event, Feed as _, FileFeed, Poll, pace::Pace};
    let mut feed = FileFeed::open(path, Pace::Unpaced).unwrap();
    let mut messages = Vec::new();
    while feed
        .poll(UnixNs(0), &mut |event| {
            if let Event::Message { seq, bytes, .. } = event {
                messages.push((seq, bytes.to_vec()));
            }
        })
        .unwrap()
        != Poll::Finished
    {}
    messages
}
