//! `fanblade-perf`: measurements. `cargo xtask bench` builds and runs it.

use fanblade_worker::allocator::{self, Allocator};

/// As the blade has it: the data path is measured in a process of ours.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> anyhow::Result<()> {
    allocator::give_back_at_once();
    fanblade_perf::perf()
}
