//! The versions on the disk: each has a boot file on the EFI system partition and two partitions, for data and for
//! verity's hashes.
//!
//! The boot loader takes the newest version, but those whose tries are used up last. A file's name has the counter:
//! `+3` or `+2-1` has tries left, `+0-3` has none, and a file without a counter is *kept*: its boots are not counted. A
//! kept version that must not start is set aside as `+0`. Whatever happens here, a kept file stays on the disk at every
//! moment, since the power may fail at every moment. A file gets its name by copy, and the old one goes last: vfat's
//! rename first writes the new name with length 0, and such a file is no boot file to anybody.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::version::Version;

/// Where versions lie. Directories, so that tests can have some of their own.
pub(super) struct Slots {
    /// The directory with boot files.
    boot: PathBuf,
    /// udev's directory of names for partitions, with `by-partuuid` and `by-partlabel`.
    partitions: PathBuf,
}

/// A version's boot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootFile {
    pub(super) version: Version,
    pub(super) mark: Mark,
    path: PathBuf,
}

/// What its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It was healthy once.
    Kept,
    /// It is tried this often still.
    Tries(u32),
    /// It was healthy, and a rollback went away from it.
    Aside,
    /// It was never healthy, and is not tried any more.
    GivenUp,
}

impl Mark {
    /// It was healthy once.
    pub(super) fn is_proven(self) -> bool {
        matches!(self, Mark::Kept | Mark::Aside)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Kept => f.write_str("kept"),
            Mark::Tries(left) => write!(f, "new, {left} tries left"),
            Mark::Aside => f.write_str("set aside by a rollback"),
            Mark::GivenUp => f.write_str("given up: it did not become healthy"),
        }
    }
}

impl Slots {
    pub(super) fn new(boot: impl Into<PathBuf>, partitions: impl Into<PathBuf>) -> Slots {
        Slots { boot: boot.into(), partitions: partitions.into() }
    }

    /// Those of this machine.
    pub(super) fn here() -> Slots {
        Slots::new(super::esp::BOOT, "/dev/disk")
    }

