//! A bit of the root file system that has changed on the disk ends the boot before anything of it is used.

use std::fs;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::boot::BOOT_MAX;
use crate::image::{Place, Scratch};
use crate::vm::machine::{Machine, Options};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let disk = scratch.path().join("disk.raw");
    place.room.run("cp", &["--sparse=always", &place.inside(&place.raw)?, &place.inside(&disk)?])?;
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
    let machine = Machine::start(place, &disk, scratch.path(), &Options::default())?;
    let at = machine.until("data block", BOOT_MAX)?;
    ensure!(machine.wait(BOOT_MAX).is_some(), "it runs on\n{}", machine.tail());
    ensure!(machine.said("fanblade: serving").is_none(), "it serves from a changed disk\n{}", machine.tail());
    let line = machine.line("data block").unwrap_or_default();
    Ok(format!("one bit changed: after {:.0} s {line:?}, and the machine reboots", at.as_secs_f64()))
}
