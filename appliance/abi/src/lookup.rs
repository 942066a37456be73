//! From a TCP flow to the index of its lane.
//!
//! ```text
//! flow ──hash──▶ tag, left bucket, right bucket     a bucket is one cache line of eight slots
//!                                                   a slot is 64 bits: the tag, and the lane's index + 1 (0: free)
//! ```
//! A flow stands in one slot of one of its two buckets, or, when both are full, in an overflow: a small hash map of the
//! kernel. Userspace writes the slots through a shared mapping, the kernel programs read them.
//!
//! - **Readers do not lock.** A slot is written by one store of eight bytes, so a reader sees the old or the new entry.
//!   An entry never moves while it stands, not even from the overflow into a slot that has become free: a reader that
//!   has passed its new place and not yet come to its old one would miss it, and the kernel would answer the packet of
//!   a flow that it does not know with a reset.
//! - **A tag is a hint.** Two flows may have the same, so the caller compares the whole key with the lane's and says
//!   "not this one". The other way, a lane may have been removed and its index used again since the slot was read; the
//!   same comparison finds that out.
//! - **Two halves.** The left bucket is in the first half of the array, the right one in the second, and a flow goes
//!   into the emptier of the two, the left one if they are level: B. Vöcking, "How Asymmetry Helps Load Balancing"
//!   (J. ACM 50(4), 2003). The two differ always, and fewer overflow than with two choices among all buckets.

use crate::FlowKey;
use crate::limits::LANES_MAX;

/// Slots of a bucket: as many as fill a cache line.
pub const BUCKET_SLOTS: usize = 8;

/// 64-bit words of a [`FlowKey`], see [`words`].
pub const FLOW_WORDS: usize = 5;

/// Value of the map of buckets, an array with `BPF_F_MMAPABLE` of [`buckets_for`] entries.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Entries as [`entry`] makes them; 0: free.
    pub slots: [u64; BUCKET_SLOTS],
}

/// The part of the lanes' settings that lookup needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupSettings {
    /// Key of the hash: random, made when the maps are made, kept from peers, the same for as long as the maps live.
    pub seed: [u64; 2],
    /// Entries of the map of buckets: [`buckets_for`].
    pub buckets: u32,
    /// Flows in the overflow, and those that are just being put there. While it is 0, readers need not look there.
    /// Userspace counts up before it inserts and down after it has removed.
    pub overflowed: u32,
}

/// A flow's hash: its tag and its two buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(u64);

impl FlowHash {
    /// SipHash-1-3 of the flow's 36 bytes, in the order of [`FlowKey`] on a little-endian machine.
    ///
    /// A keyed hash, so that a peer that chooses its ports and addresses cannot choose buckets (J.-P. Aumasson,
    /// D. J. Bernstein: "SipHash: a fast short-input PRF", 2012). Linux uses the same one, with the same number of
    /// rounds, for its own hash tables (`hsiphash` on 64 bits, Documentation/security/siphash.rst).
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: [u64; 2], words: &[u64; FLOW_WORDS]) -> Self {
        // The paper's initial state: "somepseudorandomlygeneratedbytes".
        let mut state = [
            seed[0] ^ 0x736f_6d65_7073_6575,
            seed[1] ^ 0x646f_7261_6e64_6f6d,
            seed[0] ^ 0x6c79_6765_6e65_7261,
            seed[1] ^ 0x7465_6462_7974_6573,
        ];
        state = absorb(state, words[0]);
        state = absorb(state, words[1]);
        state = absorb(state, words[2]);
        state = absorb(state, words[3]);
        // The last block: what is left of the message, and its length in the highest byte.
        state = absorb(state, words[4] | (size_of::<FlowKey>() as u64) << 56);
        state[2] ^= 0xff;
        state = round(round(round(state)));
        Self(state[0] ^ state[1] ^ state[2] ^ state[3])
    }

    /// What is compared in a slot before the whole key is.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u32 {
        self.0 as u32
    }

    /// The flow's left and right bucket, both below `count`, an even number of at least 2 (see [`buckets_for`]).
    #[inline(always)]
    #[must_use]
    pub const fn buckets(self, count: u32) -> [u32; 2] {
        let half = count >> 1;
        // The right one from all of the hash, not from the tag alone: otherwise the flows of a bucket would have
        // similar tags.
        let other = self.0.wrapping_mul(RIGHT_FACTOR);
        [scale(self.0, half), half + scale(other, half)]
    }
}

/// A flow as words: the client's address, the blade's address, and the ports (`src_port | dst_port << 16`).
///
/// For the hash, and for comparing: five comparisons instead of 36.
#[inline(always)]
#[must_use]
pub const fn words(flow: &FlowKey) -> [u64; FLOW_WORDS] {
    let ports = flow.src_port as u64 | (flow.dst_port as u64) << 16;
    [word(&flow.src, 0), word(&flow.src, 8), word(&flow.dst, 0), word(&flow.dst, 8), ports]
}

/// The entry of a slot. `index` is below [`LANES_MAX`].
#[inline(always)]
#[must_use]
pub const fn entry(tag: u32, index: u32) -> u64 {
    (tag as u64) << 32 | (index as u64 + 1)
}

