//! Bytes and records in shared words.
//!
//! A reader may copy while the writer overwrites, so both sides touch the memory only as whole atomic words: a frame that
//! begins or ends within a word shares it with its neighbour, whose bytes the (only) writer writes back as they were.

use crate::sync::{Ordering, WORD_BYTES, Word};

/// Writes `bytes` at `position` of a lane, wrapping at its end. The lane's length is a power of two.
pub(crate) fn store_bytes(lane: &[Word], position: u64, bytes: &[u8]) {
    let (mut index, within) = place(lane, position);
    let (first, rest) = bytes.split_at(bytes.len().min((WORD_BYTES - within) % WORD_BYTES));
    if !first.is_empty() {
        merge(&lane[index], within, first);
        index = (index + 1) & (lane.len() - 1);
    }
    let (words, last) = rest.as_chunks::<WORD_BYTES>();
    let before_wrap = words.len().min(lane.len() - index);
    for (word, value) in lane[index..].iter().chain(lane).zip(words) {
        word.store(u64::from_ne_bytes(*value), Ordering::Relaxed);
    }
    if !last.is_empty() {
        let end = if before_wrap == words.len() { index + words.len() } else { words.len() - before_wrap };
        merge(&lane[end & (lane.len() - 1)], 0, last);
    }
}

/// Appends `len` bytes from `position` of a lane to `out`.
pub(crate) fn load_bytes(lane: &[Word], position: u64, len: usize, out: &mut Vec<u8>) {
    let (index, within) = place(lane, position);
    let start = out.len();
    out.resize(start + len, 0);
    let (first, rest) = out[start..].split_at_mut(len.min((WORD_BYTES - within) % WORD_BYTES));
    let mut words = lane[index..].iter().chain(lane).map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    if !first.is_empty()
        && let Some(word) = words.next()
    {
        first.copy_from_slice(&word[within..within + first.len()]);
    }
    let (whole, last) = rest.as_chunks_mut::<WORD_BYTES>();
    for (target, word) in whole.iter_mut().zip(&mut words) {
        *target = word;
    }
    if !last.is_empty()
        && let Some(word) = words.next()
    {
        last.copy_from_slice(&word[..last.len()]);
    }
}

/// Writes a record, and then the stamp that says whose it is.
pub(crate) fn store_record<const N: usize>(fields: &[Word], stamp: &Word, record: &[u64; N], stamp_value: u64) {
    for (word, value) in fields.iter().zip(record) {
        word.store(*value, Ordering::Relaxed);
    }
    stamp.store(stamp_value, Ordering::Release);
}

/// Reads the fields of a record. Whether they belong together, only its stamp (before) and the lap check (after) can tell.
pub(crate) fn load_record<const N: usize>(fields: &[Word]) -> [u64; N] {
    let mut record = [0; N];
    for (value, word) in record.iter_mut().zip(fields) {
        *value = word.load(Ordering::Relaxed);
    }
    record
}

fn place(lane: &[Word], position: u64) -> (usize, usize) {
    debug_assert!(lane.len().is_power_of_two());
    let mask = (lane.len() * WORD_BYTES) as u64 - 1;
    let offset = (position & mask) as usize;
    (offset / WORD_BYTES, offset % WORD_BYTES)
}

fn merge(word: &Word, within: usize, bytes: &[u8]) {
    let mut value = word.load(Ordering::Relaxed).to_ne_bytes();
    value[within..within + bytes.len()].copy_from_slice(bytes);
    word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Word, load_bytes, store_bytes};

    #[test]
    fn every_position_and_length_reads_back_and_leaves_the_neighbours_alone() {
        for position in 100..140_u64 {
            for len in 0..=32_usize {
                let lane: Vec<Word> = (0..4).map(|_| Word::new(0)).collect();
                store_bytes(&lane, 96, &[0xEE; 32]);
                let bytes: Vec<u8> = (1..=len as u8).collect();
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
