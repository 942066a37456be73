//! What a disk would start: what the firmware, systemd-boot and the initial RAM disk need of it, looked at without
//! starting it.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use fatfs::{FileSystem, FsOptions};

use super::table::{self, Partition, Table};
use crate::vm::writes::{Disk, Source};

/// A version as it was built. A copy of it that is equal byte for byte starts: its dm-verity hashes are right.
pub(super) struct Version {
    uki: Vec<u8>,
    /// Root file system and its hash tree: the UUID that the root hash gives to the partition, and the bytes.
    parts: [([u8; 16], File); 2],
}

impl Version {
    /// From a build's directory.
    pub(super) fn read(dir: &Path, name: &str) -> anyhow::Result<Version> {
        let uki = fs::read(dir.join(format!("fanblade_{name}.efi")))?;
        let hash = fs::read_to_string(dir.join("root.hash"))?;
        let part = |file: &str, digits: &str| {
            let uuid = table::uuid(digits).with_context(|| format!("root.hash holds {hash:?}"))?;
            anyhow::Ok((uuid, File::open(dir.join(file))?))
        };
        let (root, verity) = hash.trim().split_at_checked(32).context("a root hash is longer")?;
        Ok(Version { uki, parts: [part("root.erofs", root)?, part("root.verity", verity)?] })
    }

    /// Of the root file system's partition.
    pub(super) fn root_uuid(&self) -> [u8; 16] {
        self.parts[0].0
    }
}

/// What a disk would start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State {
    /// The first partition table is damaged, the backup is whole.
    is_backup: bool,
    pub(super) has_state: bool,
    /// What systemd-boot would offer.
    pub(super) offers: Vec<Offer>,
    /// Why the blade would not come back.
    pub(super) fault: Option<String>,
}

/// A file that systemd-boot would offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Offer {
    pub(super) version: String,
    pub(super) tries: Option<u32>,
    pub(super) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Verdict {
    Starts,
    /// The file differs from what was built.
    NotWhole,
    /// A partition that its root hash names is missing or differs.
    NotVerified,
}

impl State {
    /// Whether this version starts; `is_counted`: by a file with a counter.
    pub(super) fn starts(&self, version: &str, is_counted: bool) -> bool {
        let is_it = |offer: &Offer| offer.version == version && offer.tries.is_some() == is_counted;
        self.offers.iter().any(|offer| is_it(offer) && offer.verdict == Verdict::Starts)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offers: Vec<String> = self.offers.iter().map(Offer::to_string).collect();
        write!(f, "{}", offers.join(" + "))?;
        f.write_str(if self.has_state { "" } else { ", no state partition yet" })?;
        f.write_str(if self.is_backup { ", by the backup table" } else { "" })
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)?;
        if let Some(tries) = self.tries {
            write!(f, " counted (+{tries})")?;
        }
        f.write_str(match self.verdict {
            Verdict::Starts => "",
            Verdict::NotWhole => " NOT WHOLE",
            Verdict::NotVerified => " without its slot",
        })
    }
}

/// What was written to a range of the disk.
type Content = Vec<(Range<u64>, Source)>;

/// Names of files that systemd-boot would offer, and which version each is byte for byte.
type Files = Vec<(String, Option<usize>)>;

/// Looks at disks; what it has seen once it does not read again.
pub(super) struct Checker {
    versions: Vec<Version>,
    /// systemd-boot, as the image has it.
    loader: Vec<u8>,
    /// By what was written to the ESP.
    files: HashMap<Content, Result<Files, String>>,
    /// By what was written to a partition: whether it begins with a part of a version.
    parts: HashMap<(usize, usize, Content), bool>,
}

impl Checker {
    pub(super) fn new(versions: Vec<Version>, loader: Vec<u8>) -> Checker {
        Checker { versions, loader, files: HashMap::new(), parts: HashMap::new() }
    }

    pub(super) fn check(&mut self, disk: &Disk<'_>) -> anyhow::Result<State> {
        let mut state = State { is_backup: false, has_state: false, offers: Vec::new(), fault: None };
        let fault = |state: State, fault: &str| Ok(State { fault: Some(fault.to_owned()), ..state });
        let Some(table) = Table::read(disk)? else { return fault(state, "both partition tables are damaged") };
        state.is_backup = table.is_backup;
        if let Some(partition) = table.partitions.iter().find(|partition| partition.name == "fanblade-state") {
            let mut magic = [0; 2];
            disk.read(&mut magic, partition.range.start + EXT4_MAGIC_AT)?;
            state.has_state = magic == EXT4_MAGIC;
            if !state.has_state {
                return fault(state, "the state partition has no file system");
            }
        }
        let Some(esp) = table.partitions.iter().find(|partition| partition.kind == table::ESP) else {
            return fault(state, "no ESP");
        };
        let content = disk.content(&esp.range);
        let known = match self.files.get(&content) {
            Some(known) => known.clone(),
            None => {
                let files = self.list(disk, esp).map_err(|error| format!("{error:#}"));
                self.files.entry(content).or_insert(files).clone()
            }
        };
        let files = match known {
            Ok(files) => files,
            Err(error) => return fault(state, &error),
        };
        for (name, version) in files {
            let (stem, tries) = counter(&name);
            let verdict = match version {
                None => Verdict::NotWhole,
                Some(version) if self.has_slot(disk, &table, version)? => Verdict::Starts,
                Some(_) => Verdict::NotVerified,
            };
            state.offers.push(Offer { version: stem.to_owned(), tries, verdict });
        }
        // systemd-boot prefers the highest version, and only last what has no tries left.
        state.offers.sort_by_key(|offer| (offer.tries == Some(0), std::cmp::Reverse(numbers(&offer.version))));
        let is_kept = |offer: &Offer| offer.tries.is_none() && offer.verdict == Verdict::Starts;
        if !state.offers.iter().any(is_kept) {
            return fault(state, "nothing starts but what is counted");
        }
        // Which of two files of one version it prefers is its own affair: both must start.
        let preferred = state.offers[0].version.clone();
        let mut equal = state.offers.iter().filter(|offer| offer.version == preferred && offer.tries != Some(0));
        if equal.any(|offer| offer.verdict != Verdict::Starts) {
            return fault(state, "what systemd-boot prefers does not start");
        }
        Ok(state)
    }

