//! `fanblade-perf`: measurements. `cargo xtask bench` builds and runs it.

fn main() -> anyhow::Result<()> {
    fanblade_perf::perf()
}
