//! `cargo xtask image`: the appliance image, from Debian's packages to a disk that boots.

mod bios;
mod boot;
mod build;
mod bundle;
mod definition;
mod disk;
mod installer;
mod packages;
mod room;
mod root;
mod sbom;
mod steps;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use self::build::{Build, mib, time};
use self::definition::Definition;
use self::room::Room;
use self::steps::{Key, Steps};
pub(crate) use self::tools::missing;
use crate::{child, repository};

/// Build the appliance image: disk, update bundle, bills of material
///
/// Everything that goes in stands in firmware-config/: image.toml says what and why, root/ holds the files. The
/// programs that build it come from a tree of their own (Debian's packages, fetched once), so that the host needs
/// mmdebstrap alone. Needs root. A step whose inputs have not changed does not run again. Two builds of the same
/// inputs are equal, bit for bit; packages of Debian are inputs.
#[derive(clap::Args, Default)]
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
    /// The blade to put in, a release build. Left out: cargo builds it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Lay the files of this directory over the root file system, last
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Build a second time, from the packages on, and compare
    #[arg(long)]
    twice: bool,
    /// Fetch Debian's packages again, though their list has not changed
    #[arg(long)]
    fetch: bool,
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

    let program = match &args.program {
        Some(program) => program.clone(),
        None => program(&root)?,
    };
    let (tree, tools) = tools::make(&mut steps, &dir, &definition)?;
    let room = room(&tree, &definition, &root, &dir);
    bundle::key(&room, &dir, args.key.as_deref())?;
    if args.fetch {
        let _ = fs::remove_file(dir.join("packages.tar"));
    }
    let level = if args.release { LEVEL_RELEASE } else { LEVEL };
    let with = args.with.as_deref();
    let build = Build { room: &room, root: &root, dir: &dir, definition: &definition, version, level, with };
    let packages = packages::fetch(&mut steps, &room, &dir, &definition)?.with(tools.digest());
    let products = products(&build, &mut steps, &packages, &program)?;
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
    if args.twice {
        twice(&build, &packages, &program)?;
    }
    if args.key.is_none() {
        println!(
            "The update is signed by a key of this checkout ({}): for trials. A release takes --release --key FILE.",
            dir.join("update.key").display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that follows from the packages. Returns the paths of what is for customers.
fn products(build: &Build<'_>, steps: &mut Steps, packages: &Key, program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let root = root::make(build, steps, packages, program)?;
    let initrd = boot::initrd(build, steps, packages)?;
    let uki = boot::uki(build, steps, &root, &initrd)?;
    let raw = disk::raw(build, steps, &uki)?;
    let qcow2 = disk::qcow2(build, steps, &raw)?;
    let stick = installer::stick(build, steps, &raw)?;
    let update = bundle::make(build, steps, &uki)?;
    let sbom = sbom::make(build, steps, &root)?;
    manifest(build, steps, &[raw, qcow2, stick, update, sbom])
}

/// Builds again in another directory and compares every file that the build has made.
fn twice(build: &Build<'_>, packages: &Key, program: &Path) -> anyhow::Result<()> {
    let again = Again::new(build.dir, "again", build.definition, build.room.tree())?;
    let second = Build { room: &again.room, dir: again.dir.path(), ..*build };
    let mut steps = Steps::new(second.dir);
    let mut paths = products(&second, &mut steps, packages, program)?;
    paths.extend([second.dir.join("root.erofs"), second.dir.join("root.verity"), second.dir.join("initrd")]);
    paths.push(second.dir.join(build.uki_name()));
    let mut different = Vec::new();
    for path in paths {
        let name = path.file_name().context("a product without a name")?.to_string_lossy().into_owned();
        let [first, second] = [&build.dir.join(&name), &path].map(|path| steps::hash(path));
        let (first, second) = (first?, second?);
        println!("  {} {name}", if first == second { "equal    " } else { "DIFFERENT" });
        if first != second {
            different.push(name);
        }
    }
    ensure!(different.is_empty(), "two builds of the same inputs differ: {}", different.join(", "));
    println!("Two builds, bit for bit the same.");
    Ok(())
}

/// The tools tree, with a build's directory and the checkout's firmware-config in it.
fn room(tree: &Path, definition: &Definition, root: &Path, dir: &Path) -> Room {
    let binds = vec![(dir.to_owned(), IMAGE), (root.join("firmware-config"), "/firmware")];
    Room::new(tree, definition.image.epoch, binds)
}

/// A directory for a second build beside the first, with the first one's packages and keys.
struct Again {
    dir: Scratch,
    room: Room,
}

impl Again {
    fn new(first: &Path, name: impl AsRef<Path>, definition: &Definition, tree: &Path) -> anyhow::Result<Again> {
        let dir = Scratch::new(first.join(name))?;
        for file in ["packages.tar", "update.key", "update.pub"] {
            fs::hard_link(first.join(file), dir.path().join(file)).with_context(|| format!("linking {file}"))?;
        }
        let room = room(tree, definition, &repository::root()?, dir.path());
        Ok(Again { dir, room })
    }
}

/// Why no image can be tested here; `None`: one has been built, and could be built again.
pub(crate) fn none_because() -> Option<String> {
    missing().or_else(|| Place::find().err().map(|error| format!("{error:#}")))
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
        self.overlay_of(disk, DISK_LEN)
    }

    /// The same, of another length in bytes.
    pub(crate) fn overlay_of(&self, disk: &Path, len: u64) -> anyhow::Result<PathBuf> {
        let (raw, inside, len) = (self.inside(&self.raw)?, self.inside(disk)?, len.to_string());
        self.room.run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", &raw, "-F", "raw", &inside, &len])?;
        Ok(disk.to_owned())
    }

    /// An empty disk; it lies below [`Place::dir`], too.
    pub(crate) fn empty(&self, disk: &Path) -> anyhow::Result<PathBuf> {
        let len = DISK_LEN.to_string();
        self.room.run("qemu-img", &["create", "-q", "-f", "qcow2", &self.inside(disk)?, &len])?;
        Ok(disk.to_owned())
    }

    /// Where the first partition with such a name begins on a disk, in bytes.
    pub(crate) fn partition(&self, disk: &Path, is_it: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
        let table = self.room.run("sfdisk", &["--json", &self.inside(disk)?])?;
        let table: serde_json::Value = serde_json::from_str(&table).context("sfdisk")?;
        let partitions = table["partitiontable"]["partitions"].as_array().context("no partitions")?;
        let found = partitions.iter().find(|partition| partition["name"].as_str().is_some_and(&is_it));
        let start = found.and_then(|partition| partition["start"].as_u64());
        Ok(start.with_context(|| format!("{} has no such partition", disk.display()))? * 512)
    }

    /// An empty directory that programs in the tools tree see. It is removed when the result is dropped; what an
    /// interrupted run left is removed first.
    pub(crate) fn scratch(&self, name: &str) -> anyhow::Result<Scratch> {
        Scratch::new(self.dir.join("vm").join(name))
    }

    /// Builds another version's update below a directory of [`Place::scratch`]. `with` is laid over its root file
    /// system.
    pub(crate) fn update(&self, below: &Scratch, version: &str, with: Option<&Path>) -> anyhow::Result<Update> {
        check_version(version)?;
        let definition = Definition::read(&self.root)?;
        let name = below.path().strip_prefix(&self.dir)?.join(version);
        let again = Again::new(&self.dir, &name, &definition, &self.tree)?;
        let dir = again.dir.path();
        // The initial RAM disk does not depend on the version.
        for file in ["initrd", "initrd.step"] {
            fs::hard_link(self.dir.join(file), dir.join(file)).with_context(|| format!("linking {file}"))?;
        }
        let build =
            Build { room: &again.room, root: &self.root, dir, definition: &definition, version, level: LEVEL, with };
        let mut steps = Steps::new(dir);
        let packages = Steps::last(&self.dir, "packages")?.with(Steps::last(&self.dir, "tools")?.digest());
        let root = root::make(&build, &mut steps, &packages, &built(&self.root)?)?;
        let initrd = boot::initrd(&build, &mut steps, &packages)?;
        let uki = boot::uki(&build, &mut steps, &root, &initrd)?;
        bundle::make(&build, &mut steps, &uki)?;
        let file = dir.join(build.bundle_name());
        let signature = dir.join(format!("{}.minisig", build.bundle_name()));
        Ok(Update { file, signature, _dir: again.dir })
    }

    /// The stick of the image that was built last, as a disk that keeps its own changes.
    pub(crate) fn stick(&self, below: &Scratch) -> anyhow::Result<PathBuf> {
        let stick = below.path().join("stick.raw");
        let from = self.inside(&self.raw.with_extension("installer.raw"))?;
        self.room.run("cp", &["--sparse=always", &from, &self.inside(&stick)?])?;
        Ok(stick)
    }

    fn manifest(&self) -> anyhow::Result<serde_json::Value> {
        let file = self.raw.with_extension("manifest.json");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    pub(crate) fn version(&self) -> anyhow::Result<String> {
        Ok(self.manifest()?["version"].as_str().context("a manifest without a version")?.to_owned())
    }

    /// What the image consists of, for people.
    pub(crate) fn summary(&self) -> anyhow::Result<String> {
        let manifest = self.manifest()?;
        let text = |key: &str| manifest[key].as_str().unwrap_or_default().to_owned();
        let mut summary = format!("version {}, {} packages of Debian\n", text("version"), manifest["packages"]);
        for file in manifest["files"].as_array().into_iter().flatten() {
            let bytes = file["bytes"].as_u64().unwrap_or_default();
            summary += &format!("{:>9.1} MiB  {}\n", mib(bytes), file["name"].as_str().unwrap_or_default());
        }
        Ok(summary)
    }

    /// A path of the host as a program in the tools tree sees it.
    pub(crate) fn inside(&self, path: &Path) -> anyhow::Result<String> {
        let Ok(below) = path.strip_prefix(&self.dir) else {
            bail!("{} must lie below {}: QEMU runs in a tree of its own", path.display(), self.dir.display());
        };
        Ok(format!("{IMAGE}/{}", below.display()))
    }
}

/// An update of a trial; it exists for as long as this lives.
pub(crate) struct Update {
    pub(crate) file: PathBuf,
    pub(crate) signature: PathBuf,
    _dir: Scratch,
}

/// A directory that is removed when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: PathBuf) -> anyhow::Result<Scratch> {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Scratch(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The blade, as it is shipped.
fn program(root: &Path) -> anyhow::Result<PathBuf> {
    child::succeed(repository::cargo(root).args(["build", "--release", "--locked", "-p", "fanblade"]))?;
    built(root)
}

/// The release build that [`program`] has made; the clients of trials are the same.
pub(crate) fn built(root: &Path) -> anyhow::Result<PathBuf> {
    let program = repository::build_dir(root).join("release/fanblade");
    ensure!(program.is_file(), "there is no {}: `cargo xtask image` builds it", program.display());
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
fn manifest(build: &Build<'_>, steps: &mut Steps, keys: &[Key]) -> anyhow::Result<Vec<PathBuf>> {
    let Build { dir, version, definition, .. } = *build;
    let bundle = build.bundle_name();
    let [spdx, cyclonedx] = build.sbom_names();
    let [raw, qcow2, stick] = [build.raw_name(), build.qcow2_name(), build.installer_name()];
    let names = [raw, qcow2, stick, format!("{bundle}.minisig"), bundle, spdx, cyclonedx];
    let name = format!("fanblade_{version}.manifest.json");
    let key = keys.iter().fold(Key::new(include_str!("image.rs")), |key, input| key.with(input.digest()));
    steps.run("manifest", &key, &[&name], || {
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
            "packages": fs::read_to_string(dir.join("packages.txt"))?.lines().count(),
            "files": files,
        });
        fs::write(dir.join(&name), serde_json::to_string_pretty(&manifest)? + "\n")?;
        Ok(String::new())
    })?;
    Ok(names.iter().chain([&name]).map(|name| dir.join(name)).collect())
}

/// The image's directory as programs in the tools tree see it.
const IMAGE: &str = "/image";
/// Names the image that was built last.
const LATEST: &str = "latest";
/// A disk for trials, in bytes: both slots and a state partition.
pub(crate) const DISK_LEN: u64 = 4 << 30;

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
}
