//! The disk that a blade boots from, and what all disks have in common.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use anyhow::{Context as _, bail};

use super::bios;
use super::build::{Build, empty_dir, mib};
use super::definition::Partitions;
use super::steps::{Key, Steps};

/// The disk image: boot loaders for BIOS and UEFI, and slot A. Slot B and the state are made at the first boot, on
/// whatever disk it is.
pub(super) fn raw(build: &Build<'_>, steps: &mut Steps, uki: &Key) -> anyhow::Result<Key> {
    let Partitions { esp_mib, verity_mib, root_mib, .. } = build.definition.partitions;
    let key = uki.clone().with(include_str!("disk.rs")).with(include_str!("bios.rs"));
    let key = key.with(format!("{:?}", build.definition.partitions));
    let file = build.raw_name();
    steps.run("disk", &key, &[&file, bios::CORE, bios::BOOT], || {
        let Build { dir, version, .. } = *build;
        bios::loader(build)?;
        esp(build, "esp")?;
        let hash = fs::read_to_string(dir.join("root.hash"))?;
        let (data, tree) = (uuid(&hash[..32])?, uuid(&hash[32..])?);
        let esp = "Format=vfat\nCopyFiles=/image/esp:/\n";
        let verity = format!("UUID={tree}\nCopyBlocks=/image/root.verity\nReadOnly=yes\n");
        let root = format!("UUID={data}\nCopyBlocks=/image/root.erofs\nReadOnly=yes\n");
        let partitions = [
            ("00-bios.conf", bios_partition("fanblade-bios", &format!("/image/{}", bios::CORE))),
            ("05-esp.conf", partition("esp", "fanblade-esp", esp, esp_mib)),
            ("10-verity-a.conf", partition("root-verity", &format!("fanblade_{version}_verity"), &verity, verity_mib)),
            ("11-root-a.conf", partition("root", &format!("fanblade_{version}"), &root, root_mib)),
        ];
        make(build, &file, SEED, &partitions)
    })
}

/// The files of an EFI system partition, in a directory of the build.
pub(super) fn esp(build: &Build<'_>, name: &str) -> anyhow::Result<()> {
    let Build { room, dir, .. } = *build;
    let esp = dir.join(name);
    empty_dir(&esp)?;
    for below in ["EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader", "grub"] {
        fs::create_dir_all(esp.join(below))?;
    }
    let loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    for copy in ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"] {
        room.run("cp", &[loader, &format!("/image/{name}/{copy}")])?;
    }
    // Without a counter: a counted file must never be the only one.
    let uki = dir.join(build.uki_name());
    fs::copy(&uki, esp.join("EFI/Linux").join(build.uki_name()))?;
    fs::write(esp.join("loader/loader.conf"), "timeout 0\nconsole-mode keep\neditor no\n")?;
    fs::write(esp.join("grub/grub.cfg"), bios::configuration(&fs::read(&uki)?, &build.uki_name())?)?;
    Ok(())
}

/// Writes a disk of these partitions, and the code that a BIOS starts.
pub(super) fn make(build: &Build<'_>, file: &str, seed: &str, parts: &[(&str, String)]) -> anyhow::Result<String> {
    let Build { room, dir, definition, .. } = *build;
    // The files of all file systems.
    let stamp = format!("@{}", definition.image.epoch);
    let definitions = dir.join("repart.d");
    empty_dir(&definitions)?;
    for (name, text) in parts {
        if let Some((from, _)) = text.split_once("CopyFiles=").and_then(|(_, text)| text.split_once(':')) {
            room.run("find", &[from, "-exec", "touch", "-d", &stamp, "{}", "+"])?;
        }
        fs::write(definitions.join(name), text)?;
    }
    let path = dir.join(file);
    let _ = fs::remove_file(&path);
    let output = format!("/image/{file}");
    let mut args = vec!["--empty=create", "--size=auto", "--offline=yes", "--definitions=/image/repart.d"];
    // Otherwise FAT gets sectors of 4 KiB: firmware expects the disk's, and FAT32 needs 65,525 clusters.
    args.extend([seed, "--sector-size=512", "--dry-run=no", "--no-pager", "--discard=no", &output]);
    room.run("systemd-repart", &args)?;
    let boot = fs::read(dir.join(bios::BOOT))?;
    fs::File::options().write(true).open(&path)?.write_all_at(&boot, 0)?;
    let meta = fs::metadata(&path)?;
    Ok(format!("{:.0} MiB, {:.0} of them in use", mib(meta.len()), mib(meta.blocks() * 512)))
}

