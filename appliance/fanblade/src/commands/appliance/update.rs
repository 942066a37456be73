//! `fanblade update`: puts a signed version into the slot that is not running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};

use super::esp::Writable;
use super::slots::{Mark, Slots};
use super::version::Version;
use super::{succeed, unpack, versions};
use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The update; its signature is expected beside it (FILE.minisig)
    file: PathBuf,
    /// The key that it must be signed by: the one that the running version came with
    #[arg(long, value_name = "FILE", default_value = "/usr/share/fanblade/update.pub")]
    key: PathBuf,
    /// Only say whether the signature is right, and of which version it is
    #[arg(long)]
    check: bool,
    /// Also take a version that is not newer than the newest one that was healthy here
    #[arg(long)]
    allow_older: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    if args.check {
        let version = unpack::read(&args.file, &args.key, None)?;
        out::say(format_args!("{}: version {version}, signed by our key", args.file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    super::need_root("update")?;
    let running = super::running("update")?;
    let _lock = lock()?;
    let slots = Slots::here();
    versions::ready_for_update(&slots, running)?;
    let parts = Parts::new(&args.file)?;
    let version = unpack::read(&args.file, &args.key, Some(&parts.0))?;
    out::say(format_args!("{}: version {version}, signed by our key", args.file.display()))?;
    may_replace(version, running, versions::newest(&slots, running)?, args.allow_older)?;
    let boot_file = fs::read(parts.0.join(format!("fanblade_{version}.efi"))).context("cannot read the boot file")?;
    if let Some(there) = slots.boot_file(version)? {
        let is_same = slots.check(&there).is_ok() && slots.content(&there)? == boot_file;
        if is_same && matches!(there.mark, Mark::Tries(_)) {
            // Whoever wrote it may have been killed before this.
            super::esp::sync(Path::new(super::esp::BOOT))?;
            out::say(format_args!("version {version} is on the disk already: `systemctl reboot` starts it"))?;
            return Ok(ExitCode::SUCCESS);
        }
        ensure!(
            !(is_same && there.mark.is_proven()),
            "version {version} is on the disk already: `fanblade rollback {version}` starts it"
        );
    }
    let parts = parts.publish()?;
    let esp = Writable::new()?;
    // A slot that holds this version already, whole or in part, would be taken as it is.
    if is_there(&slots, version)? {
        slots.forget(version)?;
        succeed(Command::new(SYSUPDATE).args(["vacuum", "--instances-max=1"]))?;
    }
    // The parts of the slot first, the file that the firmware starts last: a boot never finds half a version.
    succeed(Command::new(SYSUPDATE).args(["--verify=no", "update", &version.to_string()]))?;
    // sysupdate renames the new file into its place, but does not wait for the disk.
    esp.end()?;
    drop(parts);
    // Names of partitions follow what was written only a moment later.
    let _ = succeed(Command::new("udevadm").args(["settle", "--timeout=10"]));
    let written = slots.boot_file(version)?.filter(|file| matches!(file.mark, Mark::Tries(_)));
    slots.check(&written.with_context(|| format!("version {version} was written, but has no boot file"))?)?;
    if version < running {
        // The boot loader takes the newest version. This one once, and it is kept if it is healthy; else the one that
        // runs.
        super::set_firmware_variable("LoaderEntryOneShot", super::LOADER, &format!("fanblade_{version}[+.]*"))?;
    }
    out::say(format_args!(
        "version {version} is on the disk. `systemctl reboot` starts it; if it does not become healthy, the machine goes \
         back to {running} by itself."
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// An old version has old faults: it must be wanted.
fn may_replace(version: Version, running: Version, newest: Version, allow_older: bool) -> anyhow::Result<()> {
    if version == running {
        bail!("version {version} runs already");
    }
    if version <= newest && !allow_older {
        bail!(
            "version {version} is not newer than {newest}, which was healthy here once; `--allow-older` takes it all the \
             same"
        );
    }
    Ok(())
}

/// Whether anything of a version is in a slot.
fn is_there(slots: &Slots, version: Version) -> anyhow::Result<bool> {
    Ok(slots.boot_file(version)?.is_some() || slots.has_partition(version))
}

/// One update at a time. systemd-sysupdate holds the lock as well: it may go on when this process was killed.
fn lock() -> anyhow::Result<Flock<File>> {
    let file = File::create(LOCK).with_context(|| format!("cannot make {LOCK}"))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .context("another update is under way: wait for its end")?;
    // Children inherit it.
    fcntl(&*lock, FcntlArg::F_SETFD(FdFlag::empty())).with_context(|| format!("cannot hold {LOCK}"))?;
    Ok(lock)
}

/// The parts of an update, in memory; removed when this is dropped.
struct Parts(PathBuf);

impl Parts {
    /// An empty directory with room for what is in `file`.
    fn new(file: &Path) -> anyhow::Result<Parts> {
        for left in [PARTS, UNVERIFIED] {
            if Path::new(left).exists() {
                fs::remove_dir_all(left).with_context(|| format!("cannot remove {left}, which an update left"))?;
            }
        }
        let needed = fs::metadata(file).with_context(|| format!("cannot open {}", file.display()))?.len();
        let room = nix::sys::statvfs::statvfs("/run").context("cannot look at /run")?;
        let free = room.blocks_available() * room.fragment_size();
        ensure!(
            needed <= free,
            "not enough room in /run, which is in memory: the update needs {} MiB, {} MiB are free",
            needed.div_ceil(MIB),
            free / MIB
        );
        fs::create_dir(UNVERIFIED).with_context(|| format!("cannot make {UNVERIFIED}"))?;
        Ok(Parts(UNVERIFIED.into()))
    }

    /// Verified parts go where systemd-sysupdate looks for them.
    fn publish(mut self) -> anyhow::Result<Parts> {
        fs::rename(&self.0, PARTS).with_context(|| format!("cannot make {PARTS}"))?;
        self.0 = PARTS.into();
        Ok(self)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Part of the image; its settings are in /usr/lib/sysupdate.d.
const SYSUPDATE: &str = "/usr/lib/systemd/systemd-sysupdate";
/// What those settings name as the source. In memory.
const PARTS: &str = "/run/fanblade-update";
/// Where parts are until they are verified.
const UNVERIFIED: &str = "/run/fanblade-update.unverified";
const LOCK: &str = "/run/fanblade-update.lock";
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_must_be_wanted() {
        let may = |version: &str, running: &str, newest: &str, allow_older| {
            let [version, running, newest] = [version, running, newest].map(|version| version.parse().unwrap());
            may_replace(version, running, newest, allow_older).map_err(|error| error.to_string())
        };
        may("0.2.0", "0.1.0", "0.1.0", false).unwrap();
        assert!(may("0.1.0", "0.1.0", "0.1.0", true).unwrap_err().contains("runs already"));
        for version in ["0.0.9", "0.1.1", "0.1.2"] {
            let error = may(version, "0.1.0", "0.1.2", false).unwrap_err();
            assert!(error.contains("not newer than 0.1.2"), "{error}");
            may(version, "0.1.0", "0.1.2", true).unwrap();
        }
    }
}
