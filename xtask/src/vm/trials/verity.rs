//! A bit of the root file system that has changed on the disk ends the boot before anything of it is used.

use std::fs;
use std::os::unix::fs::FileExt as _;

use anyhow::ensure;

use super::boot::BOOT_MAX;
use crate::image::{Place, Scratch};
use crate::vm::machine::{Machine, Options};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let disk = scratch.path().join("disk.raw");
    place.room.run("cp", &["--sparse=always", &place.inside(&place.raw)?, &place.inside(&disk)?])?;
    let root = place.partition(&disk, |name| name.starts_with("fanblade_") && !name.ends_with("_verity"))?;
    // erofs's superblock lies 1,024 bytes into the file system, and is read at the mount.
    let at = root + 1_024 + 40;
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
