//! `cargo xtask bench`: measurements, made by perf/.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{child, repository};

/// Build the load generators (release) and run one measurement
///
///   cargo xtask bench feed             CPU per message of the exchange, from packet to ring, by stage
///   cargo xtask bench instructions     instructions per message of the exchange, by its type; --baseline FILE compares
///   cargo xtask bench multicast        from a packet's receive time to the ring, through the blade, at several rates
///   cargo xtask bench floor            CPU per delivered message, compared with a bare loop over the same sockets
///   cargo xtask bench floor --help     its options
///   cargo xtask bench idle             memory per idle session, with 100,000 sessions; none lost
///   cargo xtask bench peers            CPU per delivered message: other servers, the blade and a bare loop
///   cargo xtask bench run              the scenarios of perf/scenarios/: those that others have published, and our own
///   cargo xtask bench run kafkorama-1m --subscribers 50000 --runs 3 --duration 60
///   cargo xtask bench run wire-to-wire one packet in, one frame out, and where the time goes; also -busy, -sparse
///   cargo xtask bench report           docs/BENCHMARKS.md and docs/plots/, from the results of scenarios
///   cargo xtask bench --help           this text; without a name: the list of measurements
///
/// Results go to perf/results/, one JSON file each. Numbers in README.md come from there (see `tidy`).
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Name of the measurement and its own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME [ARGS]")]
    args: Vec<String>,
}

/// Attack a running blade (release) that serves a well-behaved subscriber, and report what the subscriber noticed
///
///   cargo xtask campaign --list        the list of attacks
///   cargo xtask campaign               all attacks, over both engines
///   cargo xtask campaign pong-flood    one attack
///   cargo xtask campaign log-stuck log-gone --engine epoll --pairs 5 --seconds 20
///
/// Each attack is run in pairs, alternately without the attack and with it: the subscriber's p99 may grow by at most
/// 10 ms, no promise may be broken, /healthz must always be true, and the blade must stop when told to. Results go to
/// perf/results/campaign-DATE.json. A campaign needs no root, talks over loopback only, and leaves nothing behind.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CampaignArgs {
    /// Names of attacks, and options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME [ARGS]")]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let help = ["--help".to_owned()];
    perf(if args.args.is_empty() { &help } else { &args.args })
}

pub(crate) fn campaign(args: &CampaignArgs) -> anyhow::Result<ExitCode> {
    perf(&[&["campaign".to_owned()], &args.args[..]].concat())
}

/// Builds all programs together: built alone, each would need its dependencies rebuilt with other features.
fn perf(args: &[String]) -> anyhow::Result<ExitCode> {
    let root = repository::root()?;
    let mut build = repository::cargo(&root);
    build.args(["build", "--release", "--bins"]);
    build.args(["--package", "fanblade-perf", "--package", "fanblade-swarm", "--package", "fanblade"]);
    child::succeed(&mut build)?;
    let program = repository::build_dir(&root).join("release/fanblade-perf");
    Err(Command::new(&program).current_dir(&root).args(args).exec())
        .with_context(|| format!("starting {}", program.display()))
}
