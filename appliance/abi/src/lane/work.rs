//! A run of the sending program over a list of items, and what the device did not take of it.

use super::send::HEADERS_LEN_MAX;

/// The entry of `SENDER`: one run of the sending program over the items of `WORK`.
///
/// Userspace fills it before a run. The packets of a run leave by one interface, so that what the device says of the
/// first, second … frame (`lane_drops`) is about the first, second … item that was sent.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The next item. A run that a signal has ended goes on from here.
    pub cursor: u32,
    /// Items of this run.
    pub items: u32,
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
    /// The clock of timestamps, as it was read for one of the newest [`PACKETS_PER_TIME`] packets.
    pub now_ms: u32,
    /// Always zero.
    pub reserved: [u32; 7],
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
pub const ITEMS_MAX: u32 = 4_096;

/// The sending program reads the clock once for so many packets, which it makes in some 3 µs: reading it costs as much as
/// a tenth of a packet, and timestamps are milliseconds.
pub const PACKETS_PER_TIME: u32 = 16;

/// Bytes of `SLOTS`: payloads stay there until they are acknowledged or their lane is raised, which takes seconds at most.
pub const SLOTS_LEN: usize = 16 << 20;

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
