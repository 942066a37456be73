//! Counting a segment in its flow, and reading a packet directly.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use fanblade_abi::limits::HEADERS_LEN_MAX;
use fanblade_abi::packet::{ACK, Bytes, Other, SYN, Segment, parse};
use fanblade_abi::{FlowCounters, FlowKey, Verdict};

use crate::maps::{CONFIG, FLOWS, add_atomically, count};

/// Which way a segment goes, seen from the blade.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

/// The verdicts of one direction.
pub struct Verdicts {
    pub counted: Verdict,
    pub flow_lost: Verdict,
    pub not_ours: Verdict,
    pub not_tcp: Verdict,
    pub not_ip: Verdict,
    pub fragment: Verdict,
    pub runt: Verdict,
    pub malformed: Verdict,
    pub too_deep: Verdict,
}

/// Counts one frame: in its flow if it is TCP on our ports, and in exactly one verdict. `segments` is the number of
/// packets that the frame becomes on the wire.
///
/// Returns the count of lost flows if this frame's flow was lost and the count is worth a log line.
#[inline(always)]
pub fn account(frame: &Direct, direction: Direction, segments: u32, verdicts: &Verdicts) -> Option<u64> {
    match parse(frame) {
        Ok(segment) => {
            let own_port = if direction == Direction::In { segment.dst_port } else { segment.src_port };
            if !CONFIG.get(0).is_some_and(|config| config.has_port(own_port)) {
                count(verdicts.not_ours);
            } else if add(&segment, direction, segments) {
                count(verdicts.counted);
            } else {
                return Some(count(verdicts.flow_lost));
            }
        }
        Err(Other::NotIp) => _ = count(verdicts.not_ip),
        Err(Other::NotTcp) => _ = count(verdicts.not_tcp),
        Err(Other::Fragment) => _ = count(verdicts.fragment),
        Err(Other::Runt) => _ = count(verdicts.runt),
        Err(Other::Malformed) => _ = count(verdicts.malformed),
        Err(Other::TooDeep) => _ = count(verdicts.too_deep),
    }
    None
}

#[inline(always)]
fn add(segment: &Segment, direction: Direction, segments: u32) -> bool {
    let key = match direction {
        Direction::In => {
            FlowKey { src: segment.src, dst: segment.dst, src_port: segment.src_port, dst_port: segment.dst_port }
        }
        Direction::Out => {
            FlowKey { src: segment.dst, dst: segment.src, src_port: segment.dst_port, dst_port: segment.src_port }
        }
    };
    let segments = u64::from(segments);
    let bytes = u64::from(segment.packet_len) + segments.saturating_sub(1) * u64::from(segment.headers_len);
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let opens = direction == Direction::In && segment.flags & (SYN | ACK) == SYN;

    if let Some(flow) = FLOWS.get_ptr_mut(&key) {
        // SAFETY: an entry of this map is valid for as long as the program runs; all its counters are added to
        // atomically.
        let is_over = unsafe { (*flow).is_closed() };
        if !(opens && is_over) {
            update(flow, direction, segments, bytes, segment.flags, now_ns);
            return true;
        }
    }
    let mut fresh = FlowCounters { first_ns: now_ns, last_ns: now_ns, ..FlowCounters::default() };
    match direction {
        Direction::In => {
            fresh.packets_in = segments;
            fresh.bytes_in = bytes;
            fresh.flags_in = segment.flags;
        }
        Direction::Out => {
            fresh.packets_out = segments;
            fresh.bytes_out = bytes;
            fresh.flags_out = segment.flags;
        }
    }
    // A connection that reuses the addresses and ports of a closed one replaces its entry. Otherwise two CPUs may both
    // find the entry missing: the second to insert finds the first one's and adds to it.
    let flags = if opens { BPF_ANY } else { BPF_NOEXIST };
    if FLOWS.insert(&key, &fresh, u64::from(flags)).is_ok() {
        return true;
    }
    match FLOWS.get_ptr_mut(&key) {
        Some(flow) => {
            update(flow, direction, segments, bytes, segment.flags, now_ns);
            true
        }
        None => false,
    }
}

#[inline(always)]
fn update(flow: *mut FlowCounters, direction: Direction, packets: u64, bytes: u64, tcp_flags: u8, now_ns: u64) {
    // SAFETY: `flow` is an entry of FLOWS, valid and aligned while the program runs. The counters are only ever added
    // to atomically. In the other fields the newest value wins, and any order of the writers is right: the time, and
    // flags, which are only ever added, and which a later packet of the same side shows again.
    unsafe {
        let (packets_at, bytes_at, flags_at) = match direction {
            Direction::In => (&raw mut (*flow).packets_in, &raw mut (*flow).bytes_in, &raw mut (*flow).flags_in),
            Direction::Out => (&raw mut (*flow).packets_out, &raw mut (*flow).bytes_out, &raw mut (*flow).flags_out),
        };
        add_atomically(packets_at, packets);
        add_atomically(bytes_at, bytes);
        (*flow).last_ns = now_ns;
        if *flags_at | tcp_flags != *flags_at {
            *flags_at |= tcp_flags;
        }
    }
}

/// A packet that lies in memory from `data` to `data_end`, as the kernel gives it to XDP and tc programs.
pub struct Direct {
    pub data: usize,
    pub data_end: usize,
    pub frame_len: u32,
}

impl Bytes for Direct {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > HEADERS_LEN_MAX {
            return None;
        }
        let start = self.data + offset;
        if start + N > self.data_end {
            return None;
        }
        // SAFETY: `start..start + N` lies within the packet, as has just been checked, and a byte array has no
        // alignment.
        Some(unsafe { core::ptr::read(start as *const [u8; N]) })
    }

    #[inline(always)]
    fn frame_len(&self) -> u32 {
        self.frame_len
    }
}
