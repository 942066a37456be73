//! Where configuration comes from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Files of one source, by the names that they have on a stick.
pub(super) struct Source {
    /// For people.
    pub(super) name: &'static str,
    /// Its files must be signed where a key is given: anybody can plug in a stick.
    pub(super) is_stick: bool,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

pub(super) const BLADE: &str = "fanblade.toml";
pub(super) const AUTHORIZED_KEYS: &str = "authorized_keys";
pub(super) const KEY: &str = "configuration.pub";
pub(super) const NETWORK: &str = ".network";
pub(super) const SIGNATURE: &str = ".minisig";

impl Source {
    pub(super) fn stick(dir: &Path) -> anyhow::Result<Source> {
        let is_wanted = |name: &str| {
            let bare = name.strip_suffix(SIGNATURE).unwrap_or(name);
            (bare.ends_with(NETWORK) || [BLADE, AUTHORIZED_KEYS, KEY].contains(&bare)).then(|| name.to_owned())
        };
        Ok(Source { name: "the stick", is_stick: true, files: read(dir, is_wanted)? })
    }

    /// systemd's directory of credentials: `fanblade.toml`, `fanblade.network.NAME`, `fanblade.authorized_keys`,
    /// `fanblade.configuration.pub`.
    pub(super) fn credentials(dir: &Path) -> anyhow::Result<Source> {
        let name_of = |name: &str| match name.strip_prefix("fanblade.")? {
            "toml" => Some(BLADE.to_owned()),
            rest => match rest.strip_prefix("network.") {
                Some(network) => Some(format!("{}{NETWORK}", network.strip_suffix(NETWORK).unwrap_or(network))),
                None => [AUTHORIZED_KEYS, KEY].contains(&rest).then(|| rest.to_owned()),
            },
        };
        Ok(Source { name: "credentials", is_stick: false, files: read(dir, name_of)? })
    }
}

/// Plain files of a directory that have a name for us.
fn read(dir: &Path, name_of: impl Fn(&str) -> Option<String>) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let Some(name) = path.file_name().and_then(|name| name_of(&name.to_string_lossy())) else { continue };
        let cannot = || format!("cannot read {}", path.display());
        // A stick is not trusted: no link, no pipe.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = File::options().read(true).custom_flags(flags).open(&path).with_context(cannot)?;
        ensure!(file.metadata().with_context(cannot)?.is_file(), "{} is no plain file", path.display());
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).with_context(cannot)?;
        ensure!(
            u64::try_from(bytes.len()).is_ok_and(|len| len <= FILE_LEN_MAX),
            "{} has more than {} KiB",
            path.display(),
            FILE_LEN_MAX >> 10
        );
        files.insert(name, bytes);
        ensure!(files.len() <= FILES_MAX, "{} has more than {FILES_MAX} files for us", dir.display());
    }
    Ok(files)
}

/// A stick that is mounted for as long as this lives.
pub(super) struct Stick(());

impl Stick {
    /// `None`: there is none.
    pub(super) fn mount() -> anyhow::Result<Option<Stick>> {
        let Ok(device) = fs::canonicalize(DEVICE) else { return Ok(None) };
        let kind = fs::metadata(&device).with_context(|| device.display().to_string())?.file_type();
        ensure!(kind.is_block_device(), "{} is no block device", device.display());
        fs::create_dir_all(DIR).with_context(|| format!("cannot make {DIR}"))?;
        // One that was killed.
        let _ = umount2(DIR, MntFlags::MNT_DETACH);
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let mut reasons = Vec::new();
        // ext4 would replay its journal, which writes.
        for (kind, options) in [("vfat", None), ("erofs", None), ("ext4", Some("noload"))] {
            match mount(Some(&device), DIR, Some(kind), flags, options) {
                Ok(()) => return Ok(Some(Stick(()))),
                Err(error) => reasons.push(format!("as {kind}: {}", error.desc())),
            }
        }
        bail!("cannot mount {}: {}", device.display(), reasons.join(", "))
    }

    pub(super) fn dir(&self) -> &Path {
        let Stick(()) = self;
        Path::new(DIR)
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = umount2(DIR, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(PathBuf::from(DIR));
    }
}

/// udev's name for the file system with our label.
const DEVICE: &str = "/dev/disk/by-label/FANBLADE";
const DIR: &str = "/run/fanblade-stick";
const FILE_LEN_MAX: u64 = 1 << 20;
const FILES_MAX: usize = 64;