/// The index of the lane in an entry, if the slot is not free and has the tag.
#[expect(clippy::cast_possible_truncation, reason = "the halves of the entry")]
#[inline(always)]
#[must_use]
pub const fn index_in(entry: u64, tag: u32) -> Option<u32> {
    let occupied = entry as u32;
    if (entry >> 32) as u32 == tag && occupied != 0 { Some(occupied - 1) } else { None }
}

/// Reading the buckets, which others write meanwhile.
///
/// A kernel program reads the map's memory by `read_volatile`, userspace by atomic loads.
pub trait Buckets {
    /// Where a bucket is.
    type Bucket: Slots;
    /// The bucket of this index; `None` beyond the last.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
}

/// Reading the slots of a bucket, which others write meanwhile.
pub trait Slots {
    /// The entry of a slot below [`BUCKET_SLOTS`], read by one load of eight bytes.
    fn load(&self, slot: usize) -> u64;
}

/// Calls `check` with the index of each lane that may be the flow's, at most 16, until it returns something.
///
/// `check` compares the whole key of the lane. If nothing is found and [`LookupSettings::overflowed`] is not 0, the
/// caller looks into the overflow.
#[inline(always)]
#[must_use]
pub fn find<B: Buckets, T>(
    buckets: &B,
    count: u32,
    hash: FlowHash,
    mut check: impl FnMut(u32) -> Option<T>,
) -> Option<T> {
    let tag = hash.tag();
    for index in hash.buckets(count) {
        let bucket = buckets.bucket(index)?;
        let mut slot = 0;
        while slot < BUCKET_SLOTS {
            if let Some(lane) = index_in(bucket.load(slot), tag)
                && let Some(found) = check(lane)
            {
                return Some(found);
            }
            slot += 1;
        }
    }
    None
}

/// Buckets for up to `lanes_max` lanes: at most half of the slots are in use, with which nearly no flow overflows.
///
/// Why half: lanes come and go, and what decides is not how full the buckets are when they have been filled once, but
/// how full they are after every lane has been replaced several times. Then 2.2 % of the flows are in the overflow at
/// a load of 0.8 (0.004 % before), and none at 0.5; it costs 6 bytes a lane.
#[must_use]
pub const fn buckets_for(lanes_max: u32) -> u32 {
    // Even, for the two halves.
    2 * lanes_max.div_ceil(2 * LANES_PER_BUCKET) + if lanes_max == 0 { 2 } else { 0 }
}

/// Entries of the overflow map for up to `lanes_max` lanes: what overflows at a load of 0.8, and half as much again.
#[must_use]
pub const fn overflow_for(lanes_max: u32) -> u32 {
    lanes_max / 32 + OVERFLOW_MIN
}

/// Memory of the buckets and of a full overflow for up to `lanes_max` lanes, in bytes.
///
/// The overflow is a hash map with `BPF_F_NO_PREALLOC`: the kernel makes its table at once (16 bytes for each entry,
/// their number rounded up to a power of two), and the entries as they come (kernel/bpf/hashtab.c: 48 bytes, the key
/// and the value rounded up to eights, and a pointer of the allocator, together 104, from `kmalloc-128`).
#[must_use]
pub const fn bytes_for(lanes_max: u32) -> u64 {
    let buckets = buckets_for(lanes_max) as u64 * size_of::<Bucket>() as u64;
    let overflow = overflow_for(lanes_max) as u64;
    buckets + overflow.next_power_of_two() * OVERFLOW_BUCKET_BYTES + overflow * OVERFLOW_ENTRY_BYTES
}

/// Lanes for which a bucket is made, half of its slots.
const LANES_PER_BUCKET: u32 = 4;
const _: () = assert!(LANES_PER_BUCKET as usize * 2 == BUCKET_SLOTS);

/// Entries of the overflow map at least: a table of a few buckets overflows sooner, and by more of its flows.
const OVERFLOW_MIN: u32 = 64;

/// `struct bucket`.
const OVERFLOW_BUCKET_BYTES: u64 = 16;

/// `struct htab_elem` with its key, value and pointer, as the allocator rounds it up.
const OVERFLOW_ENTRY_BYTES: u64 = 128;

/// Odd, with its ones spread evenly: 2^64 divided by the golden ratio.
const RIGHT_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// An evenly spread number below `below`, of the upper half of the hash: by multiplication instead of a remainder.
#[inline(always)]
const fn scale(hash: u64, below: u32) -> u32 {
    (((hash >> 32) * below as u64) >> 32) as u32
}

/// Eight bytes of an address as a little-endian word.
#[inline(always)]
const fn word(address: &[u8; 16], at: usize) -> u64 {
    u64::from_le_bytes([
        address[at],
        address[at + 1],
        address[at + 2],
        address[at + 3],
        address[at + 4],
        address[at + 5],
        address[at + 6],
        address[at + 7],
    ])
}

#[inline(always)]
const fn absorb(mut state: [u64; 4], block: u64) -> [u64; 4] {
    state[3] ^= block;
    state = round(state);
    state[0] ^= block;
    state
}

