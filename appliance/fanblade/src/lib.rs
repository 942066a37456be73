//! The blade: one binary, one file per command. The program is a library with a small `main`, so that the fuzzer can
//! reach its parsers (`fuzzing`).
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod commands;
mod config;
mod feeds;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod manual;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};

use commands::appliance::{configure, reset, rollback, support, update, versions};
use commands::{check, doctor, flows, publish, replay, run, size, subscribe, tap, top, tune};
use terminal::out;

/// One feed in, millions of WebSocket subscribers out.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: a simulated market, a recorded one, or what a configuration file says
    Run(run::Args),
    /// Subscribe to a blade: print the frames, or check order and gaps and print rates
    Subscribe(subscribe::Args),
    /// Play a file or a simulated market as an exchange would: multicast with faults, a re-request server
    Replay(replay::Args),
    /// Publish values to a blade whose feed is `publisher`: lines of JSON, or made-up values for load
    Publish(publish::Args),
    /// Show the flows that the kernel counted, from the pinned eBPF maps; the daemon need not run
    Flows(flows::Args),
    /// Show a running blade at a glance, in a terminal: feed, workers, rates, latencies, subjects, flows
    Top(top::Args),
    /// Show what is in the ring of a running blade: subjects, rates, frames; costs the blade nothing
    Tap(tap::Args),
    /// Say what this machine lacks for serving well, what that costs, and the command that fixes it
    Doctor(doctor::Args),
    /// Read a configuration file and say what is wrong with it
    Check(check::Args),
    /// Compute workers, ring and sessions from a machine's memory, cores and queues, and show the arithmetic
    Size(size::Args),
    /// Give this machine's CPUs, cards and interrupts their places, by a plan that it shows
    Tune(tune::Args),
    /// Put a signed version into the slot that is not running (on the appliance image)
    Update(update::Args),
    /// Show the versions on this machine's disk (on the appliance image)
    Versions(versions::Args),
    /// Start the other version from the next boot on (on the appliance image)
    Rollback(rollback::Args),
    /// Take configuration, addresses and SSH keys from a USB stick or from credentials (on the appliance image)
    Configure(configure::Args),
    /// Make the state partition anew at the next boot (on the appliance image)
    Reset(reset::Args),
    /// Write an archive for whoever helps: state, journal, configuration, no secrets
    Support(support::Args),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // Blocks SIGXFSZ here and in all threads, which inherit the mask: at the file size limit (`ulimit -f`) a write then
    // fails with an error, and does not end the process.
    let mut file_size = SigSet::empty();
    file_size.add(Signal::SIGXFSZ);
    let _ = file_size.thread_block();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return out::usage(&error),
    };
    let result = match cli.command {
        Command::Run(args) => run::main(args),
        Command::Subscribe(args) => subscribe::main(args),
        Command::Replay(args) => replay::main(&args),
        Command::Publish(args) => publish::main(&args),
        Command::Flows(args) => flows::main(&args),
        Command::Top(args) => top::main(args),
        Command::Tap(args) => tap::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Size(args) => size::main(&args),
        Command::Tune(args) => tune::main(&args),
        Command::Update(args) => update::main(&args),
        Command::Versions(args) => versions::main(&args),
        Command::Rollback(args) => rollback::main(&args),
        Command::Configure(args) => configure::main(&args),
        Command::Reset(args) => reset::main(&args),
        Command::Support(args) => support::main(&args),
    };
    result.unwrap_or_else(|error| out::failed(&error))
}
