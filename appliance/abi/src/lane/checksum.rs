//! The Internet checksum (RFC 1071): ones' complement sums of 16-bit words.
//!
//! A sum is kept unfolded in 64 bits, of words as they lie in memory: a sum of words in network order, loaded in the
//! machine's order, is right after the same store (RFC 1071, 2B).

/// A sum in 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of bytes that begin at an even place. An odd last byte counts as if a zero followed.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum();
    sum + last.first().map_or(0, |last| u64::from(u16::from_ne_bytes([*last, 0])))
}

/// The sum of an address, IPv4 as v4-mapped IPv6: the mapping's `ffff` is zero in ones' complement and adds nothing.
#[inline(always)]
#[must_use]
pub const fn sum_of_address(address: &[u8; 16]) -> u64 {
    // Words of four bytes: folded, their sum is that of their halves.
    let mut sum = 0;
    let mut at = 0;
    while at < 16 {
        let word = [address[at], address[at + 1], address[at + 2], address[at + 3]];
        sum += u32::from_ne_bytes(word) as u64;
        at += 4;
    }
    sum
}

/// The folded sum of what all packets of a connection share: addresses, ports (in host order) and the protocol.
#[inline(always)]
#[must_use]
pub const fn sum_of_connection(client: &[u8; 16], blade: &[u8; 16], client_port: u16, blade_port: u16) -> u16 {
    let ports = client_port.to_be() as u64 + blade_port.to_be() as u64;
    fold(sum_of_address(client) + sum_of_address(blade) + ports + 6_u16.to_be() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
        // An odd last byte is the upper half of its word.
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56])).to_ne_bytes(), [0x68, 0x34]);
    }

    #[test]
    fn folding_keeps_the_sum_whatever_carries_there_are() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_ffff_fffe, u64::MAX, u64::MAX - 1] {
            let mut expected = u128::from(sum);
            while expected >> 16 != 0 {
                expected = (expected & 0xffff) + (expected >> 16);
            }
            assert_eq!(u128::from(fold(sum)), expected, "{sum:x}");
        }
    }

    #[test]
    fn a_mapped_ipv4_address_sums_as_its_four_bytes() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3];
        let plain = fold(sum(&[10, 1, 2, 3]));
        // In ones' complement ffff is zero.
        assert_eq!(fold(sum_of_address(&mapped)) % 0xffff, plain % 0xffff);
    }
}
