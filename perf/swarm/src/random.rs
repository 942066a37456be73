//! Random choices that anybody can repeat.

/// A number that looks random (Steele, Lea, Flood: SplitMix64's finalizer).
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `end`, which is not 0.
#[expect(clippy::cast_possible_truncation, reason = "less than `end`")]
pub(super) fn below(random: u64, end: u32) -> u32 {
    (random % u64::from(end)) as u32
}

/// A place in a list of this length, which is not 0.
#[expect(clippy::cast_possible_truncation, reason = "less than `len`")]
pub(super) fn place(random: u64, len: usize) -> usize {
    (random % len as u64) as usize
}
