//! Disks: the one that a blade boots from, and the one that installs it.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, bail};

use super::build::{Build, empty_dir, mib};
use super::definition::Partitions;
use super::steps::{Key, Steps};

/// The disk image: an ESP and slot A. Slot B and the state are made at the first boot, on whatever disk it is.
pub(super) fn raw(build: &Build<'_>, steps: &mut Steps, uki: &Key) -> anyhow::Result<Key> {
    let Partitions { esp_mib, verity_mib, root_mib, .. } = build.definition.partitions;
    let key = uki.clone().with(include_str!("disk.rs")).with(format!("{:?}", build.definition.partitions));
    let file = build.raw_name();
    steps.run("disk", &key, &[&file], || {
        let Build { room, dir, version, definition, .. } = *build;
        let esp = dir.join("esp");
        empty_dir(&esp)?;
        for below in ["EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"] {
            fs::create_dir_all(esp.join(below))?;
        }
        let loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
        for copy in ["/image/esp/EFI/BOOT/BOOTX64.EFI", "/image/esp/EFI/systemd/systemd-bootx64.efi"] {
            room.run("cp", &[loader, copy])?;
        }
        // Without a counter: a counted file must never be the only one.
        fs::copy(dir.join(build.uki_name()), esp.join("EFI/Linux").join(build.uki_name()))?;
        fs::write(esp.join("loader/loader.conf"), "timeout 0\nconsole-mode keep\neditor no\n")?;
        let stamp = format!("@{}", definition.image.epoch);
        room.run("find", &["/image/esp", "-exec", "touch", "-d", &stamp, "{}", "+"])?;

        let hash = fs::read_to_string(dir.join("root.hash"))?;
        let (data, tree) = (uuid(&hash[..32])?, uuid(&hash[32..])?);
        let partitions = [
            (
                "00-esp.conf",
                format!("Type=esp\nLabel=fanblade-esp\nFormat=vfat\nCopyFiles=/image/esp:/\n{}", size(esp_mib)),
            ),
            (
                "10-verity-a.conf",
                format!(
                    "Type=root-verity\nLabel=fanblade_{version}_verity\nUUID={tree}\nCopyBlocks=/image/root.verity\n\
                     ReadOnly=yes\n{}",
                    size(verity_mib)
                ),
            ),
            (
                "11-root-a.conf",
                format!(
                    "Type=root\nLabel=fanblade_{version}\nUUID={data}\nCopyBlocks=/image/root.erofs\nReadOnly=yes\n{}",
                    size(root_mib)
                ),
            ),
        ];
        let definitions = dir.join("repart.d");
        fs::create_dir_all(&definitions)?;
        for (name, text) in partitions {
            fs::write(definitions.join(name), format!("[Partition]\n{text}"))?;
        }
        let _ = fs::remove_file(dir.join(&file));
        let output = format!("/image/{file}");
        let mut args = vec!["--empty=create", "--size=auto", "--offline=yes", "--definitions=/image/repart.d"];
        args.extend([SEED, "--dry-run=no", "--no-pager", "--discard=no", &output]);
        room.run("systemd-repart", &args)?;
        let meta = fs::metadata(dir.join(&file))?;
        use std::os::unix::fs::MetadataExt as _;
        Ok(format!("{:.0} MiB, {:.0} of them in use", mib(meta.len()), mib(meta.blocks() * 512)))
    })
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
    [
        ("00-esp.conf", format!("[Partition]\nType=esp\n{}", size(esp_mib))),
        ("10-verity-a.conf", format!("[Partition]\nType=root-verity\n{}", size(verity_mib))),
        ("11-root-a.conf", format!("[Partition]\nType=root\n{}", size(root_mib))),
        // sysupdate takes a partition of this label for the next version.
        ("20-verity-b.conf", format!("[Partition]\nType=root-verity\nLabel=_empty\n{}", size(verity_mib))),
        ("21-root-b.conf", format!("[Partition]\nType=root\nLabel=_empty\n{}", size(root_mib))),
        (
            "30-state.conf",
            format!(
                "[Partition]\nType=linux-generic\nLabel=fanblade-state\nFormat=ext4\nFactoryReset=yes\n\
                 SizeMinBytes={state_mib_min}M\n"
            ),
        ),
    ]
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
