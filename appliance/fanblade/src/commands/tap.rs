//! `fanblade tap`: what is in the ring of a running blade, read by another process.
//!
//! It costs the blade nothing. The mapping is read-only, nothing is registered with the writer, and this process looks
//! for news by itself. Whoever reads too slowly is overtaken, and says how much was lost to it.

mod busiest;
pub(crate) mod find;
mod follow;
mod info;
mod life;
pub(crate) mod meter;
mod subjects;
mod walk;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::terminal::out;
use find::{Choice, Tapped};

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
        bail!("options of the table do not go together with a command; the command's own stand behind its name");
    }
    let tapped = find::open(&args.choice)?;
    match &args.command {
        None => busiest::main(&args.table, tapped),
        Some(Command::Subjects(args)) => subjects::main(args, &tapped),
        Some(Command::Follow(args)) => follow::main(args, tapped),
        Some(Command::Info(args)) => info::main(args, &tapped),
    }
}

/// The process is gone. What it had published was still shown.
fn ended(tapped: &Tapped) -> ExitCode {
    let (pid, tail) = (tapped.pid, tapped.reader.tail());
    out::tell(format_args!("fanblade: the blade (process {pid}) has ended; its ring ends at index {tail}"));
    ExitCode::from(EXIT_ENDED)
}

fn print_json(out: &mut impl Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value).context("as JSON")?;
    writeln!(out, "{text}")?;
    Ok(())
}

/// Is `text` something that selects subjects?
fn pattern(text: &str) -> Result<String, String> {
    fanblade_ring::subject::check(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Nanoseconds since a frame was published. The clock may have been set back since.
fn age_ns(published_ns: u64) -> u64 {
    fanblade_feed::unix_ns().saturating_sub(published_ns)
}

/// Exit code where the blade has ended meanwhile: scripts may want to tell it from a mistake.
const EXIT_ENDED: u8 = 3;
