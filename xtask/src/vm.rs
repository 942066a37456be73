//! `cargo xtask vm`: the very image in QEMU, for people and for tests.

mod machine;
mod network;
mod trials;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use self::machine::{Machine, Options};
use crate::image::{self, Place};

/// Boot the appliance image in QEMU, or test it there
///
/// `cargo xtask image` builds the image first. The machine is emulated (no KVM is needed), so that it is slow: some fifty
/// seconds from power to serving on a quiet host. Needs root, as the image does.
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
    /// Processors
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Its port 7400 (subscribers) appears here on 127.0.0.1, port 7401 (admin) one above
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
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(missing) = image::missing() {
        bail!(missing);
    }
    let place = Place::find()?;
    match &args.what {
        What::Run(args) => boot(&place, args),
        What::Test(args) => trials::run(&place, &args.names),
    }
}

fn boot(place: &Place, args: &RunArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.port < u16::MAX, "--port {}: the admin port would be one above", args.port);
    let own = tempfile::tempdir_in(&place.dir)?;
    let disk = match &args.disk {
        Some(disk) if disk.exists() => disk.clone(),
        Some(disk) => place.overlay(disk)?,
        None => place.overlay(&own.path().join("disk.qcow2"))?,
    };
    let (data, admin) = (args.port, args.port + 1);
    let network = vec![
        "-netdev".to_owned(),
        format!("user,id=n0,hostfwd=tcp:127.0.0.1:{data}-:7400,hostfwd=tcp:127.0.0.1:{admin}-:7401"),
        "-device".to_owned(),
        "virtio-net-pci,netdev=n0".to_owned(),
    ];
    println!("subscribers: ws://127.0.0.1:{data}/v1/stream, live page: http://127.0.0.1:{admin}/; Ctrl-C ends it");
    let options = Options { cpus: args.cpus, memory_mib: args.memory, network, echo: true, ..Options::default() };
    let mut machine = Machine::start(place, &disk, own.path(), &options)?;
    let status = machine.wait(Duration::MAX)?;
    Ok(if status.is_some_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
