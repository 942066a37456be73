//! Room for the packets of one system call.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::sys::{Heads, Meta};
use crate::limits::{DATAGRAM_BATCH_LEN, DATAGRAM_LEN_MAX};

/// Buffers for [`DATAGRAM_BATCH_LEN`] packets, made once.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    heads: Heads,
}

/// A packet, lent from the batch.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its payload.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// When the kernel took it, Unix nanoseconds; none where it did not say.
    pub received_ns: Option<u64>,
}

/// A packet, with what the kernel says of it to the socket.
pub(super) struct Received<'a> {
    pub(super) datagram: Datagram<'a>,
    pub(super) is_truncated: bool,
    /// The kernel's count of dropped packets when this one was queued; none while there are none.
    pub(super) drops: Option<u32>,
}

impl Batch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self { bytes: vec![0; DATAGRAM_BATCH_LEN * DATAGRAM_LEN_MAX].into(), heads: Heads::new() }
    }

    /// Receives without waiting: the number of packets, or the errno.
    pub(super) fn fill(&mut self, fd: BorrowedFd<'_>) -> Result<usize, i32> {
        self.heads.receive(fd, &mut self.bytes)
    }

    /// The first `count` packets of the last call.
    pub(super) fn packets(&self, count: usize) -> impl Iterator<Item = Received<'_>> {
        self.bytes.chunks_exact(DATAGRAM_LEN_MAX).enumerate().take(count).map(|(index, buffer)| {
            let Meta { len, source, is_truncated, received_ns, drops } = self.heads.meta(index);
            let bytes = buffer.get(..len).unwrap_or(buffer);
            Received { datagram: Datagram { bytes, source, received_ns }, is_truncated, drops }
        })
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