/// The same disk in QEMU's format, compressed: for hypervisors and for carrying it about.
pub(super) fn qcow2(build: &Build<'_>, steps: &mut Steps, raw: &Key) -> anyhow::Result<Key> {
    let key = raw.clone().with(include_str!("disk.rs"));
    let file = build.qcow2_name();
    steps.run("qcow2", &key, &[&file], || {
        let (from, to) = (format!("/image/{}", build.raw_name()), format!("/image/{file}"));
        build.room.run(
            "qemu-img",
            &["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd", &from, &to],
        )?;
        Ok(format!("{:.1} MiB", mib(fs::metadata(build.dir.join(&file))?.len())))
    })
}

/// Files for /usr/lib/repart.d: what the first boot finds, makes and grows.
pub(super) fn slots(partitions: &Partitions) -> [(&'static str, String); 6] {
    let Partitions { esp_mib, verity_mib, root_mib, state_mib_min } = *partitions;
    let [verity_b, root_b] = slot_b(partitions);
    [
        ("05-esp.conf", format!("[Partition]\nType=esp\n{}", size(esp_mib))),
        ("10-verity-a.conf", format!("[Partition]\nType=root-verity\n{}", size(verity_mib))),
        ("11-root-a.conf", format!("[Partition]\nType=root\n{}", size(root_mib))),
        verity_b,
        root_b,
        ("30-state.conf", format!("{STATE}FactoryReset=yes\nSizeMinBytes={state_mib_min}M\n")),
    ]
}

/// The slot of the next version: systemd-sysupdate takes partitions of this label.
pub(super) fn slot_b(partitions: &Partitions) -> [(&'static str, String); 2] {
    [
        ("20-verity-b.conf", partition("root-verity", "_empty", "", partitions.verity_mib)),
        ("21-root-b.conf", partition("root", "_empty", "", partitions.root_mib)),
    ]
}

/// The partition of GRUB's core; it must be the disk's first.
pub(super) fn bios_partition(label: &str, core: &str) -> String {
    partition(bios::PARTITION_TYPE, label, &format!("CopyBlocks={core}\n"), bios::CORE_MIB)
}

/// A partition of exactly this size; `more`: further lines of its definition.
pub(super) fn partition(kind: &str, label: &str, more: &str, mib: u64) -> String {
    format!("[Partition]\nType={kind}\nLabel={label}\n{more}{}", size(mib))
}

fn size(mib: u64) -> String {
    format!("SizeMinBytes={mib}M\nSizeMaxBytes={mib}M\n")
}

/// 32 hexadecimal digits as a UUID.
pub(super) fn uuid(hex: &str) -> anyhow::Result<String> {
    if hex.len() != 32 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        bail!("{hex:?} is not 32 hexadecimal digits");
    }
    let (mut text, mut at) = (String::with_capacity(36), 0);
    for len in [8, 4, 4, 4, 12] {
        let dash = if at == 0 { "" } else { "-" };
        write!(text, "{dash}{}", &hex[at..at + len]).context("writing to a string")?;
        at += len;
    }
    Ok(text)
}

/// The state partition, which takes the rest of the disk.
pub(super) const STATE: &str = "[Partition]\nType=linux-generic\nLabel=fanblade-state\nFormat=ext4\n";
/// Partition and disk identifiers that do not come from the root hash are derived from this.
const SEED: &str = "--seed=2b1f8b6e-6f3c-4a8f-8d1e-1c2d3e4f5a6b";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_cut_as_rfc_9562_says() {
        assert_eq!(uuid("0123456789abcdef0123456789abcdef").unwrap(), "01234567-89ab-cdef-0123-456789abcdef");
        assert!(uuid("0123").is_err() && uuid("x123456789abcdef0123456789abcdef").is_err());
    }

    #[test]
    fn both_slots_are_equal() {
        let partitions = Partitions { esp_mib: 512, verity_mib: 16, root_mib: 500, state_mib_min: 256 };
        let slots = slots(&partitions);
        let of = |name: &str| slots.iter().find(|slot| slot.0 == name).unwrap().1.replace("Label=_empty\n", "");
        assert_eq!((of("10-verity-a.conf"), of("11-root-a.conf")), (of("20-verity-b.conf"), of("21-root-b.conf")));
    }
}
