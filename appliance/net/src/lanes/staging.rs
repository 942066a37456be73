//! Bytes to send, staged once for all lanes that send them.

use super::shared::Shared;
use crate::engine::IoSlices;

/// One packet's payload as it lies in the staged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its first word.
    pub slot: u32,
    /// Its length in bytes.
    pub len: u16,
    /// Its Internet sum, folded.
    pub sum: u16,
}

/// The staged bytes: a ring of words. What a lane may have to send again stays until `tail` passes it.
#[derive(Debug)]
pub struct Staging {
    words: Shared<u64>,
    /// Words staged since the start, the unused ones at the ring's end included.
    head: u64,
    /// The first word that is still needed, counted likewise.
    tail: u64,
    /// The list that `packets` are of, and the longest packet that they were cut for.
    staged: Option<(u64, u16)>,
    packets: Vec<Packet>,
}

/// A list that finds no room now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The sending program copies a payload in blocks of this many words, so that each begins and ends within the ring.
pub const BLOCK_WORDS: u32 = 8;

impl Staging {
    /// Stages into these words.
    #[must_use]
    pub fn new(words: Shared<u64>) -> Staging {
        Staging { words, head: 0, tail: 0, staged: None, packets: Vec::new() }
    }

    /// The packets of a list, each at most `len_max` bytes long. Staged at the first call for a list; those that follow
    /// cost nothing.
    ///
    /// # Errors
    /// [`Full`]: what was staged before is still needed.
    pub fn stage(&mut self, slices: &IoSlices, len_max: u16) -> Result<&[Packet], Full> {
        let wanted = (slices.stamp(), len_max);
        if self.staged != Some(wanted) {
            self.staged = None;
            self.packets.clear();
            let (head, mut done) = (self.head, 0);
            while done < slices.len_total() {
                let len = (slices.len_total() - done).min(usize::from(len_max));
                let Ok(packet) = self.copy(slices, done, len) else {
                    // What was copied already is no lane's.
                    self.head = head;
                    return Err(Full);
                };
                self.packets.push(packet);
                done += len;
            }
            self.staged = Some(wanted);
        }
        Ok(&self.packets)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a packet is at most 64 KiB long, the ring at most 2^32 words")]
    fn copy(&mut self, slices: &IoSlices, from: usize, len: usize) -> Result<Packet, Full> {
        let count = self.words.len() as u64;
        let needed = (len as u64).div_ceil(8).next_multiple_of(u64::from(BLOCK_WORDS));
        let at = self.head % count;
        // A packet lies in one piece.
        let skipped = if at + needed > count { count - at } else { 0 };
        if self.head + skipped + needed - self.tail > count {
            return Err(Full);
        }
        let start = (self.head + skipped) % count;
        let sum = self.words.gather(start as usize, slices, from, len);
        self.head += skipped + needed;
        Ok(Packet { slot: start as u32, len: len as u16, sum })
    }

    /// How far it has come: what was staged so far lies before this place.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// What was staged before `tail`, a former [`Self::head`], is not needed any more.
    pub fn release(&mut self, tail: u64) {
        debug_assert!(tail >= self.tail && tail <= self.head, "{tail} is no former head");
        self.tail = tail;
    }

    /// Forgets the list that was staged last: its memory may change now, and its bytes belong to this pass. To be
    /// called at the end of each.
    pub fn end_pass(&mut self) {
        self.staged = None;
    }

    /// Copies the bytes of a packet out.
    pub fn copy_out(&self, slot: u32, len: u16, into: &mut Vec<u8>) {
        self.words.copy_out(slot as usize, usize::from(len), into);
    }
}
