//! Packets that wait for what comes before them.

use std::collections::VecDeque;

use crate::UnixNs;

/// Packets in the order of their numbers, in memory that was taken once. A packet lies in blocks of [`BLOCK_LEN`]
/// bytes, so that short ones do not cost what the longest would.
#[derive(Debug)]
pub(super) struct Window {
    held: VecDeque<Held>,
    /// Blocks that have not been used yet are untouched memory, which costs nothing.
    bytes: Vec<u8>,
    /// For each block in use the next one of its packet, for each free one the next free one.
    next: Vec<u32>,
    free: u32,
    used: usize,
    /// The packet that is being passed on.
    packet: Vec<u8>,
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// The numbers for which it is held. It may have more, before and after, which are there already.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) received_ns: UnixNs,
    /// The number of its messages.
    pub(super) messages: u16,
    block: u32,
    len: u32,
}

impl Window {
    /// A window of so many bytes, at least one packet's.
    pub(super) fn new(bytes_max: usize) -> Self {
        let blocks = bytes_max.div_ceil(BLOCK_LEN).clamp(PACKET_BLOCKS_MAX, NONE as usize);
        Self {
            // A packet takes a block at least.
            held: VecDeque::with_capacity(blocks),
            bytes: vec![0; blocks * BLOCK_LEN],
            next: vec![0; blocks],
            free: NONE,
            used: 0,
            packet: Vec::with_capacity(PACKET_LEN_MAX),
        }
    }

    pub(super) fn first(&self) -> Option<&Held> {
        self.held.front()
    }

    pub(super) fn last(&self) -> Option<&Held> {
        self.held.back()
    }

    /// Is there a place for a packet of so many bytes?
    pub(super) fn fits(&self, len: usize) -> bool {
        self.next.len() - self.used >= blocks_of(len) && len <= PACKET_LEN_MAX
    }

    /// Holds a packet for the numbers `from..to`, none of which another is held for. It must fit.
    pub(super) fn insert(&mut self, (from, to): (u64, u64), messages: u16, received_ns: UnixNs, packet: &[u8]) {
        let mut block = NONE;
        // The last part comes first, so that each block knows its successor.
        for part in packet.chunks(BLOCK_LEN).rev() {
            let own = self.take_block();
            let start = own as usize * BLOCK_LEN;
            if let (Some(place), Some(next)) =
                (self.bytes.get_mut(start..start + part.len()), self.next.get_mut(own as usize))
            {
                place.copy_from_slice(part);
                *next = block;
            }
            block = own;
        }
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let at = self.held.partition_point(|held| held.from < from);
        self.held.insert(at, Held { from, to, received_ns, messages, block, len });
    }

    /// Takes out the first packet, and lends it.
    pub(super) fn pop_first(&mut self) -> Option<(Held, &[u8])> {
        let held = self.held.pop_front()?;
        self.packet.clear();
        let (mut block, mut left) = (held.block, held.len as usize);
        while left > 0 {
            let (start, len) = (block as usize * BLOCK_LEN, left.min(BLOCK_LEN));
            self.packet.extend_from_slice(self.bytes.get(start..start + len)?);
            block = *self.next.get(block as usize)?;
            left -= len;
        }
        self.release(&held);
        Some((held, &self.packet))
    }

    /// Drops the last packet.
    pub(super) fn pop_last(&mut self) -> Option<Held> {
        let held = self.held.pop_back()?;
        self.release(&held);
        Some(held)
    }

    /// Drops the packets held for numbers within `from..to`, and returns how many messages they had.
    pub(super) fn remove_within(&mut self, from: u64, to: u64) -> u64 {
        let at = self.held.partition_point(|held| held.from < from);
        let mut messages = 0;
        while let Some(held) = self.held.get(at).filter(|held| held.from < to).copied() {
            self.held.remove(at);
            self.release(&held);
            messages += u64::from(held.messages);
        }
        messages
    }

    /// Drops the packets that are held for numbers from `end` on, and returns how many messages they had.
    pub(super) fn retract(&mut self, end: u64) -> u64 {
        let mut messages = 0;
        while self.last().is_some_and(|last| last.from >= end) {
            messages += self.pop_last().map_or(0, |last| u64::from(last.messages));
        }
        messages
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        (self.free, self.used) = (NONE, 0);
    }

    /// A free block; there is one, or the packet would not fit.
    fn take_block(&mut self) -> u32 {
        self.used += 1;
        match self.next.get(self.free as usize) {
            Some(next) => std::mem::replace(&mut self.free, *next),
            None => self.untouched(),
        }
    }

    /// The blocks below this have been used, since none was free.
    fn untouched(&mut self) -> u32 {
        u32::try_from(self.used - 1).unwrap_or(NONE)
    }

    fn release(&mut self, held: &Held) {
        let mut block = held.block;
        for _ in 0..blocks_of(held.len as usize) {
            let Some(next) = self.next.get_mut(block as usize) else { return };
            let after = std::mem::replace(next, self.free);
            self.free = block;
            self.used -= 1;
            block = after;
        }
    }
}

fn blocks_of(len: usize) -> usize {
    len.div_ceil(BLOCK_LEN)
}

/// Three make an Ethernet packet.
const BLOCK_LEN: usize = 512;
/// What UDP allows.
const PACKET_LEN_MAX: usize = 65_535;
const PACKET_BLOCKS_MAX: usize = PACKET_LEN_MAX.div_ceil(BLOCK_LEN);
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What goes in comes out, in order, until it is dropped; and blocks are neither lost nor shared.
        #[test]
        fn packets_come_out_as_they_went_in(
            steps in prop::collection::vec((0..8_u8, 1..200_u64, 0..3_000_usize), 1..200),
        ) {
            let mut window = Window::new(1);
            let mut model = std::collections::BTreeMap::<u64, Vec<u8>>::new();
            for (index, (what, number, len)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        let popped = window.pop_first().map(|(held, bytes)| (held.from, bytes.to_vec()));
                        prop_assert_eq!(popped, model.pop_first());
                    }
                    1 => prop_assert_eq!(window.pop_last().map(|held| held.from), model.pop_last().map(|(from, _)| from)),
                    2 => {
                        let count = window.remove_within(number, number + 10);
                        let before = model.len();
                        model.retain(|from, _| !(number..number + 10).contains(from));
                        prop_assert_eq!(count, (before - model.len()) as u64);
                    }
                    3 if number < 20 => {
                        window.clear();
                        model.clear();
                    }
                    _ => {
                        let blocks: usize = model.values().map(|bytes| blocks_of(bytes.len())).sum();
                        prop_assert_eq!(window.fits(len), blocks + blocks_of(len) <= PACKET_BLOCKS_MAX);
                        if window.fits(len) && !model.contains_key(&number) {
                            let bytes = vec![index.to_le_bytes()[0]; len];
                            window.insert((number, number + 1), 1, UnixNs(0), &bytes);
                            model.insert(number, bytes);
                        }
                    }
                }
            }
            while let Some((held, bytes)) = window.pop_first() {
                prop_assert_eq!(model.pop_first(), Some((held.from, bytes.to_vec())));
            }
            prop_assert!(model.is_empty() && window.used == 0);
        }
    }
}
