//! Updates: a changed or an older one is refused, an interrupted one is tried again, a good one stays, a broken one
//! goes away by itself; and a rollback stays.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, ensure};

use super::boot::{BOOT_MAX, script};
use crate::image::{Place, Scratch};
use crate::vm::machine::{Bus, Card, Disk, Machine, Options};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let current = place.version()?;
    let [good, broken] = [next(&current, 1)?, next(&current, 2)?];
    let files = scratch.path().join("files");
    fs::create_dir(&files)?;
    for (name, version) in [("good", &good), ("broken", &broken)] {
        let overlay = scratch.path().join("overlay");
        if name == "broken" {
            let units = overlay.join("usr/lib/systemd/system");
            fs::create_dir_all(units.join("fanblade.service.d"))?;
            fs::write(
                units.join("fanblade.service.d/broken.conf"),
                "[Service]\nType=simple\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sleep infinity\n",
            )?;
            fs::create_dir_all(units.join("fanblade-healthy.service.d"))?;
            fs::write(units.join("fanblade-healthy.service.d/soon.conf"), "[Service]\nTimeoutStartSec=20\n")?;
        }
        let update = place.update(scratch, version, (name == "broken").then_some(overlay.as_path()))?;
        fs::copy(&update.file, files.join(format!("{name}.update")))?;
        fs::copy(&update.signature, files.join(format!("{name}.update.minisig")))?;
    }
    // One byte more than was signed.
    fs::copy(files.join("good.update"), files.join("changed.update"))?;
    fs::copy(files.join("good.update.minisig"), files.join("changed.update.minisig"))?;
    fs::File::options().append(true).open(files.join("changed.update"))?.write_all(&[0])?;
    for ending in ["update", "update.minisig"] {
        fs::copy(place.dir.join(format!("fanblade_{current}.{ending}")), files.join(format!("older.{ending}")))?;
    }
    fs::write(files.join("trial.sh"), SCRIPT)?;
    let updates = scratch.path().join("updates.raw");
    place.room.run("mkfs.erofs", &["--quiet", &place.inside(&updates)?, &place.inside(&files)?])?;
    fs::remove_dir_all(&files)?;

    let options = Options {
        card: Card::User,
        disks: vec![Disk { file: updates, serial: "updates", is_read_only: true, bus: Bus::Virtio }],
        credentials: script(
            "mkdir -p /run/updates; mount -o ro /dev/disk/by-id/virtio-updates /run/updates; sh /run/updates/trial.sh",
        ),
        reboots: true,
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    machine.until(&format!("trial: 1 runs {current}"), BOOT_MAX)?;
    machine.until("trial: refused changed", BOOT_MAX)?;
    let taken = machine.until("trial: took good", BOOT_MAX)?;
    for said in ["trial: killed while it unpacked", "trial: killed while it wrote", "is on the disk already"] {
        ensure!(machine.said(said).is_some(), "not said: {said:?}\n{}", machine.tail());
    }
    machine.until(&format!("fanblade: this version is kept as fanblade_{good}.efi"), BOOT_MAX)?;
    let kept = machine.until(&format!("trial: 2 runs {good}"), BOOT_MAX)?;
    machine.until("trial: refused older", BOOT_MAX)?;
    ensure!(machine.said("is not newer than").is_some(), "older, without its reason\n{}", machine.tail());
    machine.until(&format!("trial: 3 runs {current}"), BOOT_MAX)?;
    let stays = machine.until(&format!("trial: 4 runs {current}"), BOOT_MAX)?;
    machine.until("trial: took broken", BOOT_MAX)?;
    let given_up = machine.until("trial: end", TRIES * BOOT_MAX)?;
    let tries = machine.lines("fanblade: this version is not healthy, rebooting").len();
    ensure!(tries == usize::try_from(TRIES)?, "{tries} tries of the broken version, not {TRIES}\n{}", machine.tail());
    let end = machine.line("trial: 5 runs").context("it does not say what it runs in the end")?;
    ensure!(end.contains(&current), "it ends with {end:?}");
    ensure!(machine.said("was given up: it did not become healthy").is_some(), "a rollback to it\n{}", machine.tail());
    Ok(format!(
        "a changed and an older one are refused; killed twice and tried again, {good} is kept {:.0} s after it was taken; a \
         rollback to {current} stays over a reboot ({:.0} s); {broken}, broken, was left after {tries} tries ({:.0} s)",
        (kept - taken).as_secs_f64(),
        (stays.saturating_sub(kept)).as_secs_f64(),
        (given_up.saturating_sub(stays)).as_secs_f64(),
    ))
}

/// The version `by` patches later.
pub(super) fn next(version: &str, by: u64) -> anyhow::Result<String> {
    let (front, patch) = version.rsplit_once('.').context("a version without a dot")?;
    Ok(format!("{front}.{}", patch.parse::<u64>()? + by))
}

/// Inside, at each boot: the next part of this machine's life.
const SCRIPT: &str = r#"
. /etc/os-release
cd /run/updates
boot=$(($(cat /var/boot 2>/dev/null || echo 0) + 1))
echo "trial: $boot runs $IMAGE_VERSION"
echo $boot >/var/boot
sync
try() { if fanblade update $2 $1.update; then echo "trial: took $1"; else echo "trial: refused $1"; fi; }
case $boot in
1)
    try changed
    fanblade update good.update &
    update=$!
    until [ -e /run/fanblade-update.unverified ] || [ -e /run/fanblade-update ]; do sleep 0.1; done
    kill -9 $update && echo "trial: killed while it unpacked"
    wait $update
    fanblade update good.update &
    update=$!
    until [ -e /run/fanblade-update ]; do sleep 0.1; done
    sleep 2
    kill -9 $update && echo "trial: killed while it wrote"
    wait $update
    # What wrote goes on for a moment.
    for i in $(seq 60); do fanblade update good.update && break; sleep 2; done
    try good
    systemctl reboot
    ;;
2)
    try older
    fanblade rollback
    fanblade versions
    systemctl reboot
    ;;
3)
    fanblade versions
    systemctl reboot
    ;;
4)
    try good
    try broken
    systemctl reboot
    ;;
*)
    fanblade versions
    fanblade rollback
    ls -l /efi/EFI/Linux
    echo "trial: end"
    ;;
esac
"#;
/// As the image's 70-uki.transfer says.
const TRIES: u32 = 3;
