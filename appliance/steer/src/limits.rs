//! The limits of the control plane; those of the kernel programs are in [`fanblade_abi::limits`].

use std::time::Duration;

/// How long a starting blade waits until a blade that is just ending unlocks the pin directory. After that it starts
/// without pins.
pub const LOCK_WAIT_MAX: Duration = Duration::from_millis(200);

/// The most steps of an iteration over the flows, for each entry that the map can hold. Flows come and go meanwhile,
/// and the kernel starts again from the first flow if the current one has been removed. After so many steps the listing
/// ends early.
pub const FLOW_STEPS_PER_ENTRY_MAX: usize = 2;

/// Smallest flow table: below this the kernel's LRU, which works with batches per CPU, forgets flows that are in use.
pub const FLOWS_MIN: u32 = 1024;

/// Greatest flow table: 16 million flows take about 2.3 GiB of kernel memory when the map is made.
pub const FLOWS_LIMIT: u32 = 1 << 24;
