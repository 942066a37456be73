//! What goes wrong around a blade: it always comes up far enough to say what it is, and serves where it can.
//!
//! A state partition without a file system; a disk without room for one; and all at once: no DHCP server, no time, a
//! configuration with a mistake, a full state partition.

use std::fs;
use std::path::Path;

use anyhow::ensure;

use super::boot::{BOOT_MAX, unit};
use crate::image::{DISK_LEN, Place, Scratch};
use crate::vm::machine::{Bus, Card, Disk, Machine, Options};
use crate::vm::network::Network;

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let broken = scratch.path().join("broken.raw");
    without_file_system(place, &broken)?;
    let broken = start(place, scratch, &broken, "fanblade: the state partition cannot be mended")?;
    let small = place.overlay_of(&scratch.path().join("small.qcow2"), fs::metadata(&place.raw)?.len())?;
    let small = start(place, scratch, &small, "has no state partition")?;
    let all = everything(place, scratch)?;
    Ok(format!("{all}; it also serves, and says why nothing is kept: {broken:?}, {small:?}"))
}

/// The image with a state partition that holds only zeros.
fn without_file_system(place: &Place, disk: &Path) -> anyhow::Result<()> {
    let (raw, inside) = (place.inside(&place.raw)?, place.inside(disk)?);
    place.room.run("cp", &["--sparse=always", &raw, &inside])?;
    fs::File::options().write(true).open(disk)?.set_len(DISK_LEN)?;
    let table = format!("echo 'size=512M, type=linux, name=fanblade-state' | sfdisk --append {inside}");
    place.room.run("sh", &["-c", &table]).map(drop)
}

fn everything(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    // The machine goes on when the host says so, by a word on this disk.
    let word = scratch.path().join("word.raw");
    fs::write(&word, [0; 512])?;
    let options = Options {
        card: Card::Tap(Network::new().into()),
        disks: vec![Disk { file: word.clone(), serial: "word", is_read_only: true, bus: Bus::Virtio }],
        credentials: [unit("spoil", SPOIL), unit("mend", MEND)].concat(),
        clock: Some("1990-01-01T00:00:00"),
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    machine.until("trial: full", BOOT_MAX)?;
    let mistake = machine.until("unknown field `lisen`", BOOT_MAX)?;
    machine.until("fanblade: no address yet", BOOT_MAX)?;
    machine.until("fanblade: the clock is not synchronised", BOOT_MAX)?;
    ensure!(machine.said("fanblade: serving").is_none(), "it serves with a wrong configuration\n{}", machine.tail());
    fs::write(&word, [&b"mend"[..], &[0; 508]].concat())?;
    let mended = machine.until("trial: mended", BOOT_MAX)?;
    let serving = machine.until("fanblade: serving", BOOT_MAX)?;
    machine.until("trial: chrony is active", BOOT_MAX)?;
    Ok(format!(
        "the console names the mistake after {:.0} s, the missing address and the clock; the blade serves {:.0} s after it \
         was mended, on a full partition",
        mistake.as_secs_f64(),
        (serving.saturating_sub(mended)).as_secs_f64(),
    ))
}

/// Boots from a disk that the blade must do without. Returns what it says of it.
fn start(place: &Place, scratch: &Scratch, disk: &Path, words: &str) -> anyhow::Result<String> {
    let machine = Machine::start(place, disk, scratch.path(), &Options { card: Card::User, ..Options::default() })?;
    machine.until("fanblade: serving", BOOT_MAX)?;
    let ours = machine.lines("fanblade: ").join("\n");
    ensure!(machine.said(words).is_some(), "it does not say {words:?}, but\n{ours}");
    Ok(machine.line(words).unwrap_or_default())
}

/// Before the blade: a mistake in its configuration, and no room on the state partition.
const SPOIL: &str = "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target systemd-tmpfiles-setup.service\n\
    Before=fanblade.service\n[Service]\nType=oneshot\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/bin/sh -c 'cd /var/lib/fanblade; cp fanblade.toml right; echo [data] >fanblade.toml; \
    echo lisen = 7 >>fanblade.toml; for size in 1G 256M 64M 16M 4M 1M 64K 4K; do i=0; \
    while fallocate -l $size /var/full-$size-$i 2>/dev/null; do i=$((i + 1)); done; done; \
    df -h /var; echo trial: full'\n";
/// At the host's word: the right configuration again, by rename, for which no room is needed. A login prompt hangs up
/// whoever has the terminal open, so that each line opens the console anew.
const MEND: &str = "[Unit]\nAfter=fanblade.service\n[Service]\n\
    ExecStart=/bin/sh -c 'say() { echo trial: $* >/dev/console; }; \
    until dd if=/dev/disk/by-id/virtio-word iflag=direct bs=512 count=1 2>/dev/null | grep -q mend; do sleep 1; done; \
    mv /var/lib/fanblade/right /var/lib/fanblade/fanblade.toml; say mended; \
    say chrony is $(systemctl is-active chrony)'\n";
