//! `fanblade-swarm`: the load generator.

fn main() -> anyhow::Result<std::process::ExitCode> {
    fanblade_swarm::run()
}
