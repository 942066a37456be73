//! The power fails at every point of a blade's life: first boot, update, blessing, the next update. Whatever the disk
//! has kept by then, a version that was kept before starts from it.
//!
//! The life is recorded once, write by write. What is left at each point is looked at without starting it
//! ([`state::State`]); the points of most interest are also started.

mod points;
mod state;
mod table;

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use self::points::{Point, Seen, left};
use self::state::{Checker, Version};
use self::table::Table;
use super::boot::{BOOT_MAX, unit};
use super::update::next;
use crate::image::{Place, Scratch, Update};
use crate::vm::machine::{self, Card, Machine, Options};
use crate::vm::writes::Log;

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let current = place.version()?;
    let names = [next(&current, 1)?, next(&current, 2)?];
    let updates = [place.update(scratch, &names[0], None)?, place.update(scratch, &names[1], None)?];
    let log = record(place, scratch, &updates).context("recording")?;
    let base = File::open(&place.raw)?;
    let mut versions = vec![Version::read(&place.dir, &current)?];
    for (update, name) in updates.iter().zip(&names) {
        versions.push(Version::read(update.file.parent().context("an update lies in a directory")?, name)?);
    }
    let slot = versions[1].root_uuid();
    let loader = fs::read(place.tree.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi"))?;

    let started = Instant::now();
    let seen = Seen::look(&base, &log, &mut Checker::new(versions, loader))?;
    let entries = log.entries.len();
    println!(
        "{entries} entries, {} points and {} draws of what was not flushed, looked at in {:.0} s",
        entries + 1,
        seen.draws,
        started.elapsed().as_secs_f64()
    );
    println!("{seen}");
    let boots = interesting(&base, &log, &seen, &names, slot)?;
    let mut took = Vec::new();
    for (name, point) in &boots {
        let serving =
            boot(place, scratch, &base, &log, point).with_context(|| format!("power lost {name}, {point}"))?;
        println!("power lost {name} ({point}): {serving}");
        took.push(*name);
    }
    let faults = seen.faults();
    ensure!(faults.is_empty(), "the blade would not come back: {}", faults.join("; "));
    Ok(format!(
        "{} points and {} draws of what was not flushed: each leaves a version that starts; started, they serve: {}",
        entries + 1,
        seen.draws,
        took.join(", ")
    ))
}

