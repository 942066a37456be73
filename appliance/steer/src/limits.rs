//! The limits of the control plane; those of the kernel programs are in [`fanblade_abi::limits`].

use std::time::Duration;

/// How long a starting blade waits for one that is just ending to let go of the pin directory. Then it goes without
/// pins.
pub const LOCK_WAIT_MAX: Duration = Duration::from_millis(200);

/// Steps that an iteration over the flows takes at most for each entry that the map can hold. Flows come and go
/// meanwhile, and the kernel starts again from the first when the one that we stand on has gone. Then the listing
/// ends early.
pub const FLOW_STEPS_PER_ENTRY_MAX: usize = 2;

/// Smallest flow table: below this the kernel's LRU, which works with batches per CPU, forgets flows that are in use.
pub const FLOWS_MIN: u32 = 1024;

/// Greatest flow table: 16 million flows take about 2.3 GiB of kernel memory when the map is made.
pub const FLOWS_LIMIT: u32 = 1 << 24;
