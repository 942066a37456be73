//! GLIMPSE 5.0: a book as it is now, for who comes late.
//!
//! A client logs in by SoupBinTCP and is sent the ITCH messages that make today's books, then one message `G` with a
//! number: the multicast's messages from that number on are not in the snapshot, all before are.
//!
//! ```text
//! end of snapshot, 21 bytes
//!  0 type      `G`
//!  1 sequence  20 digits, padded with spaces
//! ```
//! Source: "GLIMPSE for TotalView-ITCH", version 5.0, Nasdaq.

mod snapshot;

pub use snapshot::{Progress, Snapshot, SnapshotConfig, SnapshotError};

use crate::soupbintcp::{digits, parse_digits};

/// How long the message is that ends a snapshot.
pub const END_OF_SNAPSHOT_LEN: usize = 21;

/// The message that ends a snapshot: message `sequence` is the first that is not in it.
pub fn end_of_snapshot(sequence: u64) -> [u8; END_OF_SNAPSHOT_LEN] {
    let mut message = [b'G'; END_OF_SNAPSHOT_LEN];
    if let Some(place) = message.last_chunk_mut::<20>() {
        *place = digits(sequence);
    }
    message
}

/// The number in the message that ends a snapshot, wherever its padding is; none if it has none. No message of ITCH
/// has the type `G`.
pub fn parse_end_of_snapshot(message: &[u8]) -> Option<u64> {
    let field = message.strip_prefix(b"G").filter(|field| field.len() == END_OF_SNAPSHOT_LEN - 1)?;
    parse_digits(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_snapshot() {
        assert_eq!(&end_of_snapshot(1_234), b"G                1234");
        assert_eq!(&end_of_snapshot(u64::MAX), b"G18446744073709551615");
        for sequence in [0, 1, 1_234, u64::MAX] {
            assert_eq!(parse_end_of_snapshot(&end_of_snapshot(sequence)), Some(sequence));
        }
        assert_eq!(parse_end_of_snapshot(b"G1234                "), Some(1_234), "padded on the right");
        assert_eq!(parse_end_of_snapshot(b"G00000000000000001234"), Some(1_234));
        let wrong: [&[u8]; 6] =
            [b"", b"G", b"G1", b"S                1234", b"G                    ", b"G               -1234"];
        for wrong in wrong {
            assert_eq!(parse_end_of_snapshot(wrong), None);
        }
    }
}
