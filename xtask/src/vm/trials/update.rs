//! Updates: a changed one is refused, a good one stays, a broken one goes away by itself.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, ensure};

use super::boot::BOOT_MAX;
use crate::image::{Place, Scratch};
use crate::vm::machine::{Bus, Card, Disk, Machine, Options};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let current = place.version()?;
    let [good, broken] = [next(&current, 1)?, next(&current, 2)?];
    let files = scratch.path().join("files");
    fs::create_dir(&files)?;
    for (number, version, is_broken) in [(2, &good, false), (3, &broken, true)] {
        let overlay = scratch.path().join("overlay");
        if is_broken {
            let units = overlay.join("usr/lib/systemd/system");
            fs::create_dir_all(units.join("fanblade.service.d"))?;
            fs::write(
                units.join("fanblade.service.d/broken.conf"),
                "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\n",
            )?;
            fs::create_dir_all(units.join("fanblade-healthy.service.d"))?;
            fs::write(units.join("fanblade-healthy.service.d/soon.conf"), "[Service]\nTimeoutStartSec=20\n")?;
        }
        let update = place.update(scratch, version, is_broken.then_some(overlay.as_path()))?;
        fs::copy(&update.file, files.join(format!("{number}.update")))?;
        fs::copy(&update.signature, files.join(format!("{number}.update.minisig")))?;
    }
    // One byte more than was signed.
    fs::copy(files.join("2.update"), files.join("1.update"))?;
    fs::copy(files.join("2.update.minisig"), files.join("1.update.minisig"))?;
    fs::File::options().append(true).open(files.join("1.update"))?.write_all(&[0])?;
    let updates = scratch.path().join("updates.raw");
    place.room.run("mkfs.erofs", &["--quiet", &place.inside(&updates)?, &place.inside(&files)?])?;
    fs::remove_dir_all(&files)?;

    let options = Options {
        card: Card::User,
        disks: vec![Disk { file: updates, serial: "updates", is_read_only: true, bus: Bus::Virtio }],
        credentials: vec![
            ("systemd.extra-unit.trial.service".to_owned(), UNIT.to_owned()),
            ("systemd.unit-dropin.multi-user.target~trial".to_owned(), "[Unit]\nWants=trial.service\n".to_owned()),
        ],
        reboots: true,
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    machine.until(&format!("trial: runs {current}"), BOOT_MAX)?;
    machine.until("trial: refused 1.update", BOOT_MAX)?;
    let writing = machine.until("trial: took 2.update", BOOT_MAX)?;
    machine.until(&format!("fanblade: this version is kept as fanblade_{good}.efi"), BOOT_MAX)?;
    let kept = machine.until(&format!("trial: runs {good}"), BOOT_MAX)?;
    machine.until("trial: took 3.update", BOOT_MAX)?;
    let given_up = machine.until("trial: end", TRIES * BOOT_MAX)?;
    let tries = machine.lines("fanblade: this version is not healthy, rebooting").len();
    ensure!(tries == usize::try_from(TRIES)?, "{tries} tries of the broken version, not {TRIES}\n{}", machine.tail());
    let end = machine.line("trial: end").context("the line was there")?;
    ensure!(end.contains(&good), "it ends with {end:?}");
    Ok(format!(
        "a changed one is refused; {good} is kept {:.0} s after it was written; {broken}, broken, was left after {tries} tries \
         ({:.0} s)",
        (kept - writing).as_secs_f64(),
        (given_up.saturating_sub(kept)).as_secs_f64(),
    ))
}

/// The version `by` patches later.
pub(super) fn next(version: &str, by: u64) -> anyhow::Result<String> {
    let (front, patch) = version.rsplit_once('.').context("a version without a dot")?;
    Ok(format!("{front}.{}", patch.parse::<u64>()? + by))
}

/// Inside: tries each update once, in order, and starts the version that it brings.
const UNIT: &str = "[Unit]\nRequires=boot-complete.target\nAfter=boot-complete.target fanblade-bless.service\n\
    [Service]\nType=oneshot\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/bin/sh -c '. /etc/os-release; echo trial: runs $IMAGE_VERSION; mkdir -p /run/updates; \
    mount -o ro /dev/disk/by-id/virtio-updates /run/updates; \
    for i in 1 2 3; do [ -e /var/tried-$i ] && continue; touch /var/tried-$i; sync; \
    if fanblade update /run/updates/$i.update; then echo trial: took $i.update; systemctl reboot; exit; \
    else echo trial: refused $i.update; fi; done; ls /efi/EFI/Linux; echo trial: end $IMAGE_VERSION'\n";
/// As the image's 70-uki.transfer says.
const TRIES: u32 = 3;
