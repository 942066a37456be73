//! `cargo xtask vm`: the very image in QEMU, for people and for tests.

mod machine;
mod network;
mod trials;
mod writes;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};

use self::machine::{Bus, Card, Disk, Firmware, Machine, Options};
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
    /// Boot it with its console here, which reads the lines that you type; Ctrl-C ends it
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
    /// Without UEFI
    #[arg(long)]
    bios: bool,
    /// Boot the installation stick instead, beside a disk that is empty at first
    #[arg(long)]
    installer: bool,
    /// Write what the screen shows to this file, as PNG, every few seconds
    #[arg(long, value_name = "FILE")]
    screenshot: Option<PathBuf>,
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
        What::Test(args) => {
            let (_, failed) = trials::run(&place, &args.names, args.quick)?;
            Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// The quick trials. Returns how many passed, and a line for each that failed.
pub(crate) fn quick() -> anyhow::Result<(usize, Vec<String>)> {
    trials::run(&Place::find()?, &[], true)
}

fn boot(place: &Place, args: &RunArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.port < u16::MAX, "--port {}: the admin port would be one above", args.port);
    let scratch = place.scratch("run")?;
    let disk = args.disk.clone().unwrap_or_else(|| scratch.path().join("disk.qcow2"));
    let mut disks = Vec::new();
    if args.installer {
        disks.push(Disk { file: place.stick(&scratch)?, serial: "stick", is_read_only: false, bus: Bus::Usb });
    }
    let disk = match disk.exists() {
        true => disk,
        false if args.installer => place.empty(&disk)?,
        false => place.overlay(&disk)?,
    };
    let (data, admin) = (args.port, args.port + 1);
    let network = Arc::new(Network::new());
    network.forward(data, 7_400)?;
    network.forward(admin, 7_401)?;
    println!("subscribers: ws://127.0.0.1:{data}/v1/stream, live page: http://127.0.0.1:{admin}/; Ctrl-C ends it");
    let options = Options {
        cpus: args.cpus,
        memory_mib: args.memory,
        firmware: if args.bios { Firmware::Bios } else { Firmware::Uefi },
        disks,
        card: Card::Tap(Arc::clone(&network)),
        credentials: vec![Network::credential()],
        reboots: true,
        echo: true,
        ..Options::default()
    };
    let mut machine = Machine::start(place, &disk, scratch.path(), &options)?;
    machine.read(std::io::stdin());
    let picture = scratch.path().join("screen.png");
    while machine.wait(machine.age() + PICTURE_INTERVAL).is_none() {
        if let Some(file) = &args.screenshot {
            machine.screenshot(place, &picture)?;
            fs::copy(&picture, file).with_context(|| format!("writing {}", file.display()))?;
        }
    }
    let status = machine.status();
    Ok(if status.is_some_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const PICTURE_INTERVAL: Duration = Duration::from_secs(2);
