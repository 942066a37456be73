//! From a flow to its lane.

use core::mem::offset_of;

use fanblade_abi::FlowKey;
use fanblade_abi::lane::{Lane, Path, Sending};
use fanblade_abi::lookup::{self, Bucket, Buckets, FLOW_WORDS, FlowHash, Slots, words};
use fanblade_abi::packet::Segment;

use crate::maps::{BUCKETS, LANES, LOOKUP, OVERFLOW, PATHS};

/// A lane that was found.
pub struct Found {
    pub index: u32,
    /// An entry of `LANES`.
    pub lane: *mut Lane,
    pub path: &'static Path,
}

/// The flow of a segment from the client, as words.
#[inline(always)]
pub fn flow_in(segment: &Segment) -> [u64; FLOW_WORDS] {
    let &Segment { src, dst, src_port, dst_port, .. } = segment;
    words(&FlowKey { src, dst, src_port, dst_port })
}

/// The flow of a segment to the client, as words.
#[inline(always)]
pub fn flow_out(segment: &Segment) -> [u64; FLOW_WORDS] {
    let &Segment { src, dst, src_port, dst_port, .. } = segment;
    words(&FlowKey { src: dst, dst: src, src_port: dst_port, dst_port: src_port })
}

/// The lane of a flow.
#[inline(always)]
pub fn find(flow: &[u64; FLOW_WORDS]) -> Option<Found> {
    let index = index_of(flow)?;
    let lane = LANES.get_ptr_mut(index)?;
    // SAFETY: an entry of an array stays where it is.
    let path = PATHS.get(u32::from(unsafe { (*lane).sending.path }))?;
    Some(Found { index, lane, path })
}

#[inline(always)]
fn index_of(flow: &[u64; FLOW_WORDS]) -> Option<u32> {
    let settings = LOOKUP.get(0)?;
    let hash = FlowHash::new(settings.seed, flow);
    let found = lookup::find(&InMaps, settings.buckets, hash, |index| is_of(index, flow).then_some(index));
    // SAFETY: an entry of an array, which userspace writes: hence volatile.
    if found.is_some() || unsafe { (&raw const settings.overflowed).read_volatile() } == 0 {
        return found;
    }
    // SAFETY: the words lie in memory as the key does (asserted below), and are longer. Userspace may remove the entry
    // meanwhile; then the index is the old one or another flow's, and `is_of` says whether the lane is this flow's.
    let index = *unsafe { OVERFLOW.get(&*(&raw const *flow).cast::<FlowKey>()) }?;
    is_of(index, flow).then_some(index)
}

/// Is the lane of this index in use, and the flow's? A function of its own, since it is asked in many places.
#[inline(never)]
fn is_of(index: u32, flow: &[u64; FLOW_WORDS]) -> bool {
    let Some(lane) = LANES.get_ptr(index) else { return false };
    // SAFETY: an entry of an array stays where it is, and these fields are read one by one.
    let sending = unsafe { &(*lane).sending };
    let Some(path) = PATHS.get(u32::from(sending.path)) else { return false };
    let key =
        FlowKey { src: sending.client, dst: path.blade, src_port: sending.client_port, dst_port: path.blade_port };
    sending.has(Sending::USED) && are_same(&words(&key), flow)
}

/// Word by word: for arrays the compiler would call a function, of which the verifier knows nothing.
#[inline(always)]
fn are_same(one: &[u64; FLOW_WORDS], other: &[u64; FLOW_WORDS]) -> bool {
    let mut difference = 0;
    let mut at = 0;
    while at < FLOW_WORDS {
        difference |= one[at] ^ other[at];
        at += 1;
    }
    difference == 0
}

/// The buckets as they lie in their map.
struct InMaps;

struct InMap(*const Bucket);

impl Buckets for InMaps {
    type Bucket = InMap;

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<InMap> {
        BUCKETS.get_ptr(index).map(InMap)
    }
}

impl Slots for InMap {
    #[inline(always)]
    fn load(&self, slot: usize) -> u64 {
        // SAFETY: below the number of slots; userspace writes them, hence volatile.
        unsafe { (&raw const (*self.0).slots).cast::<u64>().add(slot).read_volatile() }
    }
}

// The order of the key's fields is that of the words, and the machine is little-endian.
const _: () = assert!(offset_of!(FlowKey, src) == 0 && offset_of!(FlowKey, dst) == 16);
const _: () = assert!(offset_of!(FlowKey, src_port) == 32 && offset_of!(FlowKey, dst_port) == 34);
const _: () = assert!(cfg!(target_endian = "little"));
