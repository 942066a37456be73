//! Pointing the kernel at bytes: the worker's only unsafe code.
#![expect(unsafe_code, reason = "slices of the ring and of session buffers are lent to the kernel until the flush")]

use fanblade_net::IoSlices;
use fanblade_ring::{Lane, LanePosition, Reader};

/// Adds a frame of the ring. `false`: there are as many slices as one send takes, and the frame stays owed.
///
/// The kernel may read the bytes while the publisher overwrites them; what was sent then is found out afterwards
/// (`Reader::is_intact`), and the session closed.
#[must_use = "a frame that was refused is not sent"]
pub(crate) fn push_frame(
    slices: &mut IoSlices,
    reader: &Reader,
    lane: Lane,
    position: LanePosition,
    length: u32,
) -> bool {
    // SAFETY: `frame_ptr` points into the reader's mapping, in which `length` bytes follow for every frame (each lane
    // is mapped twice, back to back), and the mapping lives as long as the worker.
    unsafe { slices.push(reader.frame_ptr(lane, position), length as usize) }
}

/// Begins a list anew with bytes that a session is owed, or that go to many. They always fit.
///
/// The caller flushes before it changes or drops `bytes`, as for [`push_bytes`].
pub(crate) fn begin_with(slices: &mut IoSlices, bytes: &[u8]) {
    // SAFETY: see above.
    unsafe { slices.begin(bytes.as_ptr(), bytes.len()) }
}

/// Adds a notice. `false`: there are as many slices as one send takes, and the notice stays owed.
///
/// The caller flushes before it changes or drops `bytes`: `serve` touches neither the sessions' buffers nor the arena
/// of notices between the first push and the flush's return, and `say_same` borrows them until then. A panic in between
/// may free them: `Worker::is_sending` says so, and the engine is dropped without a flush.
#[must_use = "bytes that were refused are not sent"]
pub(crate) fn push_bytes(slices: &mut IoSlices, bytes: &[u8]) -> bool {
    // SAFETY: see above.
    unsafe { slices.push(bytes.as_ptr(), bytes.len()) }
}
