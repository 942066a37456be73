//! Configuration from outside: a stick, a credential of the hypervisor, signed or not; and SSH, which comes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::boot::{BOOT_MAX, until_ready};
use crate::image::{Place, Scratch};
use crate::vm::machine::{Bus, Card, Disk, Machine, Options};
use crate::vm::network::{GUEST, Network};

pub(super) fn run(place: &Place, scratch: &Scratch) -> anyhow::Result<String> {
    let dir = scratch.path();
    let inside = |name: &str| place.inside(&dir.join(name));
    place.room.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &inside("id")?])?;
    place.room.run("minisign", &["-G", "-f", "-W", "-p", &inside("site.pub")?, "-s", &inside("site.key")?])?;
    let text = |name: &str| fs::read_to_string(dir.join(name)).with_context(|| name.to_owned());
    let network = Arc::new(Network::new());
    let disk = place.overlay(&dir.join("disk.qcow2"))?;
    let start = |stick: PathBuf, credentials: Vec<(String, String)>| {
        let options = Options {
            card: Card::Tap(Arc::clone(&network)),
            disks: vec![Disk { file: stick, serial: "stick", is_read_only: true, bus: Bus::Virtio }],
            credentials,
            ..Options::default()
        };
        let machine = Machine::start(place, &disk, dir, &options)?;
        network.until_up();
        anyhow::Ok(machine)
    };

    // The first boot: nothing is signed, since no key is known yet.
    let (_, address) = Network::credential();
    let blade = "[data]\nlisten = \"[::]:7400\"\n[admin]\nlisten = \"[::]:7401\"\n[feed.simulator]\nsymbols = 100\n";
    let files = [("fanblade.toml", blade), ("static.network", &address)];
    let machine = start(
        stick(place, dir, "first", &files, &[])?,
        vec![
            ("fanblade.toml".to_owned(), "[feed.simulator]\nsymbols = 200\n".to_owned()),
            ("fanblade.authorized_keys".to_owned(), text("id.pub")?),
            ("fanblade.configuration.pub".to_owned(), text("site.pub")?),
        ],
    )?;
    let first = until_ready(&network, &machine)?;
    for said in [
        "fanblade: fanblade.toml taken from the stick",
        "fanblade: the addresses (*.network) taken from the stick",
        "fanblade: authorized_keys taken from credentials",
        "fanblade: configuration.pub taken from credentials",
        "fanblade: ssh host key 256 SHA256:",
    ] {
        machine.until(said, BOOT_MAX)?;
    }
    let ssh = |arguments: &[&str]| ssh(place, &network, &dir.join("id"), arguments);
    let output = ssh(&["cat /var/lib/fanblade/fanblade.toml; sync"])?;
    ensure!(String::from_utf8_lossy(&output.stdout) == blade, "{output:?}");
    let output = ssh(&["-o", "PubkeyAuthentication=no", "true"])?;
    ensure!(!output.status.success(), "in without a key");
    drop(machine);

    // The second boot: that key must have signed what a stick brings. The SSH key and the address are kept.
    let debug = format!("{blade}[log]\nlevel = \"debug\"\n");
    let wrong = format!("{blade}lisen = 7\n");
    let files =
        [("fanblade.toml", debug.as_str()), ("static.network", &address), ("authorized_keys", "ssh-dss AAAA\n")];
    let machine = start(stick(place, dir, "second", &files, &["authorized_keys"])?, Vec::new())?;
    machine.until("fanblade.toml is not signed: fanblade.toml.minisig is missing", BOOT_MAX)?;
    machine.until("authorized_keys from the stick refused, nothing is changed: line 1", BOOT_MAX)?;
    until_ready(&network, &machine)?;
    machine.until("fanblade: ssh host key", BOOT_MAX)?;
    let output = ssh(&["cat /var/lib/fanblade/fanblade.toml; fanblade versions; nft list ruleset"])?;
    let inside = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(inside.starts_with(blade) && inside.contains("kept, runs"), "{output:?}");
    // By hand, as an operator does it: wrong, then right.
    let by_hand = |name: &str, text: &str| -> anyhow::Result<Output> {
        let image = stick(place, dir, name, &[("fanblade.toml", text)], &["fanblade.toml"])?;
        drop(image);
        let [file, signature] = ["fanblade.toml", "fanblade.toml.minisig"].map(|file| dir.join(name).join(file));
        let put = |path: &Path| anyhow::Ok(fs::read_to_string(path)?.replace('\'', ""));
        let script = format!(
            "mkdir -p /run/by-hand; cd /run/by-hand; echo '{}' | head -c -1 >fanblade.toml; echo '{}' >fanblade.toml.minisig; \
             fanblade configure /run/by-hand",
            put(&file)?,
            put(&signature)?
        );
        ssh(&[&script])
    };
    let output = by_hand("wrong", &wrong)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!output.status.success() && said.contains("unknown field `lisen`"), "{output:?}");
    let output = by_hand("right", &debug)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("fanblade.toml taken from the stick"), "{output:?}");
    let bundle =
        ssh(&["cd /var/tmp && fanblade support bundle.tar.gz && tar -xOzf bundle.tar.gz --wildcards '*/index.txt'"])?;
    let index = String::from_utf8_lossy(&bundle.stdout).into_owned();
    let is_there = |name: &str| index.lines().any(|line| line.starts_with(name) && line.ends_with("whole"));
    for part in ["journal/this-boot.txt", "journal/last-boot.txt", "fanblade/status.json", "fanblade/versions.txt"] {
        ensure!(is_there(part), "the support bundle lacks {part}: {index}{}", String::from_utf8_lossy(&bundle.stderr));
    }
    Ok(format!(
        "ready {:.0} s after power, at the address from the stick; its configuration counts before the credential; SSH by the \
         credential's key alone; with a key an unsigned file and a wrong one are refused on the console, a signed one is taken",
        first.as_secs_f64()
    ))
}

/// A disk image that stands for a stick, with these files; those named in `signed` have a signature.
fn stick(place: &Place, dir: &Path, name: &str, files: &[(&str, &str)], signed: &[&str]) -> anyhow::Result<PathBuf> {
    let content = dir.join(name);
    fs::create_dir(&content)?;
    let image = dir.join(format!("{name}.raw"));
    place.room.run("mkfs.vfat", &["-C", "-n", "FANBLADE", &place.inside(&image)?, "8192"])?;
    for (file, text) in files {
        fs::write(content.join(file), text)?;
    }
    for file in signed {
        let (key, file) = (place.inside(&dir.join("site.key"))?, place.inside(&content.join(file))?);
        place.room.run("minisign", &["-S", "-s", &key, "-m", &file])?;
    }
    for file in crate::repository::list(&content) {
        place.room.run("mcopy", &["-i", &place.inside(&image)?, &place.inside(&content.join(file))?, "::"])?;
    }
    Ok(image)
}

fn ssh(place: &Place, network: &Network, key: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-i", &place.inside(key)?, "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]);
    command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=60", "-o", "IdentitiesOnly=yes"]);
    let (options, line) = arguments.split_at(arguments.len() - 1);
    command.args(options).arg(format!("root@{GUEST}")).args(line);
    network.run(|| place.room.output(command))
}
