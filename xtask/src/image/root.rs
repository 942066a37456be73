//! The root file system: Debian's packages without what a blade never uses, our files above them, compressed and
//! verified.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::build::{Build, MIB, check_size, empty_dir, mib, tree_size};
use super::steps::{Key, Steps};

/// Unpacks, removes, adds, compresses, and computes the hash tree.
pub(super) fn make(build: &Build<'_>, steps: &mut Steps, packages: &Key, program: &Path) -> anyhow::Result<Key> {
    let Build { room, dir, definition, root, version, .. } = *build;
    let mut key = packages.clone().with(include_str!("root.rs")).with(version).with(build.level);
    for path in ["firmware-config/root", "firmware-config/sysctl.d", "firmware-config/image.toml"] {
        key = key.with_path(&root.join(path))?;
    }
    if let Some(with) = build.with {
        key = key.with_path(with)?;
    }
    key = key.with_path(program)?.with_path(&dir.join("update.pub"))?;
    steps.run("root", &key, &["root.erofs", "root.verity", "root.hash", "packages.txt", "vmlinuz"], || {
        let tree = dir.join("rootfs");
        empty_dir(&tree)?;
        room.run("tar", &["-C", "/image/rootfs", "-xpf", "/image/packages.tar", "--numeric-owner"])?;
        let kernel = kernel_version(&tree)?;
        fs::copy(tree.join(format!("boot/vmlinuz-{kernel}")), dir.join("vmlinuz"))?;
        let count = list_packages(build)?;
        for path in &definition.files.remove {
            remove(&tree.join(path))?;
        }
        let modules = tree.join("usr/lib/modules").join(&kernel);
        for path in definition.modules_removed() {
            remove(&modules.join("kernel").join(path))?;
        }
        room.run("depmod", &["-b", "/image/rootfs", &kernel])?;
        add_ours(build, &tree, program)?;
        // The root is read-only: what would make users at the first boot makes them here, without its backups.
        room.run("systemd-sysusers", &["--root=/image/rootfs"])?;
        for file in ["passwd-", "shadow-", "group-", "gshadow-"] {
            remove(&tree.join("etc").join(file))?;
        }
        room.run("systemctl", &["--root=/image/rootfs", "preset-all"])?;
        let mut mask = vec!["--root=/image/rootfs", "mask"];
        mask.extend(definition.units.mask.iter().map(String::as_str));
        room.run("systemctl", &mask)?;
        check_units(build)?;
        let unpacked = tree_size(&tree)? / MIB;
        ensure!(
            unpacked <= definition.budgets.unpacked_mib && count <= definition.budgets.packages,
            "{count} packages of {unpacked} MiB; firmware-config/image.toml allows {} of {} MiB",
            definition.budgets.packages,
            definition.budgets.unpacked_mib
        );
        let epoch = definition.image.epoch.to_string();
        let stamp = format!("@{epoch}");
        room.run("find", &["/image/rootfs", "-newermt", &stamp, "-exec", "touch", "-h", "-d", &stamp, "{}", "+"])?;
        compress(build, &epoch)?;
        let size = fs::metadata(dir.join("root.erofs"))?.len();
        check_size("the root file system", size, definition.budgets.root_mib)?;
        Ok(format!("{count} packages, {unpacked} MiB, compressed {:.1} MiB, kernel {kernel}", mib(size)))
    })
}

/// The one kernel of a tree.
pub(super) fn kernel_version(tree: &Path) -> anyhow::Result<String> {
    let versions = crate::repository::list(tree.join("usr/lib/modules"));
    let [version] = versions.as_slice() else { bail!("one kernel, not {}: {versions:?}", versions.len()) };
    Ok(version.clone())
}

/// Writes packages.txt, before the package database goes. Returns how many there are.
fn list_packages(build: &Build<'_>) -> anyhow::Result<usize> {
    let Build { room, dir, definition, .. } = *build;
    let format = "${Package} ${Version} ${Architecture} ${source:Package} ${source:Version} ${Installed-Size}\\n";
    let mut list = room.run("dpkg-query", &["--admindir=/image/rootfs/var/lib/dpkg", "-W", "-f", format])?;
    let count = list.lines().count();
    for borrow in &definition.borrow {
        list += &room.run("dpkg-query", &["-W", "-f", format, &borrow.package])?;
    }
    fs::write(dir.join("packages.txt"), &list)?;
    Ok(count)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("removing {}", path.display()))
}

