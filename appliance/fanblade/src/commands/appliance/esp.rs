//! The EFI system partition, writable for a moment: the image mounts it read-only.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use super::succeed;

/// Where the image mounts it.
pub(super) const ESP: &str = "/efi";

/// Waits until all that was written is on the disk. The sync of the file system alone does not make vfat's disk flush
/// what it has; that of a directory does.
pub(super) fn sync() -> anyhow::Result<()> {
    succeed(Command::new("sync").args(["-f", ESP]))?;
    succeed(Command::new("sync").arg(Path::new(ESP).join("EFI/Linux")))
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
        sync()
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        // If it stays writable, nothing is lost: the next boot mounts it read-only.
        let _ = succeed(Command::new("mount").args(["-o", "remount,ro", ESP]));
    }
}
