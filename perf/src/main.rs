//! `fanblade-perf`: measurements. `cargo xtask bench` builds and runs it.

/// The blade's own: what is measured of its data path holds its allocator's share.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    fanblade_perf::perf()
}
