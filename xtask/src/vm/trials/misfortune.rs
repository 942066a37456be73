//! No DHCP server, a configuration with a mistake, a full state partition, all at once: the console says what is
//! wrong, and once the mistake is mended the blade serves.

use anyhow::ensure;

use super::boot::BOOT_MAX;
use crate::image::{Place, Scratch};
use crate::vm::machine::{Card, Machine, Options};
use crate::vm::network::Network;

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let unit = |name: &str, text: &str| {
        [
            (format!("systemd.extra-unit.{name}.service"), text.to_owned()),
            (format!("systemd.unit-dropin.multi-user.target~{name}"), format!("[Unit]\nWants={name}.service\n")),
        ]
    };
    let options = Options {
        card: Card::Tap(Network::new().into()),
        credentials: [unit("spoil", SPOIL), unit("mend", MEND)].concat(),
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    machine.until("trial: full", BOOT_MAX)?;
    let mistake = machine.until("unknown field `lisen`", BOOT_MAX)?;
    machine.until("fanblade: no address yet", BOOT_MAX)?;
    ensure!(machine.said("fanblade: serving").is_none(), "it serves with a wrong configuration\n{}", machine.tail());
    let mended = machine.until("trial: mended", BOOT_MAX)?;
    let serving = machine.until("fanblade: serving", BOOT_MAX)?;
    Ok(format!(
        "the console names the mistake after {:.0} s and the missing address; the blade serves {:.0} s after it was mended, on \
         a full partition",
        mistake.as_secs_f64(),
        (serving.saturating_sub(mended)).as_secs_f64(),
    ))
}

/// Before the blade: a mistake in its configuration, and no room on the state partition.
const SPOIL: &str = "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target systemd-tmpfiles-setup.service\n\
    Before=fanblade.service\n[Service]\nType=oneshot\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/bin/sh -c 'cd /var/lib/fanblade; cp fanblade.toml right; echo [data] >fanblade.toml; \
    echo lisen = 7 >>fanblade.toml; for size in 1G 256M 64M 16M 4M 1M 64K 4K; do i=0; \
    while fallocate -l $size /var/full-$size-$i 2>/dev/null; do i=$((i + 1)); done; done; \
    df -h /var; echo trial: full'\n";
/// Once the console has said both: the right configuration again, by rename, for which no room is needed.
const MEND: &str = "[Unit]\nAfter=fanblade.service\n[Service]\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/bin/sh -c 'sleep 90; mv /var/lib/fanblade/right /var/lib/fanblade/fanblade.toml; echo trial: mended'\n";
