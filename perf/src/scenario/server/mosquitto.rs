//! mosquitto: MQTT 3.1.1 over WebSocket to subscribers, over TCP from the publisher; quality of service 0.
//!
//! The best configuration that we know: nothing kept on disk, no $SYS topics, no limit on what waits for a client, no
//! keepalive, logs of errors only. It has one thread.

use std::net::SocketAddrV4;
use std::process::Command;

use anyhow::Context as _;
use fanblade_wire::client::{KEY, UpgradeRequest};
use nix::sys::signal::Signal;
use serde_json::json;

use super::Manners;
use super::peer::{Peer, Publisher};
use super::process::{self, Line, Process};
use crate::scenario::definition::Scenario;
use crate::scenario::message;

pub(super) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Peer> {
    let program = process::find("mosquitto", INSTALL)?;
    process::check_descriptors(scenario)?;
    // Addresses of the WebSocket listener, and of MQTT's own.
    let (addr, publisher_addr) = (process::free_addr()?, process::free_addr()?);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("mosquitto.conf");
    let user = if nix::unistd::geteuid().is_root() { "user root\n" } else { "" };
    // The WebSocket listener takes the name of an interface, not an address.
    let listeners =
        format!("listener {} 127.0.0.1\nlistener {} lo\nprotocol websockets\n", publisher_addr.port(), addr.port());
    std::fs::write(&path, format!("{user}{CONFIGURATION}{listeners}"))?;
    let version = process::version(&program, "-h");
    let mut command = Command::new(program);
    command.arg("-c").arg(path);
    let process = Process::start(command, cpus, addr, Signal::SIGKILL)
        .with_context(|| format!("{version} does not start with WebSockets; to get one that does: {BACKPORTS}"))?;
    upgrade(addr).with_context(|| {
        format!("{version} listens for WebSockets, but does not answer; to get one that does: {BACKPORTS}")
    })?;
    let manners = Manners {
        protocol: Some(PROTOCOL.to_owned()),
        // SUBSCRIBE, packet 1, to one topic of ten characters, with QoS 0.
        subscribe: vec![
            escaped(CONNECT),
            format!(r"\x82\x0f\x00\x01\x00\x0a{}\x00", message::SUBJECT.trim_start_matches('/')),
        ],
        is_binary: true,
        // SUBACK to packet 1, QoS 0 granted.
        preamble: r"text:\x90\x03\x00\x01\x00".to_owned(),
        joins_messages: true,
        change: None,
        ..Manners::plain(addr, TARGET)
    };
    let configuration = json!({"version": version, "file": CONFIGURATION.lines().collect::<Vec<_>>()});
    Ok(Peer { process, manners, configuration, publisher_addr, connect })
}

/// Fails if the build has no WebSockets, which a successful start does not tell.
fn upgrade(addr: SocketAddrV4) -> anyhow::Result<()> {
    let mut line = Line::connect(addr, |_| false)?;
    let host = addr.to_string();
    UpgradeRequest { host: &host, target: TARGET, key: KEY, protocol: Some(PROTOCOL), token: None }
        .write(&mut line.pending);
    line.flush()?;
    line.await_text(b"HTTP/1.1 101")
}

fn connect(addr: SocketAddrV4) -> anyhow::Result<Publisher> {
    let mut line = Line::connect(addr, |_| false)?;
    line.pending.extend_from_slice(CONNECT);
    line.flush()?;
    // CONNACK, accepted.
    line.await_text(&[0x20, 2, 0, 0])?;
    Ok(Publisher { line, write })
}

fn write(out: &mut Vec<u8>, subject: u32, payload: &[u8]) {
    let topic = message::subject(subject);
    let topic = topic.trim_start_matches('/');
    // PUBLISH (MQTT 3.1.1, section 3.3), its remaining length seven bits at a time (2.2.3).
    out.push(0x30);
    let mut left = 2 + topic.len() + payload.len();
    while left > 127 {
        out.push(left.to_le_bytes()[0] | 0x80);
        left >>= 7;
    }
    out.push(left.to_le_bytes()[0]);
    #[expect(clippy::cast_possible_truncation, reason = "a name of ours has some twenty bytes")]
    let topic_len = topic.len() as u16;
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
}

/// Bytes as the swarm's templates write them.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!(r"\x{byte:02x}")).collect()
}

const TARGET: &str = "/mqtt";
const PROTOCOL: &str = "mqtt";
/// CONNECT (section 3.1): MQTT 3.1.1, clean session, no keepalive, a client identifier of the server's choice.
const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
const INSTALL: &str = "apt-get install -y --no-install-recommends mosquitto";
/// Not every build in Debian 12 has WebSockets; the one in its backports has.
const BACKPORTS: &str = "echo 'deb http://deb.debian.org/debian bookworm-backports main' \
    > /etc/apt/sources.list.d/backports.list && apt-get update && \
    apt-get install -y --no-install-recommends -t bookworm-backports mosquitto";
const CONFIGURATION: &str = "allow_anonymous true
persistence false
sys_interval 0
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_dest stderr
log_type error
";
