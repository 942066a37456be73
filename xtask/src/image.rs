//! `cargo xtask image`: the appliance image, from Debian's packages to a disk that boots.

mod boot;
mod bundle;
mod definition;
mod disk;
mod room;
mod root;
mod sbom;
mod steps;
mod tools;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use self::definition::Definition;
use self::room::Room;
use self::steps::Steps;
pub(crate) use self::tools::missing;
use crate::{child, repository};

/// Build the appliance image: disk, update bundle, bills of material
///
/// Everything that goes in stands in firmware-config/: image.toml says what and why, root/ holds the files. The programs
/// that build it come from a tree of their own (Debian's packages, fetched once), so that the host needs mmdebstrap
/// alone. Needs root. A step whose inputs have not changed does not run again. Two builds of the same inputs are equal,
/// bit for bit; packages of Debian are inputs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For customers: the best compression, and a key of yours (--key) must sign the update
    #[arg(long, requires = "key")]
    release: bool,
    /// Copy the products here, too
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// minisign's secret key without a password; the public one is expected beside it (FILE.pub)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The image's version. Left out: the workspace's
    #[arg(long, value_name = "X.Y.Z")]
    image_version: Option<String>,
    /// Lay the files of this directory over the root file system, last
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Fetch Debian's packages again, though their list has not changed
    #[arg(long)]
    fetch: bool,
}

/// What all steps know.
struct Build<'a> {
    room: &'a Room,
    /// The checkout.
    root: &'a Path,
    /// Where products lie; programs in the tools tree see it as /image.
    dir: &'a Path,
    definition: &'a Definition,
    version: &'a str,
    /// zstd's level for the root file system.
    level: u32,
    with: Option<&'a Path>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = repository::root()?;
    if let Some(missing) = missing() {
        bail!(missing);
    }
    let definition = Definition::read(&root)?;
    let version = args.image_version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    check_version(version)?;
    let dir = repository::build_dir(&root).join("image");
    fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let mut steps = Steps::new(&dir);

    let program = program(&root)?;
    let (tree, tools) = tools::make(&mut steps, &dir, &definition)?;
    let binds = vec![(dir.clone(), IMAGE), (root.join("firmware-config"), "/firmware")];
    let room = Room::new(&tree, definition.image.epoch, binds);
    bundle::key(&room, &dir, args.key.as_deref())?;
    if args.fetch {
        let _ = fs::remove_file(dir.join("packages.tar"));
    }
    let level = if args.release { LEVEL_RELEASE } else { LEVEL };
    let with = args.with.as_deref();
    let build = Build { room: &room, root: &root, dir: &dir, definition: &definition, version, level, with };
    let packages = root::fetch(&mut steps, &room, &definition, &tools)?;
    let root_key = root::make(&build, &mut steps, &packages, &program)?;
    let initrd = boot::initrd(&build, &mut steps, &packages)?;
    let uki = boot::uki(&build, &mut steps, &root_key, &initrd)?;
    let raw = disk::raw(&build, &mut steps, &uki)?;
    disk::qcow2(&build, &mut steps, &raw)?;
    bundle::make(&build, &mut steps, &uki)?;
    sbom::make(&build, &mut steps, &root_key)?;
    let products = manifest(&build)?;
    fs::write(dir.join(LATEST), build.raw_name())?;

    println!("\n{steps}");
    for product in &products {
        println!("  {:>9.1} MiB  {}", mib(fs::metadata(product)?.len()), product.display());
    }
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        for product in &products {
            let name = product.file_name().context("a product without a name")?;
            fs::copy(product, out.join(name)).with_context(|| format!("copying to {}", out.display()))?;
        }
        println!("copied to {}", out.display());
    }
    if args.key.is_none() {
        println!(
            "The update is signed by a key of this checkout ({}): for trials. A release takes --release --key FILE.",
            dir.join("update.key").display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the last image and the tools tree lie.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// Programs in the tools tree see it as /image.
    pub(crate) dir: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) room: Room,
    /// The disk of the image that was built last.
    pub(crate) raw: PathBuf,
}

impl Place {
    /// The error says how to build an image.
    pub(crate) fn find() -> anyhow::Result<Place> {
        let root = repository::root()?;
        let dir = repository::build_dir(&root).join("image");
        let latest =
            fs::read_to_string(dir.join(LATEST)).context("there is no image yet: `cargo xtask image` builds one")?;
        let (raw, tree) = (dir.join(latest.trim()), tools::tree(&dir));
        ensure!(raw.is_file() && tree.is_dir(), "{} is gone: `cargo xtask image` builds it", raw.display());
        let definition = Definition::read(&root)?;
        let room = Room::new(&tree, definition.image.epoch, vec![(dir.clone(), IMAGE)]);
        Ok(Place { root, dir, tree, room, raw })
    }

