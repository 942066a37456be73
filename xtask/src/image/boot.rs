//! What the firmware starts: the initrd, and one file that holds kernel, initrd and command line.

use std::fs;

use super::build::{Build, check_size, mib};
use super::root;
use super::steps::{Key, Steps};

/// The initial RAM disk: finds the slot whose partitions have the root hash's UUIDs, and verifies it.
pub(super) fn initrd(build: &Build<'_>, steps: &mut Steps, packages: &Key) -> anyhow::Result<Key> {
    let Build { room, dir, definition, root, .. } = *build;
    let initrd = &definition.initrd;
    let key = packages.clone().with(include_str!("boot.rs")).with(format!("{initrd:?}"));
    // It gets its modules from the root file system's directory.
    let removed = definition.modules_removed().map(String::as_str).collect::<Vec<_>>().join(" ");
    let key = key.with(removed).with_path(&root.join("firmware-config/initrd"))?;
    steps.run("initrd", &key, &["initrd"], || {
        let kernel = root::kernel_version(&dir.join("rootfs"))?;
        let modules_dir = format!("/image/rootfs/usr/lib/modules/{kernel}");
        let (modules, drivers) = (initrd.modules.join(" "), initrd.drivers.join(" "));
        let (filesystems, programs) = (initrd.filesystems.join(" "), initrd.programs.join(" "));
        let mut args = vec!["--force", "--quiet", "--kver", &kernel, "--kmoddir", &modules_dir, "--no-hostonly"];
        args.extend(["--no-hostonly-cmdline", "--no-early-microcode", "--reproducible", "--compress", "zstd -15 -T1"]);
        args.extend(["--modules", &modules, "--drivers", "", "--add-drivers", &drivers]);
        args.extend(["--filesystems", &filesystems, "--install", &programs, "--include", "/firmware/initrd", "/"]);
        args.push("/image/initrd");
        room.run("dracut", &args)?;
        Ok(format!("{:.1} MiB", mib(fs::metadata(dir.join("initrd"))?.len())))
    })
}

/// The unified kernel image of this version.
pub(super) fn uki(build: &Build<'_>, steps: &mut Steps, root: &Key, initrd: &Key) -> anyhow::Result<Key> {
    let Build { room, dir, definition, version, .. } = *build;
    let key = root.clone().with(initrd.digest()).with(include_str!("boot.rs")).with(definition.command_line(""));
    let file = build.uki_name();
    steps.run("uki", &key, &[&file], || {
        let hash = fs::read_to_string(dir.join("root.hash"))?;
        let kernel = root::kernel_version(&dir.join("rootfs"))?;
        fs::write(dir.join("os-release"), root::os_release(version))?;
        let (command_line, output) = (definition.command_line(&hash), format!("/image/{file}"));
        let mut args = vec!["build", "--linux", "/image/vmlinuz", "--initrd", "/image/initrd"];
        args.extend(["--cmdline", &command_line, "--os-release", "@/image/os-release", "--uname", &kernel]);
        args.extend(["--stub", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "--output", &output]);
        room.run("ukify", &args)?;
        let size = fs::metadata(dir.join(&file))?.len();
        check_size(&file, size, definition.budgets.uki_mib)?;
        Ok(format!("{:.1} MiB", mib(size)))
    })
}
