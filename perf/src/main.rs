//! `fanblade-perf`: measurements. `cargo xtask bench` builds and runs it.

use fanblade_worker::allocator::{self, Allocator};

/// The blade's allocator, because this program runs the data path that is measured.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> anyhow::Result<()> {
    allocator::give_back_at_once();
    fanblade_perf::perf()
}