/// Adds firmware-config/root, the program, and what says which version this is.
fn add_ours(build: &Build<'_>, tree: &Path, program: &Path) -> anyhow::Result<()> {
    let Build { room, root, version, dir, .. } = *build;
    // Mount points of a root that is read-only.
    for mount_point in ["boot", "efi", "var/log", "var/cache"] {
        fs::create_dir_all(tree.join(mount_point))?;
    }
    for file in build.definition.borrow.iter().flat_map(|borrow| &borrow.files) {
        put(&room.tree().join(file), &tree.join(file), 0o755)?;
    }
    lay_over(&root.join("firmware-config/root"), tree)?;
    lay_over(&root.join("firmware-config/sysctl.d"), &tree.join("usr/lib/sysctl.d"))?;
    put(program, &tree.join("usr/bin/fanblade"), 0o755)?;
    // Line numbers take more room than the program; the names of functions stay, for backtraces.
    room.run("strip", &["--strip-debug", "/image/rootfs/usr/bin/fanblade"])?;
    let ours = tree.join("usr/share/fanblade");
    put(&dir.join("packages.txt"), &ours.join("packages.txt"), 0o644)?;
    put(&dir.join("update.pub"), &ours.join("update.pub"), 0o644)?;
    fs::write(tree.join("usr/lib/os-release"), os_release(version))?;
    symlink("/run/systemd/resolve/stub-resolv.conf", tree.join("etc/resolv.conf"))?;
    let partitions = &build.definition.partitions;
    let (slots, installed) = (super::disk::slots(partitions), super::installer::installed(partitions));
    for (dir, files) in [("usr/lib/repart.d", &slots[..]), ("usr/lib/fanblade/install.repart.d", &installed[..])] {
        fs::create_dir_all(tree.join(dir))?;
        for (name, text) in files {
            fs::write(tree.join(dir).join(name), text)?;
        }
    }
    if let Some(with) = build.with {
        lay_over(with, tree)?;
    }
    Ok(())
}

/// Refuses units that systemd would not take as they stand, and a blade that may do more than its budget.
fn check_units(build: &Build<'_>) -> anyhow::Result<()> {
    const ROOT: &str = "--root=/image/rootfs";
    let units = crate::repository::list(build.root.join("firmware-config/root").join("usr/lib/systemd/system"));
    let mut verify = vec!["verify", ROOT, "--man=no", "multi-user.target"];
    verify.extend(units.iter().map(String::as_str).filter(|name| name.ends_with(".service")));
    build.room.run("systemd-analyze", &verify)?;
    let threshold = format!("--threshold={}", build.definition.budgets.exposure_tenths);
    build.room.run("systemd-analyze", &["security", ROOT, "--offline=true", &threshold, "fanblade.service"])?;
    Ok(())
}

pub(super) fn os_release(version: &str) -> String {
    format!(
        "ID=fanblade\nNAME=Fanblade\nPRETTY_NAME=\"Fanblade {version}\"\nVERSION_ID={version}\nIMAGE_ID=fanblade\n\
         IMAGE_VERSION={version}\n"
    )
}

/// Copies all files below a directory to another, over what is there. Only a file's executable bit is kept.
fn lay_over(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for name in crate::repository::list(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            lay_over(&from, &to)?;
        } else {
            let mode = if crate::repository::is_executable(&from) { 0o755 } else { 0o644 };
            put(&from, &to, mode)?;
        }
    }
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    // A symbolic link of Debian's would be written through.
    let _ = fs::remove_file(to);
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// erofs, and dm-verity's hashes of its blocks. Identifiers follow from the version, so that two builds are equal.
fn compress(build: &Build<'_>, epoch: &str) -> anyhow::Result<()> {
    let Build { room, dir, version, level, .. } = *build;
    let identity = super::steps::Key::new("fanblade").with(version).digest();
    let uuid = super::disk::uuid(&identity[..32])?;
    // veritysetup writes into a file that exists, and leaves the end of a longer one.
    for file in ["root.erofs", "root.verity"] {
        remove(&dir.join(file))?;
    }
    let (compression, time) = (format!("-zzstd,level={level}"), format!("-T{epoch}"));
    let args =
        ["--quiet", &compression, "-C65536", &time, "--all-time", "-U", &uuid, "/image/root.erofs", "/image/rootfs"];
    room.run("mkfs.erofs", &args)?;
    let (salt, uuid) = (format!("--salt={identity}"), format!("--uuid={uuid}"));
    let text = room.run("veritysetup", &["format", &salt, &uuid, "/image/root.erofs", "/image/root.verity"])?;
    let hash = text.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim);
    let hash = hash.context("veritysetup printed no root hash")?;
    fs::write(dir.join("root.hash"), hash)?;
    Ok(())
}