    /// A disk that begins as the image and keeps its own changes; `disk` lies below [`Place::dir`].
    pub(crate) fn overlay(&self, disk: &Path) -> anyhow::Result<PathBuf> {
        let (raw, inside) = (self.inside(&self.raw)?, self.inside(disk)?);
        self.room.run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &raw, "-F", "raw", &inside, DISK_SIZE])?;
        Ok(disk.to_owned())
    }

    /// A path of the host as a program in the tools tree sees it.
    pub(crate) fn inside(&self, path: &Path) -> anyhow::Result<String> {
        let Ok(below) = path.strip_prefix(&self.dir) else {
            bail!("{} must lie below {}: QEMU runs in a tree of its own", path.display(), self.dir.display());
        };
        Ok(format!("{IMAGE}/{}", below.display()))
    }
}

/// The blade, as it is shipped.
fn program(root: &Path) -> anyhow::Result<PathBuf> {
    child::succeed(repository::cargo(root).args(["build", "--release", "--locked", "-p", "fanblade"]))?;
    let program = repository::build_dir(root).join("release/fanblade");
    ensure!(program.is_file(), "cargo has built no {}", program.display());
    Ok(program)
}

/// The version is part of file names, partition labels and patterns of systemd-sysupdate.
fn check_version(version: &str) -> anyhow::Result<()> {
    let is_plain = |part: &str| !part.is_empty() && part.len() <= 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(
        version.split('.').count() == 3 && version.split('.').all(is_plain),
        "the version {version:?} must be three numbers, such as 1.2.3"
    );
    Ok(())
}

/// Writes the list of products with sizes and hashes, and returns their paths.
fn manifest(build: &Build<'_>) -> anyhow::Result<Vec<PathBuf>> {
    let Build { dir, version, definition, .. } = *build;
    let bundle = build.bundle_name();
    let [spdx, cyclonedx] = build.sbom_names();
    let names = [build.raw_name(), build.qcow2_name(), format!("{bundle}.minisig"), bundle, spdx, cyclonedx];
    let files = names
        .iter()
        .map(|name| {
            let path = dir.join(name);
            Ok(json!({"name": name, "bytes": fs::metadata(&path)?.len(), "sha256": steps::hash(&path)?}))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let manifest = json!({
        "version": version,
        "time": time(definition.image.epoch)?,
        "root_hash": fs::read_to_string(dir.join("root.hash"))?,
        "files": files,
    });
    let name = format!("fanblade_{version}.manifest.json");
    fs::write(dir.join(&name), serde_json::to_string_pretty(&manifest)? + "\n")?;
    Ok(names.iter().chain([&name]).map(|name| dir.join(name)).collect())
}

impl Build<'_> {
    fn uki_name(&self) -> String {
        format!("fanblade_{}.efi", self.version)
    }

    fn raw_name(&self) -> String {
        format!("fanblade_{}.raw", self.version)
    }

    fn qcow2_name(&self) -> String {
        format!("fanblade_{}.qcow2", self.version)
    }

    fn bundle_name(&self) -> String {
        format!("fanblade_{}.update", self.version)
    }

    fn sbom_names(&self) -> [String; 2] {
        ["spdx", "cdx"].map(|format| format!("fanblade_{}.{format}.json", self.version))
    }
}

/// The bytes of all files below a directory; a file with several names counts once.
fn tree_size(dir: &Path) -> anyhow::Result<u64> {
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
fn time(epoch: u64) -> anyhow::Result<String> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    Ok(jiff::Timestamp::try_from(time)?.to_string())
}

/// Bytes as MiB, for people.
#[expect(clippy::cast_precision_loss, reason = "a size of a file, shown with one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

const MIB: u64 = 1 << 20;

/// The image's directory as programs in the tools tree see it.
const IMAGE: &str = "/image";
/// Names the image that was built last.
const LATEST: &str = "latest";
/// A disk for trials: both slots and a state partition.
const DISK_SIZE: &str = "4G";

/// zstd's levels of the root file system: quick for trials, small for releases.
const LEVEL: u32 = 3;
const LEVEL_RELEASE: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers() {
        for good in ["0.1.0", "10.20.30"] {
            check_version(good).unwrap();
        }
        for bad in ["", "1.2", "1.2.3.4", "1.2.x", "1..3", "1.2.3-rc1", "1.2.3/.."] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn time_is_written_for_auditors() {
        assert_eq!(time(1_764_288_000).unwrap(), "2025-11-28T00:00:00Z");
    }
}
