//! Accepts: single-shot, each with a slot of its own choosing and a buffer for the peer's address.
//!
//! Not multishot with slots chosen by the kernel, which can tell no addresses, and which accepts and at once closes a
//! connection when the table is full; ours stay in the backlog until there is room.

use crate::limits::URING_ACCEPTS_MAX;

/// The accepts of one ring that are under way: a number (its address buffer) and a reserved slot for each.
pub(super) struct Accepts {
    slots: [Option<u32>; URING_ACCEPTS_MAX],
    outstanding: usize,
}

impl Accepts {
    pub(super) fn new() -> Accepts {
        Accepts { slots: [None; URING_ACCEPTS_MAX], outstanding: 0 }
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Reserves a number for an accept into `slot`, if there is one left.
    pub(super) fn begin(&mut self, slot: u32) -> Option<usize> {
        let accept = self.slots.iter().position(Option::is_none)?;
        self.slots[accept] = Some(slot);
        self.outstanding += 1;
        Some(accept)
    }

    /// The accept is over, one way or another; returns its slot.
    pub(super) fn end(&mut self, accept: usize) -> Option<u32> {
        let slot = self.slots.get_mut(accept)?.take()?;
        self.outstanding -= 1;
        Some(slot)
    }

    /// The numbers of the accepts under way.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter_map(|(accept, slot)| slot.map(|_| accept))
    }
}
