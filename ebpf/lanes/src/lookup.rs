//! From a flow to its lane.

use fanblade_abi::FlowKey;
use fanblade_abi::lane::{Lane, Path, Sending};
use fanblade_abi::lookup::{self, Bucket, Buckets, FlowHash, Slots, words};
use fanblade_abi::packet::Segment;

use crate::maps::{BUCKETS, LANES, LOOKUP, OVERFLOW, PATHS};

/// A lane that was found.
pub struct Found {
    pub index: u32,
    /// An entry of `LANES`.
    pub lane: *mut Lane,
    pub path: &'static Path,
}

/// The flow of a segment from the client.
#[inline(always)]
pub fn flow_in(segment: &Segment) -> FlowKey {
    FlowKey { src: segment.src, dst: segment.dst, src_port: segment.src_port, dst_port: segment.dst_port }
}

/// The flow of a segment to the client.
#[inline(always)]
pub fn flow_out(segment: &Segment) -> FlowKey {
    FlowKey { src: segment.dst, dst: segment.src, src_port: segment.dst_port, dst_port: segment.src_port }
}

/// The lane of a flow.
#[inline(always)]
pub fn find(flow: &FlowKey) -> Option<Found> {
    let settings = LOOKUP.get(0)?;
    let hash = FlowHash::new(settings.seed, &words(flow));
    let found = lookup::find(&InMaps, settings.buckets, hash, |index| check(flow, index));
    // SAFETY: an entry of an array, which userspace writes: hence volatile.
    if found.is_some() || unsafe { (&raw const settings.overflowed).read_volatile() } == 0 {
        return found;
    }
    // SAFETY: userspace may remove the entry meanwhile; then the index is the old one or another flow's, and `check`
    // says whether the lane is this flow's.
    check(flow, *unsafe { OVERFLOW.get(flow) }?)
}

/// The lane of this index, if it is the flow's.
#[inline(always)]
fn check(flow: &FlowKey, index: u32) -> Option<Found> {
    let lane = LANES.get_ptr_mut(index)?;
    // SAFETY: an entry of an array stays where it is, and these fields are read one by one.
    let sending = unsafe { &(*lane).sending };
    let path = PATHS.get(u32::from(sending.path))?;
    is_of(flow, sending, path).then_some(Found { index, lane, path })
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

/// Is the entry in use, and by this flow?
#[inline(always)]
fn is_of(flow: &FlowKey, sending: &Sending, path: &Path) -> bool {
    sending.has(Sending::USED)
        && sending.client_port == flow.src_port
        && path.blade_port == flow.dst_port
        && sending.client == flow.src
        && path.blade == flow.dst
}
