//! `cargo xtask vm`: the very image in QEMU, for people and for tests.

mod machine;
mod network;
mod trials;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, ensure};

use self::machine::{Card, Machine, Options};
use self::network::Network;
use crate::image::{self, Place};

/// Boot the appliance image in QEMU, or test it there
///
/// `cargo xtask image` builds the image first. The machine is emulated (no KVM is needed), so that it is slow: some
/// fifty seconds from power to serving on a quiet host. Needs root, as the image does.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Boot it with its console here; Ctrl-C ends it
    Run(RunArgs),
    /// Boot it and check what it promises
    Test(TestArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// Processors; the card has as many queues
    #[arg(long, default_value_t = 4)]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Port 7400 (subscribers) appears on this port of 127.0.0.1, port 7401 (admin) on the next one
    #[arg(long, default_value_t = 17_400)]
    port: u16,
    /// Keep this disk and boot from it again (qcow2; made from the image if it does not exist)
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
}

#[derive(clap::Args)]
struct TestArgs {
    /// The trials to run; left out: all. An unknown name lists them
    names: Vec<String>,
    /// Only what takes a few minutes; where this machine cannot do it, say why in a line and be content
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let place = match image::missing().map_or_else(Place::find, |missing| Err(anyhow!(missing))) {
        Ok(place) => place,
        Err(reason) if matches!(&args.what, What::Test(args) if args.quick) => {
            println!("skipped: {reason:#}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(reason) => return Err(reason),
    };
    match &args.what {
        What::Run(args) => boot(&place, args),
        What::Test(args) => trials::run(&place, &args.names, args.quick),
    }
}

fn boot(place: &Place, args: &RunArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.port < u16::MAX, "--port {}: the admin port would be one above", args.port);
    let scratch = place.scratch("run")?;
    let disk = match &args.disk {
        Some(disk) if disk.exists() => disk.clone(),
        Some(disk) => place.overlay(disk)?,
        None => place.overlay(&scratch.path().join("disk.qcow2"))?,
    };
    let (data, admin) = (args.port, args.port + 1);
    let network = Arc::new(Network::new());
    network.forward(data, 7_400)?;
    network.forward(admin, 7_401)?;
    println!("subscribers: ws://127.0.0.1:{data}/v1/stream, live page: http://127.0.0.1:{admin}/; Ctrl-C ends it");
    let options = Options {
        cpus: args.cpus,
        memory_mib: args.memory,
        card: Card::Tap(Arc::clone(&network)),
        credentials: vec![Network::credential()],
        reboots: true,
        echo: true,
        ..Options::default()
    };
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    let status = machine.wait(Duration::MAX);
    Ok(if status.is_some_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
