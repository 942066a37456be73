//! `fanblade size`: from the memory, cores and queues of a machine to workers, ring and sessions, with the arithmetic.

mod machine;
mod plan;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::terminal::out;
use machine::Machine;
use plan::{Plan, Wanted};

/// What is not given is this machine's.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Memory, such as 64G or 65536MiB (G is GiB)
    #[arg(long, value_name = "BYTES", value_parser = machine::memory)]
    memory: Option<u64>,
    /// CPUs that the blade may use
    #[arg(long, value_name = "N", value_parser = machine::cores)]
    cores: Option<usize>,
    /// Receive queues of the clients' network card
    #[arg(long, value_name = "N", value_parser = machine::queues)]
    queues: Option<usize>,
    /// The blade's configuration, which names the feed's interfaces: `fanblade tune` places the workers by the others
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Subjects in the ring
    #[arg(long, value_name = "N", default_value_t = plan::SUBJECTS_DEFAULT, value_parser = plan::subjects)]
    subjects: u32,
    /// Subjects in a list of each session's own; 0: sessions share their sets of subscriptions
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = plan::own_list)]
    own_list: u32,
    /// Print the keys for a configuration file, for `fanblade run --sizing`
    #[arg(long)]
    toml: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let machine = Machine::new(args.memory, args.cores, args.queues, args.config.as_deref())?;
    let plan = Plan::new(&machine, Wanted { subjects: args.subjects, own_list: args.own_list })?;
    match args.toml {
        true => out::print(show::Toml(&machine, &plan))?,
        false => out::print(show::Text(&machine, &plan))?,
    }
    Ok(ExitCode::SUCCESS)
}
