//! The stick: it takes the only empty disk by itself, goes on where it was cut off, erases nothing that nobody named,
//! and takes the configuration along.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::boot::{BOOT_MAX, WAIT_MAX, until_ready};
use crate::image::{Place, Scratch};
use crate::vm::machine::{Bus, Card, Disk, Machine, Options};
use crate::vm::network::{GUEST, Network};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let dir = scratch.path();
    let (target, other) = (empty(scratch, "target", DISK_LEN)?, in_use(place, scratch, "other")?);
    let small = empty(scratch, "small", 100 << 20)?;
    let before = digest(place, &other)?;
    let stick = place.stick(scratch)?;
    let configuration = format!("[data]\nlisten = \"[::]:{PORT}\"\n[admin]\nlisten = \"[::]:7401\"\n");
    put(place, scratch, &stick, "fanblade.toml", &configuration)?;
    let start = || {
        let disk = |file: &Path, serial, bus| Disk { file: file.to_owned(), serial, is_read_only: false, bus };
        let (stick, other) = (disk(&stick, "stick", Bus::Usb), disk(&other, "other", Bus::Virtio));
        let disks = vec![stick, other, disk(&small, "small", Bus::Virtio)];
        Machine::start(place, &target, dir, &Options { disks, ..Options::default() })
    };

    // Cut off while it writes: the disk has no partition table, so that nothing boots from it.
    let machine = start()?;
    machine.until("serial number small: too small: ", BOOT_MAX)?;
    machine.until("fanblade: vda is the only empty disk", BOOT_MAX)?;
    machine.until("fanblade: installing to vda", BOOT_MAX)?;
    std::thread::sleep(CUT_AFTER);
    ensure!(machine.said("is installed on").is_none(), "it was installed before it was cut off\n{}", machine.tail());
    drop(machine);
    ensure!(place.room.run("sfdisk", &["--dump", &place.inside(&target)?]).is_err(), "a partition table, half-way");

    let machine = start()?;
    let took = install(&machine)?;
    ensure!(machine.said("unfinished").is_some(), "what was cut off is not recognised\n{}", machine.tail());
    drop(machine);
    ensure!(digest(place, &other)? == before, "the disk that was in use has changed");

    let network = Arc::new(Network::new());
    let options = Options {
        card: Card::Tap(Arc::clone(&network)),
        credentials: vec![Network::credential()],
        ..Options::default()
    };
    let machine = Machine::start(place, &target, dir, &options)?;
    let ready = until_ready(&network, &machine)?;
    network.run(|| TcpStream::connect((GUEST, PORT))).context("the stick's configuration is not what runs")?;
    drop(machine);

    // Now that both disks are in use: a name that no disk has, then this disk's serial number.
    put(place, scratch, &stick, "fanblade.toml", "[data]\nlisen = 7\n")?;
    let mut machine = start()?;
    machine.until("unknown field `lisen`", BOOT_MAX)?;
    machine.until("serial number first: in use", BOOT_MAX)?;
    answer(&mut machine, "no-such-disk", "fanblade: there is no disk no-such-disk")?;
    answer(&mut machine, "small", "fanblade: vdc is too small")?;
    answer(&mut machine, "first", "fanblade: installing to vda")?;
    let again = install(&machine)?;
    drop(machine);
    ensure!(digest(place, &other)? == before, "the disk that nobody named has changed");
    Ok(format!(
        "cut off, nothing boots; then installed in {:.0} s; ready with the stick's configuration {:.0} s after power; a wrong \
         configuration is named with its line; in use, the disk was erased only by its serial number ({:.0} s); the other disk is \
         as it was",
        took.as_secs_f64(),
        ready.as_secs_f64(),
        again.as_secs_f64(),
    ))
}

/// Types an answer until the console says these words: the question is a line without an end, which nobody sees here.
fn answer(machine: &mut Machine, line: &str, words: &str) -> anyhow::Result<()> {
    let deadline = machine.age() + WAIT_MAX;
    loop {
        machine.type_line(line)?;
        match machine.until(words, ANSWER_INTERVAL) {
            Err(_) if machine.age() < deadline => {}
            said => return said.map(drop),
        }
    }
}

/// Waits until the stick has installed and switched the machine off. Returns how long the installation took.
pub(super) fn install(machine: &Machine) -> anyhow::Result<Duration> {
    let started = machine.until("fanblade: installing to", BOOT_MAX)?;
    let ended = machine.until("is installed on", BOOT_MAX)?;
    ensure!(machine.wait(BOOT_MAX).is_some(), "it does not switch itself off\n{}", machine.tail());
    Ok(ended.saturating_sub(started))
}

/// An empty disk of so many bytes.
fn empty(scratch: &Scratch, name: &str, len: u64) -> anyhow::Result<PathBuf> {
    let file = scratch.path().join(format!("{name}.raw"));
    fs::File::create(&file)?.set_len(len)?;
    Ok(file)
}

/// A disk with a file system on all of it.
pub(super) fn in_use(place: &Place, scratch: &Scratch, name: &str) -> anyhow::Result<PathBuf> {
    let file = empty(scratch, name, DISK_LEN)?;
    place.room.run("mkfs.ext4", &["-q", "-L", name, &place.inside(&file)?])?;
    Ok(file)
}

fn digest(place: &Place, disk: &Path) -> anyhow::Result<String> {
    place.room.run("sha256sum", &[&place.inside(disk)?])
}

/// Puts a file on the stick's part for configuration, as an engineer does.
fn put(place: &Place, scratch: &Scratch, stick: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let start = place.partition(stick, |name| name == "FANBLADE")?;
    let file = scratch.path().join(name);
    fs::write(&file, text)?;
    let image = format!("{}@@{start}", place.inside(stick)?);
    place.room.run("mcopy", &["-o", "-i", &image, &place.inside(&file)?, "::"])?;
    Ok(())
}

/// Larger than an installation needs, and sparse.
const DISK_LEN: u64 = 3 << 30;
/// The stick's configuration has the blade listen here.
const PORT: u16 = 7_450;
/// Some time into the copying, which takes longer in an emulated machine.
const CUT_AFTER: Duration = Duration::from_secs(2);
const ANSWER_INTERVAL: Duration = Duration::from_secs(10);