    /// All boot files that are not empty, the oldest version first.
    pub(super) fn boot_files(&self) -> anyhow::Result<Vec<BootFile>> {
        let cannot = || format!("cannot read {}", self.boot.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.boot).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            if let Some((version, mark)) = parse(&entry.file_name().to_string_lossy())
                && entry.metadata().with_context(cannot)?.len() > 0
            {
                files.push(BootFile { version, mark, path: entry.path() });
            }
        }
        files.sort_by(|a, b| a.version.cmp(&b.version).then_with(|| a.path.cmp(&b.path)));
        Ok(files)
    }

    /// The file that counts of a version: the kept one, if a power cut left several.
    pub(super) fn boot_file(&self, version: Version) -> anyhow::Result<Option<BootFile>> {
        let mut files: Vec<BootFile> = self.boot_files()?.into_iter().filter(|file| file.version == version).collect();
        files.sort_by_key(|file| match file.mark {
            Mark::Kept => 0,
            Mark::Tries(_) => 1,
            Mark::Aside => 2,
            Mark::GivenUp => 3,
        });
        Ok(files.into_iter().next())
    }

    /// Why a version could not start, if anything of it is missing: its boot file names a root hash, and the two
    /// partitions that have this hash's identifiers must also have this version's labels.
    pub(super) fn check(&self, file: &BootFile) -> anyhow::Result<()> {
        let version = file.version;
        let hash = root_hash(&self.content(file)?)
            .with_context(|| format!("{} names no root hash: it was not written to its end", file.path.display()))?;
        let (data, verity) = hash.split_at(32);
        for (hex, label) in [(data, format!("fanblade_{version}")), (verity, format!("fanblade_{version}_verity"))] {
            let [by_id, by_label] = [("by-partuuid", uuid(hex)), ("by-partlabel", label.clone())]
                .map(|(dir, name)| fs::canonicalize(self.partitions.join(dir).join(name)).ok());
            ensure!(
                by_id.is_some() && by_id == by_label,
                "the partition {label} of version {version} is missing or is another one: put the version in again by \
                 `fanblade update`"
            );
        }
        Ok(())
    }

    pub(super) fn content(&self, file: &BootFile) -> anyhow::Result<Vec<u8>> {
        fs::read(&file.path).with_context(|| format!("cannot read {}", file.path.display()))
    }

    /// Whether one of a version's partitions has its label.
    pub(super) fn has_partition(&self, version: Version) -> bool {
        let labels = self.partitions.join("by-partlabel");
        ["", "_verity"].iter().any(|ending| labels.join(format!("fanblade_{version}{ending}")).exists())
    }

    /// Keeps the version that runs: its boots are not counted any more, and newer versions that were kept are set
    /// aside. Returns whether anything was to be done.
    pub(super) fn keep(&self, running: Version) -> anyhow::Result<bool> {
        self.clear()?;
        let files = self.boot_files()?;
        let mine = || files.iter().filter(|file| file.version == running);
        let mut has_changed = false;
        if !mine().any(|file| file.mark == Mark::Kept) {
            let file = mine().next().with_context(|| format!("version {running} has no boot file"))?;
            self.copy(file, KEPT)?;
            has_changed = true;
        }
        for file in mine().filter(|file| file.mark != Mark::Kept) {
            self.remove(file)?;
            has_changed = true;
        }
        for newer in files.iter().filter(|file| file.version > running && file.mark == Mark::Kept) {
            self.set_aside(newer)?;
            has_changed = true;
        }
        Ok(has_changed)
    }

    /// The version that was kept does not start any more, unless nothing else is there. Another version must be kept.
    pub(super) fn set_aside(&self, file: &BootFile) -> anyhow::Result<()> {
        let is_other = |other: &BootFile| other.version != file.version && other.mark == Mark::Kept;
        ensure!(
            self.boot_files()?.iter().any(is_other),
            "version {} stays: no other one on this disk is kept",
            file.version
        );
        self.copy(file, ASIDE)?;
        self.remove(file)
    }

    /// Takes a version that was set aside back.
    pub(super) fn take_back(&self, file: &BootFile) -> anyhow::Result<()> {
        self.copy(file, KEPT)?;
        self.remove(file)
    }

    /// Removes all that the boot loader could start of a version, and names without content.
    pub(super) fn forget(&self, version: Version) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.boot).with_context(|| format!("cannot read {}", self.boot.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some((of, mark)) = parse(&name)
                && of == version
            {
                self.remove(&BootFile { version, mark, path })?;
            }
        }
        self.clear()
    }

    /// Under the version's name with this ending.
    fn copy(&self, file: &BootFile, ending: &str) -> anyhow::Result<()> {
        let name = format!("fanblade_{}{ending}", file.version);
        let (unfinished, to) = (self.boot.join(format!("{name}.{HIDDEN}")), self.boot.join(format!("{name}.efi")));
        let copied = fs::copy(&file.path, &unfinished)
            .and_then(|_| File::open(&unfinished)?.sync_all())
            .and_then(|()| fs::rename(&unfinished, &to));
        if copied.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        copied.with_context(|| format!("cannot copy {} to {}", file.path.display(), to.display()))?;
        self.sync()
    }

    /// First away from the names that the boot loader offers: a power cut may free a file's content and leave its name.
    fn remove(&self, file: &BootFile) -> anyhow::Result<()> {
        let hidden = file.path.with_added_extension(HIDDEN);
        fs::rename(&file.path, &hidden).with_context(|| format!("cannot rename {}", file.path.display()))?;
        self.sync()?;
        fs::remove_file(&hidden).with_context(|| format!("cannot remove {}", hidden.display()))?;
        self.sync()
    }

    /// Removes what a power cut left of copies and removals.
    fn clear(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.boot).with_context(|| format!("cannot read {}", self.boot.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == HIDDEN) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Waits until names are on the disk.
    fn sync(&self) -> anyhow::Result<()> {
        super::esp::sync(&self.boot)
    }
}

