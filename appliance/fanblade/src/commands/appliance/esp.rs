//! The EFI system partition, writable for a moment: the image mounts it read-only.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::succeed;

/// Where the image mounts it.
pub(super) const ESP: &str = "/efi";

/// Where boot files lie on it.
pub(super) const BOOT: &str = "/efi/EFI/Linux";

/// Waits until all of a directory's file system is on the disk: vfat has no journal that would keep the order.
pub(super) fn sync(dir: &Path) -> anyhow::Result<()> {
    let sync = || {
        let dir = File::open(dir)?;
        nix::unistd::syncfs(&dir)?;
        // That writes, but of vfat only the sync of a directory makes the disk flush what it has.
        dir.sync_all()
    };
    sync().with_context(|| format!("writing {}", dir.display()))
}

/// Writable until this is dropped, or until [`Writable::end`].
pub(super) struct Writable {
    /// An open directory keeps the automount from unmounting it meanwhile, after which it would be read-only again.
    _held: File,
}

impl Writable {
    pub(super) fn new() -> anyhow::Result<Writable> {
        let held = File::open(ESP).with_context(|| format!("cannot open the EFI system partition at {ESP}"))?;
        succeed(Command::new("mount").args(["-o", "remount,rw", ESP]))?;
        Ok(Writable { _held: held })
    }

    /// Waits until all that was written is on the disk.
    pub(super) fn end(self) -> anyhow::Result<()> {
        sync(Path::new(BOOT))
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // If it stays writable, nothing is lost: the next boot mounts it read-only.
        let _ = succeed(Command::new("mount").args(["-o", "remount,ro", ESP]));
    }
}
