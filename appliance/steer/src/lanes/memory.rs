//! How much memory lanes take.

use fanblade_abi::lane::record::{FRAME_LEN_MAX, ring_len};
use fanblade_abi::lane::work::{RUN_ITEMS_MAX, SLOTS_SIZE, items_max};
use fanblade_abi::lane::{Item, Lane, LaneCounters, Lost, Path, Sender};
use fanblade_abi::lookup::bytes_for;

use super::paths_max;

/// Memory of the kernel that the maps for up to `lanes_max` lanes take on a machine with so many CPUs, in bytes. All of
/// it is taken when they are made, but the lookup's overflow, which is counted as if it were full.
#[must_use]
pub fn memory(lanes_max: u32, cpus: u64) -> u64 {
    let lanes = u64::from(lanes_max);
    let one_for_each_cpu = (size_of::<LaneCounters>() as u64 + u64::from(FRAME_LEN_MAX)) * cpus;
    array::<Lane>(lanes)
        + array::<Path>(u64::from(paths_max(lanes_max)))
        + bytes_for(lanes_max)
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

/// kernel/bpf/ringbuf.c: the bytes, three pages of the map itself, and pointers to the pages, which are mapped twice.
fn ring(bytes: u64) -> u64 {
    bytes + 3 * PAGE + bytes / PAGE * 2 * 8
}

const PAGE: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::memory;

    #[test]
    fn ten_million_lanes_take_less_than_1_8_gigabytes() {
        let bytes = memory(10_000_000, 2);
        assert!(bytes < 1_800_000_000, "{bytes}");
        assert!(memory(10_000_000, 2) - memory(1, 2) > 10_000_000 * 128);
    }
}
