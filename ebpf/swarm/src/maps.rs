//! The maps. Userspace sets the size of `SUBSCRIBERS`.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use fanblade_swarm_abi::{
    BUCKETS, Counters, HEAD_LEN, HEADS_MAX, SCRATCH_LEN, SUBSCRIBERS_MAX, Search, Settings, Subscriber,
};

/// The subscribers' entries, mapped into userspace.
#[btf_map]
pub static SUBSCRIBERS: Array<Subscriber, SUBSCRIBERS_MAX, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Messages of the window by their latency.
#[btf_map]
pub static LATENCIES: PerCpuArray<[u64; BUCKETS], 1> = PerCpuArray::new();

/// Beginnings of frames that wait for their rest, by the subscriber's number.
#[btf_map]
pub static HEADS: HashMap<u32, [u8; HEAD_LEN], HEADS_MAX> = HashMap::new();

/// Data that does not fit on the stack.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

#[repr(C)]
pub struct Scratch {
    /// The beginning of a frame: the bytes that were kept, and behind those the bytes that have come.
    pub head: [u8; SCRATCH_LEN],
    /// A pong, header included.
    pub pong: [u8; PONG_LEN],
    pub pong_len: u32,
    /// Where number and timestamp stood in the last message: the search looks there first.
    pub hints: [u32; 2],
    pub search: Search,
}

/// A masked control frame with 125 bytes, and zeros up to where a checksum ends.
pub const PONG_LEN: usize = 136;
