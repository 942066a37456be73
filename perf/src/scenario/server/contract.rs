//! A server that keeps a small contract, whoever wrote it: the broadcast server of [`super::tungstenite`], and a
//! program of the user's (`--peer-path`), uWebSockets for one.
//!
//! It is started as `PROGRAM PORT SUBJECTS`, and listens for WebSocket clients on 127.0.0.1:PORT until it is killed.
//!
//! - A client at `/NUMBER` (0 to SUBJECTS - 1, decimal) subscribes to that subject from its upgrade on, one at
//!   `/NUMBER,NUMBER,…` to all of these. The client gets each message of them as a text message, and says nothing
//!   itself. The server should send no pings.
//! - A client at `/publish` is the publisher. Each of its binary messages is the number of a subject, four bytes,
//!   little endian, and the message for its subscribers, which is UTF-8.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use fanblade_wire::client::{KEY, UpgradeRequest, write_frame};
use fanblade_wire::frame::Opcode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Manners;
use super::peer::{Peer, Publisher};
use super::process::{self, Line, Process};
use crate::scenario::definition::Scenario;

/// The broadcast server that we have written.
pub(super) fn tungstenite(scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Peer> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("tungstenite");
    start(command, scenario, cpus, super::tungstenite::configuration(cpus))
}

/// A program of the user's.
pub(super) fn program(path: &Path, scenario: &Scenario, cpus: &[usize]) -> anyhow::Result<Peer> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    start(Command::new(path), scenario, cpus, json!({"program": name}))
}

fn start(mut command: Command, scenario: &Scenario, cpus: &[usize], configuration: Value) -> anyhow::Result<Peer> {
    process::check_descriptors(scenario)?;
    let addr = process::free_addr()?;
    command.args([addr.port().to_string(), scenario.subjects.to_string()]);
    let process = Process::start(command, cpus, addr, Signal::SIGKILL)?;
    let manners = Manners::plain(addr, subscriber_target(scenario));
    Ok(Peer { process, manners, configuration, publisher_addr: addr, connect })
}

/// The address of a subscriber.
pub(super) fn subscriber_target(scenario: &Scenario) -> &'static str {
    if scenario.watchlists.is_some() { "/{subjects|{subject}|}" } else { "/{subject}" }
}

fn connect(addr: SocketAddrV4) -> anyhow::Result<Publisher> {
    let mut line = Line::connect(addr, |heard| heard.starts_with(b"HTTP/1.1 4"))?;
    let host = addr.to_string();
    UpgradeRequest { host: &host, target: "/publish", key: KEY, protocol: None, token: None }.write(&mut line.pending);
    line.flush()?;
    line.await_text(b"\r\n\r\n")?;
    Ok(Publisher { line, write })
}

fn write(out: &mut Vec<u8>, subject: u32, payload: &[u8]) {
    let message = [&subject.to_le_bytes(), payload].concat();
    write_frame(out, Opcode::Binary, MASK, &message);
}

/// Zeros: there is nobody in between whom the bytes could mislead.
const MASK: [u8; 4] = [0; 4];
