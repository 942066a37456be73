//! A run of the sending program over a list of items, and what the device did not take of it.

use super::send::HEADERS_LEN_MAX;

/// The entry of `SENDER`: one run of the sending program over items of `WORK`.
///
/// Userspace fills it before a run. The packets of a run leave by one interface, so that what the device says of the
/// first, second … frame (`lane_drops`) is about the first, second … item that was sent.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The place of the next item, counted on and on. A run that a signal has ended goes on from here.
    pub cursor: u32,
    /// The place behind the last item of this run.
    pub end: u32,
    /// Entries of `WORK`, a power of two, less one.
    pub mask: u32,
    /// The interface that the packets leave by: [`super::Path::interface`] of all the items' lanes.
    pub interface: u32,
    /// The CPU that the program ran on last: bulks on other CPUs are not this sender's.
    pub cpu: u32,
    /// Frames that the program has sent on to the device.
    pub redirected: u32,
    /// Frames whose bulk has gone to the device. Less than `redirected` after a run: the device was down or took no
    /// frames at all, and it is not known which of them.
    pub passed: u32,
    /// Frames that the device did not take.
    pub lost: u32,
    /// Entries in `LOST`.
    pub losses: u32,
    /// The clock of timestamps, as the program has read it.
    pub now_ms: u32,
    /// So many packets later it reads the clock again.
    pub fresh_for: u32,
    /// Always zero.
    pub reserved: [u32; 5],
}

/// Entry of `LOST`: frames that follow each other, of one bulk, which the device did not take.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The first of them: how many frames of the run were sent on before it. Items that were refused do not count.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// What the device said, a negative error number; 0: it had no room.
    pub error: i32,
    /// Always zero.
    pub reserved: u32,
}

/// Items of a run at most. `BPF_PROG_RUN` costs some 13 µs a call, and 0.2 µs an item.
pub const RUN_ITEMS_MAX: u32 = 4_096;

/// Entries of `WORK` for up to `lanes_max` lanes: a power of two, so that places may be counted on and on. The items of
/// the newest packets, of which every lane can have a few in flight, and of the acknowledgements between them.
#[must_use]
pub const fn items_max(lanes_max: u32) -> u32 {
    let wanted = if lanes_max < ITEMS_LIMIT / ITEMS_PER_LANE { lanes_max * ITEMS_PER_LANE } else { ITEMS_LIMIT };
    if wanted < RUN_ITEMS_MAX { RUN_ITEMS_MAX } else { wanted.next_power_of_two() }
}

const ITEMS_PER_LANE: u32 = 4;
const ITEMS_LIMIT: u32 = 1 << 23;

/// The sending program reads the clock once for so many packets, which it makes in some 3 µs: reading it costs a tenth
/// of a packet, and timestamps are milliseconds.
pub const PACKETS_PER_TIME: u32 = 16;

/// Bytes of `SLOTS`: payloads stay there until they are acknowledged or their lane is raised, which takes seconds at
/// most.
pub const SLOTS_LEN: usize = 16 << 20;

/// Bytes of the map's value: behind the slots there are as many bytes as are copied for the longest payload, so that
/// one may begin anywhere.
pub const SLOTS_SIZE: usize = SLOTS_LEN + BLOCKS_MAX * BLOCK_LEN;

/// The longest payload of a packet, in bytes: what fits behind the shortest headers in 1,500 bytes.
pub const PAYLOAD_LEN_MAX: u32 = 1_460;

/// The payload is copied in blocks of so many bytes.
pub const BLOCK_LEN: usize = 64;

/// Blocks of the longest payload.
pub const BLOCKS_MAX: usize = (PAYLOAD_LEN_MAX as usize).div_ceil(BLOCK_LEN);

/// Length of the packet that the sending program is run over: it is cut down to each item's packet, and never grows.
pub const TEMPLATE_LEN: usize = HEADERS_LEN_MAX + BLOCKS_MAX * BLOCK_LEN;

const _: () = assert!(size_of::<Lost>() == 16);
const _: () = assert!(size_of::<Sender>() == 64);

#[cfg(test)]
mod tests {
    use super::items_max;

    #[test]
    fn the_items_are_a_power_of_two_within_their_limits() {
        assert_eq!([0, 1_024, 1_025, 1_000_000].map(items_max), [4_096, 4_096, 8_192, 1 << 22]);
        assert_eq!([1 << 21, 1 << 24, u32::MAX].map(items_max), [1 << 23; 3]);
    }
}
