//! `fanblade-perf` measures: the blade alone, beside the least that any server costs, and beside other servers.
//! `cargo xtask bench` builds and runs it. Its load generator is the crate `fanblade-swarm`.

mod benchmarks;
mod campaign;
mod confined;
mod direct;
mod feed;
mod floor;
mod idle;
mod instructions;
mod message;
mod multicast;
mod peers;
mod scenario;

use clap::{Parser, Subcommand};

/// Measurements of Fanblade. Results go to perf/results/.
#[derive(Debug, Parser)]
#[command(name = "fanblade-perf", version)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// CPU per message of the exchange, from packet to ring, by stage
    Feed(feed::FeedArgs),
    /// From the kernel's receive time of a multicast packet to the ring, through `fanblade run`
    Multicast(multicast::MulticastArgs),
    /// Instructions per message of the exchange, by its type, counted by callgrind
    Instructions(instructions::InstructionsArgs),
    /// (Started by `instructions`.) Plays the day that is counted
    #[command(hide = true)]
    InstructionsDay(instructions::day::PlayArgs),
    /// Server CPU per delivered message, beside a bare loop over the same sockets
    Floor(floor::FloorArgs),
    /// (Started by `floor`.) The bare loop
    #[command(hide = true)]
    FloorServer(floor::ServerArgs),
    /// (Started by `floor`.) The blade's data path: ring, worker, engine
    #[command(hide = true)]
    FloorBlade(floor::ServerArgs),
    /// Memory per idle session, for any number of sessions
    Idle(idle::IdleArgs),
    /// Server CPU per delivered message of other servers, beside the blade and a bare loop
    Peers(peers::PeersArgs),
    /// Attacks on a running blade beside a subscriber that behaves well
    Campaign(campaign::CampaignArgs),
    /// Play a scenario with server, publisher and swarm; without a name: list the scenarios
    Run(scenario::RunArgs),
    /// Generate docs/BENCHMARKS.md and docs/plots from the results
    Report(benchmarks::ReportArgs),
    /// (Started by `run` and `peers`.) A loop of sends that knows each subscriber's subjects
    #[command(hide = true)]
    Bare(scenario::server::bare::BareArgs),
    /// (Started by `run`.) The blade's data path, with a pipe as its publisher
    #[command(hide = true)]
    Datapath(scenario::server::datapath::DatapathArgs),
    /// (Started by `run` and `peers`.) A broadcast server as people write it
    #[command(hide = true)]
    Tungstenite(scenario::server::tungstenite::TungsteniteArgs),
    /// (Started by `run`.) The bare loop of accepts and upgrades
    #[command(hide = true)]
    StormBare(scenario::storm::bare::BareArgs),
    /// (Started by `idle`.) The blade's data path
    #[command(hide = true)]
    IdleServer(idle::server::ServerArgs),
}

/// `fanblade-perf`.
pub fn perf() -> anyhow::Result<()> {
    match Arguments::parse().measurement {
        Measurement::Feed(args) => feed::run(&args),
        Measurement::Multicast(args) => multicast::run(&args),
        Measurement::Instructions(args) => instructions::run(&args),
        Measurement::InstructionsDay(args) => instructions::day::run(&args),
        Measurement::Floor(args) => floor::run(&args),
        Measurement::FloorServer(args) => floor::bare::run(&args),
        Measurement::FloorBlade(args) => floor::blade::run(&args),
        Measurement::Idle(args) => idle::run(&args),
        Measurement::Peers(args) => peers::run(&args),
        Measurement::Campaign(args) => campaign::run(&args),
        Measurement::Run(args) => scenario::run(&args),
        Measurement::Report(args) => benchmarks::run(&args),
        Measurement::Bare(args) => scenario::server::bare::run(&args),
        Measurement::Datapath(args) => scenario::server::datapath::run(&args),
        Measurement::Tungstenite(args) => scenario::server::tungstenite::run(&args),
        Measurement::StormBare(args) => scenario::storm::bare::run(&args),
        Measurement::IdleServer(args) => idle::server::run(&args),
    }
}
