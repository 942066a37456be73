//! nats-server with its WebSocket listener. Subscribers speak NATS over WebSocket, the publisher NATS over TCP.
//!
//! Best configuration that we know: no TLS and no compression, as for all; no pings, because the swarm does not answer
//! NATS's own; a generous write deadline and outbox, so that nobody is dropped as a slow consumer. Go takes as many
//! threads as it has CPUs; its collector runs seldom (GOGC), which is less CPU for more memory.

use std::net::SocketAddrV4;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::process::{self, Line, Process};
use super::{Manners, Server};
use crate::scenario::definition::Scenario;
use crate::scenario::publisher::Outlet;

pub(super) struct Nats {
    process: Process,
    /// Of the WebSocket listener, and of NATS's own.
    addr: SocketAddrV4,
    publisher_addr: SocketAddrV4,
    version: String,
}

impl Nats {
    pub(super) fn start(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Nats> {
        let program = process::find("nats-server", INSTALL)?;
        process::check_descriptors(scenario)?;
        let (addr, publisher_addr) = (process::free_addr()?, process::free_addr()?);
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("nats.conf");
        let (port, websocket_port) = (publisher_addr.port(), addr.port());
        std::fs::write(&path, format!("port: {port}\n{CONFIGURATION}  port: {websocket_port}\n}}\n"))?;
        let version = process::version(&program, "--version");
        let mut command = Command::new(program);
        command.arg("--config").arg(path).env("GOGC", GOGC);
        let process = Process::start(command, directory, cpus, addr, Signal::SIGKILL)?;
        Ok(Nats { process, addr, publisher_addr, version })
    }
}

impl Server for Nats {
    fn manners(&self) -> Manners {
        let subscribe = r#"CONNECT {"verbose":false,"pedantic":false}\r\nSUB K.{subject:06}.v 1\r\nPING\r\n"#;
        Manners {
            addr: self.addr,
            target: "/".to_owned(),
            protocol: None,
            subscribe: vec![subscribe.to_owned()],
            is_binary: true,
            preamble: r"text:PONG\r\n".to_owned(),
            joins_messages: true,
        }
    }

    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>> {
        let complaint = |heard: &[u8]| memchr::memmem::find(heard, b"-ERR").is_some();
        let mut line = Line::connect(self.publisher_addr, complaint)?;
        line.pending.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
        line.flush()?;
        line.await_text(b"PONG\r\n")?;
        Ok(Box::new(Publisher(line)))
    }

    fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    fn counters(&mut self) -> anyhow::Result<Value> {
        Ok(self.process.counters())
    }

    fn configuration(&self) -> Value {
        json!({"version": self.version, "gogc": GOGC, "file": CONFIGURATION.lines().collect::<Vec<_>>()})
    }

    fn kill(&mut self) {
        self.process.kill();
    }
}

struct Publisher(Line);

impl Outlet for Publisher {
    fn publish(&mut self, subject: u32, payload: &[u8]) -> anyhow::Result<()> {
        let out = &mut self.0.pending;
        out.extend_from_slice(format!("PUB K.{subject:06}.v {}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.0.flush()
    }
}

const INSTALL: &str = "apt-get install -y --no-install-recommends nats-server";
const GOGC: &str = "400";
/// The ports and the last brace come on top.
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
