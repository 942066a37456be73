//! A factory reset: at the next boot the state partition is new, and after that it stays.

use anyhow::ensure;

use super::boot::{BOOT_MAX, script};
use crate::image::{Place, Scratch};
use crate::vm::machine::{Card, Machine, Options};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let start = |line: &str, reboots| {
        let options = Options { card: Card::User, credentials: script(line), reboots, ..Options::default() };
        Machine::start(place, &disk, scratch.path(), &options)
    };
    let machine = start(
        "echo >/var/mark; echo >/var/lib/fanblade/mark; echo no | fanblade reset || echo trial: not without the word; \
         fanblade reset --yes && echo trial: asked; sync; systemctl reboot",
        false,
    )?;
    machine.until("trial: asked", BOOT_MAX)?;
    ensure!(machine.said("trial: not without the word").is_some(), "{}", machine.tail());
    ensure!(machine.wait(BOOT_MAX).is_some(), "it does not reboot\n{}", machine.tail());
    drop(machine);
    let machine = start(
        "if [ -e /var/later ]; then echo trial: stays; exit; fi; [ -e /var/mark ] || echo trial: gone; \
         cat /var/lib/fanblade/fanblade.toml; ls /sys/firmware/efi/efivars/FactoryReset* || echo trial: not again; \
         echo >/var/later; sync; systemctl reboot",
        true,
    )?;
    let new = machine.until("fanblade: the state partition is new", BOOT_MAX)?;
    machine.until("trial: gone", BOOT_MAX)?;
    let serving = machine.until("fanblade: serving", BOOT_MAX)?;
    machine.until("trial: not again", BOOT_MAX)?;
    machine.until("trial: stays", BOOT_MAX)?;
    ensure!(machine.lines("fanblade: the state partition is new").len() == 1, "twice\n{}", machine.tail());
    Ok(format!(
        "it asks; the state partition is new {:.0} s after the reboot, the blade serves after {:.0} s, and the next boot keeps \
         the new one",
        new.as_secs_f64(),
        serving.as_secs_f64()
    ))
}
