//! Bytes and records in shared words.
//!
//! A reader may copy while the writer overwrites, so both sides touch the memory only as whole atomic words: a frame
//! that begins or ends within a word shares it with its neighbour, whose bytes the (only) writer writes back as they
//! were.

use crate::LanePosition;
use crate::sync::{Ordering, WORD_BYTES, Word};

/// Writes `bytes` at `position` of a lane, wrapping at its end. The lane's length is a power of two.
pub(crate) fn store_bytes(lane: &[Word], position: LanePosition, bytes: &[u8]) {
    let (mut index, within) = place(lane, position);
    let (first, rest) = bytes.split_at(bytes.len().min((WORD_BYTES - within) % WORD_BYTES));
    if !first.is_empty() {
        merge(&lane[index], within, first);
        index = (index + 1) & (lane.len() - 1);
    }
    let (words, last) = rest.as_chunks::<WORD_BYTES>();
    let (before, after) = words.split_at(words.len().min(lane.len() - index));
    // Two plain loops, which the compiler unrolls; one over a chained iterator it does not.
    store_words(&lane[index..], before);
    store_words(lane, after);
    if !last.is_empty() {
        merge(&lane[(index + words.len()) & (lane.len() - 1)], 0, last);
    }
}

/// Appends `len` bytes from `position` of a lane to `out`.
pub(crate) fn load_bytes(lane: &[Word], position: LanePosition, len: usize, out: &mut Vec<u8>) {
    let (mut index, within) = place(lane, position);
    let start = out.len();
    out.resize(start + len, 0);
    let (first, rest) = out[start..].split_at_mut(len.min((WORD_BYTES - within) % WORD_BYTES));
    if !first.is_empty() {
        part(&lane[index], within, first);
        index = (index + 1) & (lane.len() - 1);
    }
    let (words, last) = rest.as_chunks_mut::<WORD_BYTES>();
    let count = words.len();
    let (before, after) = words.split_at_mut(count.min(lane.len() - index));
    load_words(&lane[index..], before);
    load_words(lane, after);
    if !last.is_empty() {
        part(&lane[(index + count) & (lane.len() - 1)], 0, last);
    }
}

/// Writes a record, and then the stamp that says whose it is.
pub(crate) fn store_record<const N: usize>(fields: &[Word], stamp: &Word, record: &[u64; N], stamp_value: u64) {
    for (word, value) in fields.iter().zip(record) {
        word.store(*value, Ordering::Relaxed);
    }
    stamp.store(stamp_value, Ordering::Release);
}

/// Reads the fields of a record. Whether they belong together, only its stamp (before) and the lap check (after) can
/// tell.
pub(crate) fn load_record<const N: usize>(fields: &[Word]) -> [u64; N] {
    let mut record = [0; N];
    for (value, word) in record.iter_mut().zip(fields) {
        *value = word.load(Ordering::Relaxed);
    }
    record
}

fn store_words(target: &[Word], words: &[[u8; WORD_BYTES]]) {
    for (word, value) in target.iter().zip(words) {
        word.store(u64::from_ne_bytes(*value), Ordering::Relaxed);
    }
}

fn load_words(source: &[Word], words: &mut [[u8; WORD_BYTES]]) {
    for (value, word) in words.iter_mut().zip(source) {
        *value = word.load(Ordering::Relaxed).to_ne_bytes();
    }
}

fn place(lane: &[Word], position: LanePosition) -> (usize, usize) {
    let offset = position.place(lane.len() * WORD_BYTES);
    (offset / WORD_BYTES, offset % WORD_BYTES)
}

fn merge(word: &Word, within: usize, bytes: &[u8]) {
    let mut value = word.load(Ordering::Relaxed).to_ne_bytes();
    value[within..within + bytes.len()].copy_from_slice(bytes);
    word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
}

fn part(word: &Word, within: usize, bytes: &mut [u8]) {
    bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()[within..within + bytes.len()]);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{LanePosition, Word, load_bytes, store_bytes};

    #[test]
    fn every_position_and_length_reads_back_and_leaves_the_neighbours_alone() {
        for position in (100..140).map(LanePosition) {
            for len in 0..=32_usize {
                let lane: Vec<Word> = (0..4).map(|_| Word::new(0)).collect();
                store_bytes(&lane, LanePosition(96), &[0xEE; 32]);
                let bytes: Vec<u8> = (1..).take(len).collect();
                store_bytes(&lane, position, &bytes);
                let mut out = vec![7];
                load_bytes(&lane, position, 32, &mut out);
                let mut expected = vec![7];
                expected.extend(&bytes);
                expected.resize(33, 0xEE);
                assert_eq!(out, expected, "position {position}, {len} bytes");
            }
        }
    }
}