/// The ending of names that are no boot files.
const HIDDEN: &str = "hidden";
const KEPT: &str = "";
/// No tries left, and none done: the boot loader does not write such a name.
const ASIDE: &str = "+0";

/// `fanblade_VERSION[+LEFT[-DONE]].efi`.
fn parse(name: &str) -> Option<(Version, Mark)> {
    let name = name.strip_prefix("fanblade_")?.strip_suffix(".efi")?;
    let Some((version, counter)) = name.split_once('+') else { return Some((name.parse().ok()?, Mark::Kept)) };
    let (left, done) = counter.split_once('-').map_or((counter, None), |(left, done)| (left, Some(done)));
    let done: Option<u32> = done.map(str::parse).transpose().ok()?;
    let mark = match (left.parse().ok()?, done) {
        (0, None) => Mark::Aside,
        (0, Some(_)) => Mark::GivenUp,
        (left, _) => Mark::Tries(left),
    };
    Some((version.parse().ok()?, mark))
}

/// The root hash in the command line of a unified kernel image: 64 hexadecimal digits.
fn root_hash(image: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"roothash=";
    image.windows(KEY.len() + 64).filter(|window| window.starts_with(KEY)).find_map(|window| {
        let digits = &window[KEY.len()..];
        digits.iter().all(u8::is_ascii_hexdigit).then(|| String::from_utf8_lossy(digits).to_lowercase())
    })
}

