//! What the image promises, each tried in a machine of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fanblade_testkit::try_http;
use serde_json::Value;

use super::machine::{Machine, Options};
use super::network::{GUEST, Network};
use crate::image::Place;
use crate::repository;

/// One trial. The text that it returns goes into the table.
struct Trial {
    name: &'static str,
    run: fn(&Place, &Path) -> anyhow::Result<String>,
}

const TRIALS: [Trial; 2] = [Trial { name: "serving", run: serving }, Trial { name: "verity", run: verity }];

pub(super) fn run(place: &Place, names: &[String]) -> anyhow::Result<ExitCode> {
    let known = TRIALS.map(|trial| trial.name).join(", ");
    for name in names {
        ensure!(TRIALS.iter().any(|trial| trial.name == name), "there is no trial {name:?}; there are {known}");
    }
    println!("{}", place.raw.display());
    let (mut rows, mut failed) = (Vec::new(), 0);
    for trial in TRIALS.iter().filter(|trial| names.is_empty() || names.iter().any(|name| name == trial.name)) {
        eprintln!("{} …", trial.name);
        let started = Instant::now();
        let scratch = tempfile::tempdir_in(&place.dir)?;
        let (word, text) = match (trial.run)(place, scratch.path()) {
            Ok(text) => ("ok", text),
            Err(error) => {
                failed += 1;
                eprintln!("{}: {error:#}", trial.name);
                let first = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
                ("FAILED", first)
            }
        };
        rows.push(format!("{word:<7} {:<10} {:>6.1} s  {text}", trial.name, started.elapsed().as_secs_f64()));
    }
    println!("{}\n{} ok, {failed} failed", rows.join("\n"), rows.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From power to `readyz`; clients over the wire; what the kernel's programs counted inside is what the clients did.
fn serving(place: &Place, scratch: &Path) -> anyhow::Result<String> {
    let network = Network::new();
    let probe = "[Unit]\nAfter=fanblade-healthy.service\n[Service]\nType=simple\nStandardOutput=journal+console\n\
                 ExecStart=/bin/sh -c 'while sleep 2; do echo closed flows: $(fanblade flows --closed --top 0 | \
                 grep -c \"10.99.0.2:7400.*10.99.0.1\"), queues $(ls /sys/class/net/e*/queues | grep -c rx).; done'\n";
    let options = Options {
        cpus: CPUS,
        memory_mib: MEMORY_MIB,
        network: Network::arguments(CPUS),
        credentials: vec![
            Network::credential(),
            ("systemd.extra-unit.probe.service".to_owned(), probe.to_owned()),
            ("systemd.unit-dropin.multi-user.target~probe".to_owned(), "[Unit]\nWants=probe.service\n".to_owned()),
        ],
        echo: false,
    };
    let disk = place.overlay(&scratch.join("disk.qcow2"))?;
    let started = Instant::now();
    // QEMU opens the tap of the namespace that its thread is in, and must outlive that thread.
    let mut machine = network.run(|| Machine::start(place, &disk, scratch, &options))?;
    network.until_up();
    let ready = until_ready(&network, &mut machine, started)?;

    let client = || {
        let mut command = Command::new(program(place)?);
        command.args(["subscribe", &format!("{GUEST}:7400"), "/NASDAQ/*/trade", "--mode", "all", "--check", "--json"]);
        command.args(["--connections", &CONNECTIONS.to_string(), "--count", "50", "--for", "120"]);
        anyhow::Ok(command)
    };
    let output = network.output(&mut client()?)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .with_context(|| format!("the client: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    ensure!(output.status.success() && summary["violations"] == 0, "the client: {summary:#}\n{}", machine.tail());
    machine.until(&format!("closed flows: {CONNECTIONS}, queues {CPUS}."), WAIT_MAX)?;
    let (_, body) = network.run(|| try_http(admin(), "/v1/status")).context("the admin port does not answer")?;
    let status: Value = serde_json::from_str(&body).context("/v1/status")?;
    let ebpf = &status["ebpf"];
    ensure!(ebpf["active"] == true && ebpf["reason"] == "", "eBPF inside: {ebpf}");
    Ok(format!(
        "ready {:.0} s after power; {} frames to {CONNECTIONS} clients, 0 violations; {CONNECTIONS} flows inside, {CPUS} \
         queues, eBPF {}",
        ready.as_secs_f64(),
        summary["frames"],
        ebpf["mode"].as_str().unwrap_or_default(),
    ))
}

/// A bit of the root file system that has changed on the disk ends the boot before anything of it is used.
fn verity(place: &Place, scratch: &Path) -> anyhow::Result<String> {
    let disk = scratch.join("disk.raw");
    fs::copy(&place.raw, &disk).context("copying the disk")?;
    let table = place.room.run("sfdisk", &["--json", &place.inside(&disk)?])?;
    let table: Value = serde_json::from_str(&table).context("sfdisk")?;
    let partitions = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
    let is_root = |partition: &&Value| {
        partition["name"].as_str().is_some_and(|name| name.starts_with("fanblade_") && !name.ends_with("_verity"))
    };
    let start = partitions.iter().find(is_root).and_then(|root| root["start"].as_u64()).context("no root partition")?;
    // erofs's superblock lies 1,024 bytes into the file system, and is read at the mount.
    let at = start * 512 + 1_024 + 40;
    let file = fs::File::options().read(true).write(true).open(&disk)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)?;
    let options = Options { cpus: CPUS, memory_mib: MEMORY_MIB, ..Options::default() };
    let mut machine = Machine::start(place, &disk, scratch, &options)?;
    let at = machine.until("data block", BOOT_MAX)?;
    let status = machine.wait(BOOT_MAX)?;
    ensure!(status.is_some(), "it runs on\n{}", machine.tail());
    ensure!(machine.said("fanblade: serving").is_none(), "it serves from a changed disk\n{}", machine.tail());
    let line = machine.line("data block").unwrap_or_default();
    Ok(format!("one bit changed: after {:.0} s {line:?}, and the machine reboots", at.as_secs_f64()))
}

fn until_ready(network: &Network, machine: &mut Machine, started: Instant) -> anyhow::Result<Duration> {
    loop {
        let answer = network.run(|| try_http(admin(), "/readyz"));
        if answer.is_ok_and(|(head, _)| head.starts_with("HTTP/1.1 200")) {
            return Ok(started.elapsed());
        }
        if machine.has_ended()? || started.elapsed() > BOOT_MAX {
            bail!("not ready within {} s\n{}", started.elapsed().as_secs(), machine.tail());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The machine's admin port.
fn admin() -> SocketAddr {
    SocketAddr::new(GUEST.into(), 7_401)
}

/// The client is the same program as the image's.
fn program(place: &Place) -> anyhow::Result<PathBuf> {
    let program = repository::build_dir(&place.root).join("release/fanblade");
    ensure!(program.is_file(), "{} is gone: `cargo xtask image` builds it", program.display());
    Ok(program)
}

const CPUS: u32 = 4;
const MEMORY_MIB: u32 = 1_024;
const CONNECTIONS: usize = 40;
/// Emulation is slow, and slower on a busy host.
const BOOT_MAX: Duration = Duration::from_secs(400);
const WAIT_MAX: Duration = Duration::from_secs(60);
