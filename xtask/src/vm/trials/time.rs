//! PTP (IEEE 1588): a clock of the network, here on the tap, becomes the source of the machine's time.

use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use fanblade_testkit::Child;

use super::boot::{BOOT_MAX, WAIT_MAX, unit};
use crate::image::{Place, Scratch};
use crate::vm::machine::{Card, Machine, Options};
use crate::vm::network::{Network, TAP};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let network = Arc::new(Network::new());
    let options = Options {
        card: Card::Tap(Arc::clone(&network)),
        credentials: [vec![Network::credential()], unit("name", NAME), unit("ask", ASK)].concat(),
        ..Options::default()
    };
    let disk = place.overlay(&scratch.path().join("disk.qcow2"))?;
    let machine = Machine::start(place, &disk, scratch.path(), &options)?;
    network.until_up();
    let clock = || {
        // A `Child` ends with its thread: this one waits for the trial's end.
        let mut ptp4l = Command::new("ptp4l");
        ptp4l.args(["-S", "-4", "-i", TAP, "--serverOnly", "1", "--priority1", "1", "--uds_address", "/run/ptp4l"]);
        let _clock = Child::try_spawn(ptp4l.stdin(Stdio::null()).stdout(Stdio::null())).context("starting ptp4l")?;
        machine.until("trial: asked", BOOT_MAX)?;
        machine.until("#* PTP0", WAIT_MAX)
    };
    let at = network.run(|| place.room.within(clock)).flatten()?;
    let line = machine.line("#* PTP0").unwrap_or_default();
    Ok(format!("chrony follows a clock of the network {:.0} s after power: {:?}", at.as_secs_f64(), line.trim()))
}

/// Before the clock's programs: the site's file, with the interface that this machine has.
const NAME: &str = "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target systemd-tmpfiles-setup.service\n\
    Before=fanblade-ptp.service chrony.service\n[Service]\nType=oneshot\n\
    ExecStart=/bin/sh -c 'for i in $(seq 60); do card=$(ls /sys/class/net | grep ^e) && break; sleep 1; done; \
    sed \"s/^interfaces .*/interfaces $card/\" /usr/share/fanblade/ptp.conf >/var/lib/fanblade/ptp.conf'\n";
const ASK: &str = "[Unit]\nAfter=fanblade-ptp.service\n[Service]\nStandardOutput=tty\nTTYPath=/dev/ttyS0\n\
    ExecStart=/bin/sh -c 'systemctl is-active chrony fanblade-ptp; echo trial: asked; \
    while sleep 5; do chronyc -n sources; done'\n";