/// A life: the first boot, an update, the boot that blesses it, the next update.
fn record(place: &Place, scratch: &Scratch, updates: &[Update]) -> anyhow::Result<Log> {
    let files = scratch.path().join("files");
    fs::create_dir(&files)?;
    for (number, update) in (1..).zip(updates) {
        fs::copy(&update.file, files.join(format!("{number}.update")))?;
        fs::copy(&update.signature, files.join(format!("{number}.update.minisig")))?;
    }
    let disk = scratch.path().join("updates.raw");
    place.room.run("mkfs.erofs", &["--quiet", &place.inside(&disk)?, &place.inside(&files)?])?;
    fs::remove_dir_all(&files)?;
    let log = scratch.path().join("writes.log");
    let options = Options {
        card: Card::User,
        disks: vec![machine::Disk { file: disk, serial: "updates", is_read_only: true, bus: machine::Bus::Virtio }],
        write_log: Some(log.clone()),
        credentials: unit("trial", UNIT),
        reboots: true,
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    machine.until("trial: took 1.update", BOOT_MAX)?;
    machine.until("trial: took 2.update", BOOT_MAX)?;
    machine.until("trial: end", BOOT_MAX)?;
    drop(machine);
    Log::open(&log)
}

/// Points to start from, each with its name. `names`: the versions of the updates; `slot`: the UUID of the first one's
/// root partition.
fn interesting(
    base: &File,
    log: &Log,
    seen: &Seen,
    names: &[String; 2],
    slot: [u8; 16],
) -> anyhow::Result<Vec<(&'static str, Point)>> {
    let table = |count: usize| Table::read(&left(base, log, &Point::After(count)))?.context("no partition table");
    let counted = seen.first(|state| state.starts(&names[0], true)).context("the update was never there")?;
    let kept = seen.first(|state| state.starts(&names[0], false)).context("the update was never blessed")?;
    let made = seen.first(|state| state.has_state).context("there never was a state partition")?;
    let partitions = table(counted)?.partitions;
    let slot = partitions.iter().find(|partition| partition.uuid == slot).context("no slot of the update")?;
    let esp = partitions.iter().find(|partition| partition.kind == table::ESP).context("no ESP")?;
    let next = seen.first(|state| state.starts(&names[1], true)).context("the second update was never there")?;
    let old =
        table(0)?.partitions.into_iter().find(|partition| partition.kind == slot.kind).context("no first slot")?;
    let whole = 0..u64::MAX;
    // systemd-boot counts the try.
    let tried = seen.change_before(kept);
    Ok(vec![
        ("in the first boot's repart", middle(log, 0..made, &whole)?),
        ("as the first boot ends its repart", Point::After(made)),
        ("in the middle of writing slot B", middle(log, made..counted, &slot.range)?),
        ("right after the new version's UKI got its name", Point::After(counted)),
        ("in the middle of the blessing copy", middle(log, tried..kept, &esp.range)?),
        ("right after the blessing copy", Point::After(kept)),
        ("in the middle of writing the next version over slot A", middle(log, kept..next, &old.range)?),
    ])
}

/// The middle one of those of these entries that write to a range of the disk.
fn middle(log: &Log, entries: Range<usize>, range: &Range<u64>) -> anyhow::Result<Point> {
    let writes: Vec<usize> = entries
        .clone()
        .filter(|index| log.entries[*index].range.start < range.end && range.start < log.entries[*index].range.end)
        .collect();
    let index = writes.get(writes.len() / 2).with_context(|| format!("no entry of {entries:?} writes to {range:?}"))?;
    Ok(Point::After(index + 1))
}

/// Starts from what is left. Returns when it served.
fn boot(place: &Place, scratch: &Scratch, base: &File, log: &Log, point: &Point) -> anyhow::Result<String> {
    let disk = scratch.path().join("left.raw");
    copy(place, &disk)?;
    left(base, log, point).store(&File::options().write(true).open(&disk)?)?;
    // The firmware's variables are those of another machine: the disk was moved, or its battery is empty.
    let _ = fs::remove_file(scratch.path().join("variables.fd"));
    let machine = Machine::start(
        place,
        &disk,
        scratch.path(),
        &Options { card: Card::User, reboots: true, ..Options::default() },
    )?;
    let serving = machine.until("fanblade: serving", BOOT_MAX)?;
    Ok(format!("serves after {:.0} s", serving.as_secs_f64()))
}

fn copy(place: &Place, disk: &Path) -> anyhow::Result<()> {
    place.room.run("cp", &["--sparse=always", &place.inside(&place.raw)?, &place.inside(disk)?]).map(drop)
}

/// Inside: takes an update at the first boot, and another at the boot after it, once the first one is kept. A login
/// prompt hangs up whoever has the terminal open, so that each line opens the console anew.
const UNIT: &str = "[Unit]\nRequires=boot-complete.target\nAfter=boot-complete.target fanblade-bless.service\n\
    [Service]\nType=oneshot\nStandardOutput=journal+console\nStandardError=journal+console\n\
    ExecStart=/bin/sh -c 'say() { echo trial: $* >/dev/console; }; \
    mkdir -p /run/updates; mount -o ro /dev/disk/by-id/virtio-updates /run/updates; \
    for i in 1 2; do [ -e /var/tried-$i ] && continue; touch /var/tried-$i; sync; \
    fanblade update /run/updates/$i.update && say took $i.update; break; done; \
    [ $i = 1 ] && systemctl reboot && exit; sync; say end'\n";