/// 32 hexadecimal digits, with the dashes of a UUID.
fn uuid(hex: &str) -> String {
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
        slots: Slots,
    }

    impl Machine {
        /// With these boot files.
        fn new(names: &[&str]) -> Machine {
            let dir = tempfile::tempdir().unwrap();
            let boot = dir.path().join("boot");
            fs::create_dir(&boot).unwrap();
            for name in names {
                let text = format!("MZ root=x roothash={} quiet", hash(name));
                fs::write(boot.join(name), text).unwrap();
            }
            for sub in ["by-partuuid", "by-partlabel"] {
                fs::create_dir_all(dir.path().join("disk").join(sub)).unwrap();
            }
            let slots = Slots::new(boot, dir.path().join("disk"));
            Machine { dir, slots }
        }

        /// A partition with its two names.
        fn partition(&self, node: &str, uuid: &str, label: &str) {
            let node = self.dir.path().join(node);
            fs::write(&node, "").unwrap();
            let disk = self.dir.path().join("disk");
            symlink(&node, disk.join("by-partuuid").join(uuid)).unwrap();
            symlink(&node, disk.join("by-partlabel").join(label)).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(self.dir.path().join("boot"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn file(&self, version: &str) -> BootFile {
            self.slots.boot_file(version.parse().unwrap()).unwrap().unwrap()
        }
    }

    /// Depends on the version alone, as a real one does.
    fn hash(name: &str) -> String {
        let digit = name.bytes().filter(u8::is_ascii_digit).nth(2).unwrap_or(b'0');
        String::from_utf8(vec![digit; 64]).unwrap()
    }

    #[test]
    fn names_say_what_became_of_a_version() {
        let mark = |name: &str| parse(name).map(|(version, mark)| (version.to_string(), mark));
        let of = |mark| Some(("0.1.2".to_owned(), mark));
        assert_eq!(mark("fanblade_0.1.2.efi"), of(Mark::Kept));
        assert_eq!(mark("fanblade_0.1.2+3.efi"), of(Mark::Tries(3)));
        assert_eq!(mark("fanblade_0.1.2+2-1.efi"), of(Mark::Tries(2)));
        assert_eq!(mark("fanblade_0.1.2+0.efi"), of(Mark::Aside));
        assert_eq!(mark("fanblade_0.1.2+0-3.efi"), of(Mark::GivenUp));
        for other in
            ["fanblade_0.1.efi", "fanblade_0.1.2.new", "linux.efi", "fanblade_0.1.2+x.efi", "fanblade_0.1.2+1-.efi"]
        {
            assert_eq!(mark(other), None, "{other}");
        }
    }

    #[test]
    fn a_healthy_version_is_kept_and_newer_ones_do_not_start() {
        let machine = Machine::new(&["fanblade_0.1.0.efi", "fanblade_0.1.1+2-1.efi"]);
        fs::write(machine.dir.path().join("boot/fanblade_0.1.0.efi.hidden"), "left by a power cut").unwrap();
        assert!(machine.slots.keep("0.1.1".parse().unwrap()).unwrap());
        assert_eq!(machine.names(), ["fanblade_0.1.0.efi", "fanblade_0.1.1.efi"]);
        assert!(!machine.slots.keep("0.1.1".parse().unwrap()).unwrap(), "once is enough");
        // An older version that was put in and is healthy: without this the newer one would start.
        let machine = Machine::new(&["fanblade_0.1.0+2-1.efi", "fanblade_0.1.1.efi"]);
        assert!(machine.slots.keep("0.1.0".parse().unwrap()).unwrap());
        assert_eq!(machine.names(), ["fanblade_0.1.0.efi", "fanblade_0.1.1+0.efi"]);
        // What a power cut leaves: both names, or a name without content.
        let machine = Machine::new(&["fanblade_0.1.1+2-1.efi", "fanblade_0.1.0.efi"]);
        fs::write(machine.dir.path().join("boot/fanblade_0.1.1.efi"), "").unwrap();
        assert!(machine.slots.keep("0.1.1".parse().unwrap()).unwrap());
        assert_eq!(machine.names(), ["fanblade_0.1.0.efi", "fanblade_0.1.1.efi"]);
        assert!(machine.slots.boot_files().unwrap().len() == 2);
    }

    #[test]
    fn a_version_is_set_aside_only_if_another_one_is_kept() {
        let machine = Machine::new(&["fanblade_0.1.0.efi", "fanblade_0.1.1.efi"]);
        machine.slots.set_aside(&machine.file("0.1.1")).unwrap();
        assert_eq!(machine.names(), ["fanblade_0.1.0.efi", "fanblade_0.1.1+0.efi"]);
        let error = machine.slots.set_aside(&machine.file("0.1.0")).unwrap_err().to_string();
        assert!(error.contains("no other one on this disk is kept"), "{error}");
        machine.slots.take_back(&machine.file("0.1.1")).unwrap();
        assert_eq!(machine.names(), ["fanblade_0.1.0.efi", "fanblade_0.1.1.efi"]);
        machine.slots.forget("0.1.1".parse().unwrap()).unwrap();
        assert_eq!(machine.names(), ["fanblade_0.1.0.efi"]);
    }

    #[test]
    fn a_version_is_whole_only_with_both_partitions() {
        let machine = Machine::new(&["fanblade_0.1.4.efi"]);
        let wrong = |words: &str| {
            let error = machine.slots.check(&machine.file("0.1.4")).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        wrong("the partition fanblade_0.1.4 of version");
        machine.partition("vda5", &uuid(&"4".repeat(32)), "fanblade_0.1.4");
        wrong("the partition fanblade_0.1.4_verity of version");
        machine.partition("vda4", "another", "fanblade_0.1.4_verity");
        wrong("is missing or is another one");
        let machine = Machine::new(&["fanblade_0.1.4.efi"]);
        // Its hash has two equal halves, so that one partition stands for both.
        machine.partition("vda5", &uuid(&"4".repeat(32)), "fanblade_0.1.4");
        symlink(machine.dir.path().join("vda5"), machine.dir.path().join("disk/by-partlabel/fanblade_0.1.4_verity"))
            .unwrap();
        machine.slots.check(&machine.file("0.1.4")).unwrap();
        fs::write(machine.dir.path().join("boot/fanblade_0.1.4.efi"), "MZ roothash=123").unwrap();
        let error = machine.slots.check(&machine.file("0.1.4")).unwrap_err().to_string();
        assert!(error.contains("names no root hash"), "{error}");
    }
}
