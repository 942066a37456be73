//! A running server that is not ours: a process, what its subscribers say to it, and how messages are published to it.

use std::net::SocketAddrV4;

use serde_json::Value;

use super::process::{Line, Process};
use super::{Manners, Server};
use crate::scenario::publisher::Outlet;

pub(super) struct Peer {
    pub(super) process: Process,
    pub(super) manners: Manners,
    pub(super) configuration: Value,
    /// Where the server's publisher connects.
    pub(super) publisher_addr: SocketAddrV4,
    /// Opens the publisher's connection, and returns once it may publish.
    pub(super) connect: fn(SocketAddrV4) -> anyhow::Result<Publisher>,
}

/// A connection to a peer, and how it wants a message.
pub(super) struct Publisher {
    pub(super) line: Line,
    /// Appends a message with this payload for a subject to the bytes that are to be sent.
    pub(super) write: fn(&mut Vec<u8>, u32, &[u8]),
}

impl Server for Peer {
    fn manners(&self) -> Manners {
        self.manners.clone()
    }

    fn outlet(&mut self) -> anyhow::Result<Box<dyn Outlet>> {
        Ok(Box::new((self.connect)(self.publisher_addr)?))
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

impl Outlet for Publisher {
    fn publish(&mut self, subject: u32, payload: &[u8]) -> anyhow::Result<()> {
        (self.write)(&mut self.line.pending, subject, payload);
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.line.flush()
    }
}
