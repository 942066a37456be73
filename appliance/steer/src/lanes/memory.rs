//! How much memory lanes take.

use fanblade_abi::FlowKey;
use fanblade_abi::lane::record::{FRAME_LEN_MAX, ring_len};
use fanblade_abi::lane::work::{RUN_ITEMS_MAX, SLOTS_SIZE, items_max};
use fanblade_abi::lane::{Item, Lane, LaneCounters, Lost, Path, Sender};

use super::paths_max;

/// Memory of the kernel that the maps for up to `lanes_max` lanes take on a machine with so many CPUs, in bytes. All of
/// it is taken when they are made.
#[must_use]
pub fn memory(lanes_max: u32, cpus: u64) -> u64 {
    let lanes = u64::from(lanes_max);
    let one_for_each_cpu = (size_of::<LaneCounters>() as u64 + u64::from(FRAME_LEN_MAX)) * cpus;
    array::<Lane>(lanes)
        + array::<Path>(u64::from(paths_max(lanes_max)))
        + hash(lanes, size_of::<FlowKey>() as u64, size_of::<u32>() as u64, cpus)
        + ring(u64::from(ring_len(lanes_max)))
        + array::<Item>(u64::from(items_max(lanes_max)))
        + array::<Lost>(u64::from(RUN_ITEMS_MAX))
        + array::<Sender>(1)
        + array::<[u8; SLOTS_SIZE]>(1)
        + one_for_each_cpu
}

/// kernel/bpf/arraymap.c: whole pages, and one for the map itself.
fn array<T>(entries: u64) -> u64 {
    PAGE + (entries * size_of::<T>() as u64).next_multiple_of(PAGE)
}

/// kernel/bpf/hashtab.c: `struct bucket` for each entry, rounded up to a power of two, and `struct htab_elem` with key
/// and value; each CPU has one entry in reserve.
fn hash(entries: u64, key: u64, value: u64, cpus: u64) -> u64 {
    let entry = 48 + key.next_multiple_of(8) + value.next_multiple_of(8);
    entries.next_power_of_two() * 16 + (entries + cpus) * entry
}

/// kernel/bpf/ringbuf.c: the bytes, three pages of the map itself, and pointers to the pages, which are mapped twice.
fn ring(bytes: u64) -> u64 {
    bytes + 3 * PAGE + bytes / PAGE * 2 * 8
}

const PAGE: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn ten_million_lanes_take_less_than_three_and_a_half_gigabytes() {
        let bytes = memory(10_000_000, 2);
        assert!(bytes < 3_500_000_000, "{bytes}");
        assert!(memory(10_000_000, 2) - memory(1, 2) > 10_000_000 * 128);
    }
}
