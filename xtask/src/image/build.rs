//! What all steps know, and how sizes and times are written.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};

use super::definition::Definition;
use super::room::Room;

/// What all steps know.
pub(super) struct Build<'a> {
    pub(super) room: &'a Room,
    /// The checkout.
    pub(super) root: &'a Path,
    /// Where products lie; programs in the tools tree see it as /image.
    pub(super) dir: &'a Path,
    pub(super) definition: &'a Definition,
    pub(super) version: &'a str,
    /// zstd's level for the root file system.
    pub(super) level: u32,
    pub(super) with: Option<&'a Path>,
}

impl Build<'_> {
    pub(super) fn uki_name(&self) -> String {
        format!("fanblade_{}.efi", self.version)
    }

    pub(super) fn raw_name(&self) -> String {
        format!("fanblade_{}.raw", self.version)
    }

    pub(super) fn qcow2_name(&self) -> String {
        format!("fanblade_{}.qcow2", self.version)
    }

    pub(super) fn installer_name(&self) -> String {
        format!("fanblade_{}.installer.raw", self.version)
    }

    pub(super) fn bundle_name(&self) -> String {
        format!("fanblade_{}.update", self.version)
    }

    pub(super) fn sbom_names(&self) -> [String; 2] {
        ["spdx", "cdx"].map(|format| format!("fanblade_{}.{format}.json", self.version))
    }
}

/// Refuses what is larger than firmware-config/image.toml allows.
pub(super) fn check_size(what: &str, bytes: u64, budget_mib: u64) -> anyhow::Result<()> {
    ensure!(
        bytes <= budget_mib * MIB,
        "{what} has {} MiB, firmware-config/image.toml allows {budget_mib}",
        bytes / MIB
    );
    Ok(())
}

/// Makes a directory, or empties it.
pub(super) fn empty_dir(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing the old {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

/// The bytes of all files below a directory; a file with several names counts once.
pub(super) fn tree_size(dir: &Path) -> anyhow::Result<u64> {
    let (mut bytes, mut waiting) = (0, vec![dir.to_owned()]);
    let mut seen = std::collections::HashSet::new();
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                waiting.push(entry.path());
            } else if meta.is_file() && seen.insert(meta.ino()) {
                bytes += meta.len();
            }
        }
    }
    Ok(bytes)
}

/// RFC 3339, by seconds since 1970.
pub(super) fn time(epoch: u64) -> anyhow::Result<String> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    Ok(jiff::Timestamp::try_from(time)?.to_string())
}

/// Bytes as MiB, for people.
#[expect(clippy::cast_precision_loss, reason = "a size of a file, shown with one decimal")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

pub(super) const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_for_auditors() {
        assert_eq!(time(1_764_288_000).unwrap(), "2025-11-28T00:00:00Z");
    }
}
