//! The maps. Userspace sets the sizes of those that depend on the number of lanes: `LANES`, `PATHS`, `BUCKETS`,
//! `OVERFLOW`, `WORK` and `RECORDS`.

use core::mem::offset_of;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use fanblade_abi::lane::record::{FRAME_LEN_MAX, ring_len};
use fanblade_abi::lane::work::{RUN_ITEMS_MAX, SLOTS_SIZE, items_max};
use fanblade_abi::lane::{Item, Lane, LaneCounters, LaneVerdict, Lost, Path, Record, Sender};
use fanblade_abi::lookup::{Bucket, FLOW_WORDS, LookupSettings, buckets_for, overflow_for};
use fanblade_abi::packet::Segment;
use fanblade_abi::{Config, FlowKey};

/// The lanes' states.
#[btf_map]
pub static LANES: Array<Lane, LANES_DEFAULT, MMAPABLE> = Array::new();

/// How to get to the lanes' clients.
#[btf_map]
pub static PATHS: Array<Path, PATHS_DEFAULT, MMAPABLE> = Array::new();

/// The lanes by their flows.
#[btf_map]
pub static BUCKETS: Array<Bucket, { buckets_for(LANES_DEFAULT as u32) as usize }, MMAPABLE> = Array::new();

/// The lanes of flows that find no room there.
#[btf_map]
pub static OVERFLOW: HashMap<
    FlowKey,
    u32,
    { overflow_for(LANES_DEFAULT as u32) as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

/// One entry.
#[btf_map]
pub static LOOKUP: Array<LookupSettings, 1, MMAPABLE> = Array::new();

/// One entry: the ports that are ours.
#[btf_map]
pub static LANE_CONFIG: Array<Config, 1> = Array::new();

/// The packets to send, a ring.
#[btf_map]
pub static WORK: Array<Item, { items_max(LANES_DEFAULT as u32) as usize }, MMAPABLE> = Array::new();

/// One entry: where the run is.
#[btf_map]
pub static SENDER: Array<Sender, 1, MMAPABLE> = Array::new();

/// One entry: the payloads.
#[btf_map]
pub static SLOTS: Array<Slots, 1, MMAPABLE> = Array::new();

/// What the device did not take. A loss is one frame at least, so that all losses of a run find a place.
#[btf_map]
pub static LOST: Array<Lost, { RUN_ITEMS_MAX as usize }, MMAPABLE> = Array::new();

/// What userspace is told.
#[btf_map]
pub static RECORDS: RingBuf<(), { ring_len(LANES_DEFAULT as u32) as usize }> = RingBuf::new();

/// One entry with a named counter for each verdict, one copy per CPU.
#[btf_map]
pub static LANE_VERDICTS: PerCpuArray<LaneCounters, 1> = PerCpuArray::new();

/// Where a record is put together.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// One entry: the time in nanoseconds, for tests that set it.
#[btf_map]
pub static TEST_TIME: Array<u64, 1, MMAPABLE> = Array::new();

#[repr(C, align(64))]
pub struct Slots {
    pub bytes: [u8; SLOTS_SIZE],
}

#[repr(C, align(8))]
pub struct Scratch {
    pub parsed: Parsed,
    pub record: Record,
    /// The bytes of the record, right behind it; whole words, since sums are of words.
    pub bytes: [u64; FRAME_LEN_MAX as usize / 8],
}

/// What the parser has found. It is put here and read again from here, so that the verifier forgets by which of many
/// paths it was found, and examines what follows only once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Parsed {
    /// The flow as words, which lie in memory as the flow itself does.
    pub flow: [u64; FLOW_WORDS],
    pub packet_len: u32,
    pub tcp_at: u32,
    pub payload_at: u32,
    pub headers_len: u32,
    pub flags: u32,
    pub reserved: u32,
}

impl Parsed {
    #[inline(always)]
    pub fn segment(&self) -> Segment {
        let address = |at: usize| {
            let [first, last] = [self.flow[at].to_le_bytes(), self.flow[at + 1].to_le_bytes()];
            let mut address = [0; 16];
            let mut byte = 0;
            while byte < 8 {
                (address[byte], address[byte + 8]) = (first[byte], last[byte]);
                byte += 1;
            }
            address
        };
        Segment {
            src: address(0),
            dst: address(2),
            src_port: self.flow[4] as u16,
            dst_port: (self.flow[4] >> 16) as u16,
            flags: self.flags as u8,
            packet_len: self.packet_len,
            tcp_at: self.tcp_at,
            payload_at: self.payload_at,
            headers_len: self.headers_len,
        }
    }
}

/// Counts a verdict.
#[inline(always)]
pub fn count(verdict: LaneVerdict) {
    let Some(counters) = LANE_VERDICTS.get_ptr_mut(0) else { return };
    // SAFETY: LaneCounters is one u64 per verdict, in their order (asserted where both are defined), and the copy of
    // this CPU has no other writer while a program runs: all programs run with bottom halves disabled.
    unsafe {
        let counter = counters.cast::<u64>().add(verdict as usize);
        *counter = (*counter).wrapping_add(1);
    }
}

const LANES_DEFAULT: usize = 65_536;
const PATHS_DEFAULT: usize = 4_096;
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const _: () = assert!(FRAME_LEN_MAX % 8 == 0);
const _: () = assert!(offset_of!(Scratch, bytes) == offset_of!(Scratch, record) + size_of::<Record>());
