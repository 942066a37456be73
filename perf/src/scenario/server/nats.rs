//! nats-server with its WebSocket listener. Subscribers speak NATS over WebSocket, the publisher NATS over TCP.
//!
//! The best configuration that we know: no TLS and no compression, as for all; no pings, because the swarm does not
//! answer NATS's own; a generous write deadline and outbox, so that nobody is dropped as a slow consumer. Go takes as
//! many threads as it has CPUs; its collector runs seldom (GOGC), which costs less CPU and more memory.

use std::net::SocketAddrV4;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use super::Manners;
use super::peer::{Peer, Publisher};
use super::process::{self, Line, Process};
use crate::scenario::definition::Scenario;

pub(super) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Peer> {
    let program = process::find("nats-server", INSTALL)?;
    process::check_descriptors(scenario)?;
    // Addresses of the WebSocket listener, and of NATS's own.
    let (addr, publisher_addr) = (process::free_addr()?, process::free_addr()?);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("nats.conf");
    let (port, websocket_port) = (publisher_addr.port(), addr.port());
    std::fs::write(&path, format!("port: {port}\n{CONFIGURATION}  port: {websocket_port}\n}}\n"))?;
    let version = process::version(&program, "--version");
    let mut command = Command::new(program);
    command.arg("--config").arg(path).env("GOGC", GOGC);
    let process = Process::start(command, cpus, addr, Signal::SIGKILL)?;
    let subscribe = r#"CONNECT {"verbose":false,"pedantic":false}\r\nSUB K.{subject:06}.v 1\r\nPING\r\n"#;
    let manners = Manners {
        subscribe: vec![subscribe.to_owned()],
        is_binary: true,
        preamble: r"text:PONG\r\n".to_owned(),
        joins_messages: true,
        change: None,
        ..Manners::plain(addr, "/")
    };
    let configuration = json!({"version": version, "gogc": GOGC, "file": CONFIGURATION.lines().collect::<Vec<_>>()});
    Ok(Peer { process, manners, configuration, publisher_addr, connect })
}

fn connect(addr: SocketAddrV4) -> anyhow::Result<Publisher> {
    let complaint = |heard: &[u8]| memchr::memmem::find(heard, b"-ERR").is_some();
    let mut line = Line::connect(addr, complaint)?;
    line.pending.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
    line.flush()?;
    line.await_text(b"PONG\r\n")?;
    Ok(Publisher { line, write })
}

fn write(out: &mut Vec<u8>, subject: u32, payload: &[u8]) {
    out.extend_from_slice(format!("PUB K.{subject:06}.v {}\r\n", payload.len()).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

const INSTALL: &str = "apt-get install -y --no-install-recommends nats-server";
const GOGC: &str = "400";
/// The ports and the last brace are added.
const CONFIGURATION: &str = r#"host: "127.0.0.1"
max_connections: 1000000
max_pending: 1GB
write_deadline: "60s"
ping_interval: "24h"
websocket {
  host: "127.0.0.1"
  no_tls: true
  compression: false
  handshake_timeout: "60s"
"#;
