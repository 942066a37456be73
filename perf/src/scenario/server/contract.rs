//! A server that keeps a small contract, whoever wrote it: the broadcast server of [`super::tungstenite`], and a
//! program of the user's (`--peer-path`), uWebSockets for one.
//!
//! It is started as `PROGRAM PORT SUBJECTS`, and listens for WebSocket clients on 127.0.0.1:PORT until it is killed.
//!
//! - A client at `/NUMBER` (0 to SUBJECTS - 1, decimal) subscribes to that subject from its upgrade on. It gets each
//!   message of it as a text message, and says nothing itself. Pings are unwanted.
//! - A client at `/publish` is the publisher. Each of its binary messages is the number of a subject, four bytes,
//!   little endian, and the message for its subscribers, which is UTF-8.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use fanblade_wire::client::{KEY, UpgradeRequest, write_frame};
use fanblade_wire::frame::Opcode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::process::{self, Line, Process};
use super::{Manners, Server};
use crate::scenario::definition::Scenario;
use crate::scenario::publisher::Outlet;

pub(super) struct Contract {
    process: Process,
    addr: SocketAddrV4,
    configuration: Value,
}

impl Contract {
    /// The broadcast server of our own writing.
    pub(super) fn tungstenite(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Contract> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("tungstenite");
        Self::start(command, scenario, cpus, super::tungstenite::configuration(cpus))
    }

    /// A program of the user's.
    pub(super) fn program(path: &Path, scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Contract> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::start(Command::new(path), scenario, cpus, json!({"program": name}))
    }

    fn start(
        mut command: Command,
        scenario: &Scenario,
        cpus: &[usize],
        configuration: Value,
    ) -> anyhow::Result<Contract> {
        process::check_descriptors(scenario)?;
        let addr = process::free_addr()?;
        command.args([addr.port().to_string(), scenario.subjects.to_string()]);
        let process = Process::start(command, tempfile::tempdir()?, cpus, addr, Signal::SIGKILL)?;
        Ok(Contract { process, addr, configuration })
    }
}

impl Server for Contract {
    fn manners(&self) -> Manners {
        Manners {
            addr: self.addr,
            target: "/{subject}".to_owned(),
            protocol: None,
            subscribe: Vec::new(),
            is_binary: false,
            preamble: "0".to_owned(),
            joins_messages: false,
        }
    }

    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>> {
        let mut line = Line::connect(self.addr, |heard| heard.starts_with(b"HTTP/1.1 4"))?;
        let host = self.addr.to_string();
        UpgradeRequest { host: &host, target: "/publish", key: KEY, protocol: None, token: None }
            .write(&mut line.pending);
        line.flush()?;
        line.await_text(b"\r\n\r\n")?;
        Ok(Box::new(Publisher { line, message: Vec::new() }))
    }

    fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    fn counters(&mut self) -> anyhow::Result<Value> {
        Ok(self.process.counters())
    }

    fn configuration(&self) -> Value {
        self.configuration.clone()
    }

    fn kill(&mut self) {
        self.process.kill();
    }
}

struct Publisher {
    line: Line,
    message: Vec<u8>,
}

impl Outlet for Publisher {
    fn publish(&mut self, subject: u32, payload: &[u8]) -> anyhow::Result<()> {
        self.message.clear();
        self.message.extend_from_slice(&subject.to_le_bytes());
        self.message.extend_from_slice(payload);
        write_frame(&mut self.line.pending, Opcode::Binary, MASK, &self.message);
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.line.flush()
    }
}

/// Nobody is between who could be misled by what he reads.
const MASK: [u8; 4] = [0; 4];
