//! `fanblade tap`: what is in the ring of a running blade, read by another process.
//!
//! It costs the blade nothing. The mapping is read-only, nothing is registered with the writer, and this process polls
//! for news by itself. A reader that is too slow is overtaken, and says how much it has lost.

mod busiest;
pub(crate) mod find;
mod follow;
mod info;
mod life;
pub(crate) mod meter;
mod shared;
mod subjects;
mod walk;

use std::process::ExitCode;

use anyhow::bail;

use find::Choice;

/// Without a command: the busiest subjects and their rates, renewed each second.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    table: busiest::Table,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the subjects: newest frame, its number, its age
    Subjects(subjects::Args),
    /// Print each frame of a subject or pattern as it is published
    Follow(follow::Args),
    /// Capacities of the ring, and what it holds
    Info(info::Args),
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    if args.command.is_some() && args.table != busiest::Table::default() {
        bail!("options of the table do not go together with a command; write the command's own options after its name");
    }
    let tapped = find::open(&args.choice)?;
    match &args.command {
        None => busiest::main(&args.table, tapped),
        Some(Command::Subjects(args)) => subjects::main(args, &tapped),
        Some(Command::Follow(args)) => follow::main(args, tapped),
        Some(Command::Info(args)) => info::main(args, &tapped),
    }
}
