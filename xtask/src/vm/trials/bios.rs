//! Without UEFI: the image boots; the stick erases the one disk that a credential names, and that disk boots.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use super::boot::until_ready;
use super::installer::{in_use, install};
use crate::image::{Place, Scratch};
use crate::vm::machine::{Bus, Card, Disk, Firmware, Machine, Options};
use crate::vm::network::Network;

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let image = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let shipped = boot(place, scratch, &image)?;

    // Two disks that are in use; one of them is named.
    let (target, other) = (in_use(place, scratch, "target")?, in_use(place, scratch, "other")?);
    let stick = Disk { file: place.stick(scratch)?, serial: "stick", is_read_only: false, bus: Bus::Usb };
    let other = Disk { file: other, serial: "other", is_read_only: false, bus: Bus::Virtio };
    let options = Options {
        firmware: Firmware::Bios,
        disks: vec![stick, other],
        credentials: vec![("fanblade.install".to_owned(), "first".to_owned())],
        ..Options::default()
    };
    let machine = Machine::start(place, &target, scratch.path(), &options)?;
    let took = install(&machine)?;
    drop(machine);
    let installed = boot(place, scratch, &target)?;
    Ok(format!(
        "the image is ready {:.0} s after power; installing to the named one of two disks in use: {:.0} s, and it is ready \
         {:.0} s after power",
        shipped.as_secs_f64(),
        took.as_secs_f64(),
        installed.as_secs_f64(),
    ))
}

/// Boots a disk until the blade is ready.
fn boot(place: &Place, scratch: &Scratch, disk: &Path) -> anyhow::Result<Duration> {
    let network = Arc::new(Network::new());
    let options = Options {
        firmware: Firmware::Bios,
        card: Card::Tap(Arc::clone(&network)),
        credentials: vec![Network::credential()],
        ..Options::default()
    };
    let machine = Machine::start(place, disk, scratch.path(), &options)?;
    let ready = until_ready(&network, &machine)?;
    ensure!(machine.said("fanblade: BIOS boot of").is_some(), "it was not GRUB that booted it\n{}", machine.tail());
    Ok(ready)
}
