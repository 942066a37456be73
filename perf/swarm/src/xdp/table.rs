//! The subscribers' entries, shared with the program.
//!
//! Who writes: we write `sent` and `state` before we send the packet that they describe; the program writes everything
//! when the server answers that packet. The packet comes after our stores and before the program's loads, so relaxed
//! order is enough.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;

use fanblade_swarm_abi::Subscriber;

use super::sys::{Mapping, Shared};

pub(super) struct Table(Mapping);

impl Table {
    pub(super) fn map(fd: BorrowedFd<'_>, len: u32) -> std::io::Result<Table> {
        Mapping::new(fd, len as usize).map(Table)
    }

    pub(super) fn read(&self, client: u32) -> Subscriber {
        read(&self.0.entries()[client as usize])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Subscriber> + '_ {
        self.0.entries().iter().map(read)
    }

    /// Sets the state that the packet sent next will bring about.
    pub(super) fn enter(&self, client: u32, state: u8) {
        self.0.entries()[client as usize].state.store(state, Relaxed);
    }

    /// Sets how far we have sent, including the packet sent next.
    pub(super) fn sent(&self, client: u32, sent: u32) {
        self.0.entries()[client as usize].sent.store(sent, Relaxed);
    }

    /// Marks that there is no connection.
    pub(super) fn clear(&self, client: u32) {
        let entry = &self.0.entries()[client as usize];
        entry.state.store(0, Relaxed);
        for word in [&entry.next, &entry.sent, &entry.left, &entry.last, &entry.first, &entry.newest, &entry.messages] {
            word.store(0, Relaxed);
        }
        for byte in [&entry.flags, &entry.heard, &entry.kept] {
            byte.store(0, Relaxed);
        }
    }
}

fn read(entry: &Shared) -> Subscriber {
    Subscriber {
        next: entry.next.load(Relaxed),
        sent: entry.sent.load(Relaxed),
        left: entry.left.load(Relaxed),
        last: entry.last.load(Relaxed),
        first: entry.first.load(Relaxed),
        newest: entry.newest.load(Relaxed),
        messages: entry.messages.load(Relaxed),
        state: entry.state.load(Relaxed),
        flags: entry.flags.load(Relaxed),
        heard: entry.heard.load(Relaxed),
        kept: entry.kept.load(Relaxed),
    }
}