    fn list(&self, disk: &Disk<'_>, esp: &Partition) -> anyhow::Result<Files> {
        let volume = Volume { disk, range: esp.range.clone(), at: 0 };
        let system = FileSystem::new(volume, FsOptions::new()).context("the ESP's file system")?;
        let root = system.root_dir();
        let mut loader = root.open_file("EFI/BOOT/BOOTX64.EFI").context("the boot loader")?;
        ensure!(is_equal(&mut loader, &self.loader)?, "the boot loader is damaged");
        let mut files = Vec::new();
        for entry in root.open_dir("EFI/Linux").context("EFI/Linux on the ESP")?.iter() {
            let entry = entry.context("EFI/Linux on the ESP")?;
            let name = entry.file_name();
            let is_offered = !name.starts_with('.') && name.to_ascii_lowercase().ends_with(".efi") && entry.len() > 0;
            let mut magic = [0; 2];
            // What is no program is not offered.
            if !is_offered || entry.to_file().read_exact(&mut magic).is_err() || &magic != b"MZ" {
                continue;
            }
            // An error is a chain of clusters that ends early.
            let is_it = |version: &Version| {
                entry.len() == version.uki.len() as u64
                    && is_equal(&mut entry.to_file(), &version.uki).is_ok_and(|is_equal| is_equal)
            };
            files.push((name, self.versions.iter().position(is_it)));
        }
        Ok(files)
    }

    /// Whether both partitions that a version's root hash names are there and whole.
    fn has_slot(&mut self, disk: &Disk<'_>, table: &Table, version: usize) -> anyhow::Result<bool> {
        for part in 0..2 {
            let (uuid, file) = &self.versions[version].parts[part];
            let Some(partition) = table.partitions.iter().find(|partition| partition.uuid == *uuid) else {
                return Ok(false);
            };
            let range = partition.range.start..partition.range.start + file.metadata()?.len();
            let key = (version, part, disk.content(&range));
            let is_whole = match self.parts.get(&key) {
                Some(&is_whole) => is_whole,
                None => {
                    let is_whole = range.end <= partition.range.end && holds(disk, range.start, file)?;
                    self.parts.insert(key, is_whole);
                    is_whole
                }
            };
            if !is_whole {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// "fanblade_1.2.3+2-1.efi" is version 1.2.3 with two tries left.
fn counter(name: &str) -> (&str, Option<u32>) {
    let stem = name.strip_suffix(".efi").unwrap_or(name);
    let stem = stem.strip_prefix("fanblade_").unwrap_or(stem);
    let Some((stem, tries)) = stem.split_once('+') else { return (stem, None) };
    (stem, Some(tries.split('-').next().and_then(|left| left.parse().ok()).unwrap_or(0)))
}

/// A version's numbers, to be compared.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
}

fn is_equal(file: &mut impl Read, expected: &[u8]) -> io::Result<bool> {
    let mut buffer = vec![0; READ_LEN];
    for part in expected.chunks(READ_LEN) {
        file.read_exact(&mut buffer[..part.len()])?;
        if buffer[..part.len()] != *part {
            return Ok(false);
        }
    }
    Ok(file.read(&mut buffer[..1])? == 0)
}

/// Whether a disk holds a file's bytes at this place.
fn holds(disk: &Disk<'_>, mut at: u64, file: &File) -> anyhow::Result<bool> {
    let (mut ours, mut theirs, mut offset) = (vec![0; READ_LEN], vec![0; READ_LEN], 0);
    loop {
        let len = file.read_at(&mut ours, offset)?;
        if len == 0 {
            return Ok(true);
        }
        disk.read(&mut theirs[..len], at)?;
        if ours[..len] != theirs[..len] {
            return Ok(false);
        }
        (at, offset) = (at + len as u64, offset + len as u64);
    }
}

/// A partition as a file that is only read.
struct Volume<'a> {
    disk: &'a Disk<'a>,
    range: Range<u64>,
    at: u64,
}

impl Read for Volume<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = (self.range.end - self.range.start).saturating_sub(self.at);
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.disk.read(&mut buffer[..len], self.range.start + self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Volume<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (self.range.end - self.range.start).checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Write for Volume<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const READ_LEN: usize = 1 << 16;
/// ext4's superblock lies 1,024 bytes into the file system, its magic 56 bytes into that.
const EXT4_MAGIC_AT: u64 = 1_024 + 56;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_version_and_tries() {
        assert_eq!(counter("fanblade_1.2.3.efi"), ("1.2.3", None));
        assert_eq!(counter("fanblade_1.2.3+3.efi"), ("1.2.3", Some(3)));
        assert_eq!(counter("fanblade_1.2.3+2-1.efi"), ("1.2.3", Some(2)));
        assert_eq!(counter("fanblade_1.2.3+0-3.efi"), ("1.2.3", Some(0)));
        assert!(numbers("0.10.0") > numbers("0.9.9"));
    }
}
