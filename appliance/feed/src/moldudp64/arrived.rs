//! Packets as they come in, by whichever way.

use std::net::SocketAddr;

use crate::UnixNs;

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The line with this index.
    Line(usize),
    /// The re-request server with this index.
    Server(usize),
}

/// A packet as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// The way by which it came.
    pub origin: Origin,
    /// Who sent it.
    pub source: SocketAddr,
    /// Its payload.
    pub bytes: &'a [u8],
    /// When the kernel took it.
    pub received_ns: UnixNs,
}
