//! From a flow to its lane.

use fanblade_abi::FlowKey;
use fanblade_abi::lane::{Lane, Path, Sending};
use fanblade_abi::packet::Segment;

use crate::maps::{LANE_OF, LANES, PATHS};

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
    // SAFETY: userspace may remove or replace the entry meanwhile; then the index is the old or the new one, and
    // `is_of` says whether the lane is the flow's.
    let index = *unsafe { LANE_OF.get(flow) }?;
    let lane = LANES.get_ptr_mut(index)?;
    // SAFETY: an entry of an array stays where it is, and these fields are read one by one.
    let sending = unsafe { &(*lane).sending };
    let path = PATHS.get(u32::from(sending.path))?;
    is_of(flow, sending, path).then_some(Found { index, lane, path })
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