/// `SipRound`.
#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32).wrapping_add(d);
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    c = c.rotate_left(32);
    [a, b, c, d]
}

const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);
const _: () = assert!(size_of::<LookupSettings>() == 24);
// Every index + 1 is a u32.
const _: () = assert!(LANES_MAX < u32::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    fn hash(flow: &FlowKey) -> FlowHash {
        FlowHash::new(SEED, &words(flow))
    }

    #[test]
    fn the_hash_is_siphash_1_3_of_the_keys_bytes() {
        // The bytes 0 to 35 under the key 0 to 15, as in the paper's own vectors; their value with 1 and 3 rounds
        // is number 36 of the vectors in the tests of Rust's core library (SipHasher13).
        let byte = |at: usize| u8::try_from(at).unwrap();
        let flow = FlowKey {
            src: core::array::from_fn(byte),
            dst: core::array::from_fn(|at| byte(16 + at)),
            src_port: u16::from_le_bytes([32, 33]),
            dst_port: u16::from_le_bytes([34, 35]),
        };
        assert_eq!(hash(&flow).0.to_le_bytes(), [0x06, 0x62, 0xa2, 0xad, 0xd3, 0x08, 0xf5, 0x2c]);
    }

    #[test]
    fn every_bit_of_the_key_and_of_the_seed_changes_tag_and_buckets() {
        let flow = FlowKey { src_port: 40_000, dst_port: 443, ..FlowKey::default() };
        let plain = hash(&flow);
        let differs = |other: FlowHash| {
            assert_ne!(plain.tag(), other.tag());
            // Of a million buckets: a chance of one in 500,000 for each that one stays.
            let ([left, right], [other_left, other_right]) = (plain.buckets(1 << 20), other.buckets(1 << 20));
            assert!(left != other_left && right != other_right);
        };
        for bit in 0..128 {
            let mut other = flow;
            other.src[bit / 8] ^= 1 << (bit % 8);
            differs(hash(&other));
            let mut other = flow;
            other.dst[bit / 8] ^= 1 << (bit % 8);
            differs(hash(&other));
            let mut seed = SEED;
            seed[bit / 64] ^= 1 << (bit % 64);
            differs(FlowHash::new(seed, &words(&flow)));
        }
        for bit in 0..16 {
            differs(hash(&FlowKey { src_port: flow.src_port ^ 1 << bit, ..flow }));
            differs(hash(&FlowKey { dst_port: flow.dst_port ^ 1 << bit, ..flow }));
        }
    }

    #[test]
    fn the_two_buckets_lie_in_the_two_halves_and_fill_them() {
        for count in [2, 6, 512, 2_500_000, u32::MAX - 1] {
            for hash in [0, 1, u64::MAX, u64::MAX << 32, u64::from(u32::MAX), RIGHT_FACTOR] {
                let [left, right] = FlowHash(hash).buckets(count);
                assert!(left < count / 2 && (count / 2..count).contains(&right), "{hash:x}, {count} buckets");
            }
        }
        let mut flows = [0_u32; 6];
        for src_port in 0..60_000 {
            for bucket in hash(&FlowKey { src_port, ..FlowKey::default() }).buckets(6) {
                flows[bucket as usize] += 1;
            }
        }
        // Five standard deviations of a third of 60,000.
        assert!(flows.iter().all(|flows| flows.abs_diff(20_000) < 600), "{flows:?}");
    }

    #[test]
    fn an_entry_gives_its_index_back_to_its_own_tag_only() {
        for index in [0, 1, LANES_MAX - 1] {
            for tag in [0, 1, u32::MAX] {
                assert_eq!(index_in(entry(tag, index), tag), Some(index));
                assert_eq!(index_in(entry(tag, index), tag ^ 1), None);
                assert_eq!(index_in(0, tag), None, "a free slot");
            }
        }
    }

    #[test]
    fn ten_million_lanes_fit_in_1800_megabytes() {
        const LANES: u32 = 10_000_000;
        const STATE_BYTES: u64 = 128;
        let lookup = bytes_for(LANES);
        assert!(lookup < 40 * u64::from(LANES), "{lookup} bytes");
        assert!(lookup + STATE_BYTES * u64::from(LANES) < 1_800_000_000, "{lookup} bytes");
        // Even at a load of 0.8, for which 12.5 million slots would do, it is well below 40 bytes a lane.
        assert_eq!(lookup, 160_000_000 + 8_388_608 + 40_008_192);
    }

    #[test]
    fn there_are_twice_as_many_slots_as_lanes_in_two_halves() {
        for lanes in (0..100).chain([65_536, 1_000_003, LANES_MAX, u32::MAX]) {
            let buckets = buckets_for(lanes);
            assert!(buckets >= 2 && buckets.is_multiple_of(2), "{lanes} lanes, {buckets} buckets");
            let slots = u64::from(buckets) * BUCKET_SLOTS as u64;
            assert!(
                (2 * u64::from(lanes)..=2 * u64::from(lanes) + 16).contains(&slots),
                "{lanes} lanes, {slots} slots"
            );
        }
    }
}
