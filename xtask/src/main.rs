//! `cargo xtask`: the commands for everything that is done with this repository; `--help` is their manual.

use std::any::Any;
use std::io::{Write as _, stderr};
use std::panic::{catch_unwind, resume_unwind, set_hook, take_hook};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod child;
mod conformance;
mod deny;
mod ebpf;
mod fuzz;
mod image;
mod leftovers;
mod repository;
mod run;
mod setup;
mod tally;
mod test;
mod tidy;
mod vm;

/// Everything that is done with this repository.
///
/// On a fresh clone, `cargo xtask run` builds the blade and serves a simulated market; `cargo xtask test` checks all
/// that can be checked on this machine and names what it had to skip. Neither needs root; with root, the eBPF programs
/// and the network namespace tests run too. `cargo xtask setup` fetches what the other commands can use.
///
/// All output of builds and tests lies under target/ (or CARGO_TARGET_DIR), tools and the Python venv under target/.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Run(run::Args),
    Test(test::Args),
    Conformance(conformance::Args),
    Bench(bench::Args),
    Campaign(bench::CampaignArgs),
    Ebpf(ebpf::Args),
    Fuzz(fuzz::Args),
    Image(image::Args),
    Tidy(tidy::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    // `println!` panics if the reader has closed the pipe or the disk is full. Unwinding still cleans up.
    let usual = take_hook();
    set_hook(Box::new(move |panic| match unprinted(panic.payload()) {
        None => usual(panic),
        Some((BROKEN_PIPE, _)) => {}
        Some((_, message)) => {
            let _ = writeln!(stderr(), "error: {message}");
        }
    }));
    catch_unwind(carry_out).unwrap_or_else(|panic| match unprinted(&*panic) {
        Some((code, _)) => ExitCode::from(code),
        None => resume_unwind(panic),
    })
}

/// The exit code and the message, if a panic came from a failed print.
fn unprinted(panic: &(dyn Any + Send)) -> Option<(u8, &str)> {
    let message = panic.downcast_ref::<String>().filter(|message| message.starts_with("failed printing to std"))?;
    Some((if message.contains("Broken pipe") { BROKEN_PIPE } else { 1 }, message))
}

fn carry_out() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Campaign(args) => bench::campaign(&args),
        Command::Ebpf(args) => ebpf::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Tidy(args) => tidy::run(&args),
        Command::Vm(args) => vm::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The exit code with which a shell reports SIGPIPE.
const BROKEN_PIPE: u8 = 141;
