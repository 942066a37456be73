//! The installer: a stick that boots the very root of the appliance, with words added to its command line.

use std::fs;

use super::bios;
use super::build::Build;
use super::definition::Partitions;
use super::disk::{self, STATE, partition, slot_b};
use super::steps::{Key, Steps};

/// The disk image of the stick. Its labels and identifiers are its own, so that a machine may hold the stick and a
/// disk that was installed from it.
pub(super) fn stick(build: &Build<'_>, steps: &mut Steps, raw: &Key) -> anyhow::Result<Key> {
    let installer = &build.definition.installer;
    let key = raw.clone().with(include_str!("installer.rs")).with(format!("{installer:?}"));
    let key = key.with_path(&build.root.join(FILES))?;
    let file = build.installer_name();
    steps.run("installer", &key, &[&file], || {
        let Build { room, dir, root, .. } = *build;
        disk::esp(build, "stick")?;
        let words = installer.command_line.join(" ");
        // systemd-stub adds the command lines of such files to the UKI's own.
        let addons = format!("stick/EFI/Linux/{}.extra.d", build.uki_name());
        fs::create_dir_all(dir.join(&addons))?;
        let addon = format!("/image/{addons}/install.addon.efi");
        let stub = "/usr/lib/systemd/boot/efi/addonx64.efi.stub";
        room.run("ukify", &["build", "--stub", stub, "--cmdline", &words, "--output", &addon])?;
        fs::write(dir.join("stick/grub/more.cfg"), format!("set more=\"{words}\"\n"))?;
        let files = dir.join("stick-files");
        super::build::empty_dir(&files)?;
        for name in crate::repository::list(root.join(FILES)) {
            fs::copy(root.join(FILES).join(&name), files.join(&name))?;
        }
        let copy = |name: &str| format!("CopyBlocks=/image/root.{name}\nReadOnly=yes\n");
        let whole =
            |kind: &str, label: &str, name: &str| format!("[Partition]\nType={kind}\nLabel={label}\n{}", copy(name));
        let (esp, files) = ("Format=vfat\nCopyFiles=/image/stick:/\n", "Format=vfat\nCopyFiles=/image/stick-files:/\n");
        let partitions = [
            ("00-bios.conf", disk::bios_partition("fanblade-install-bios", &format!("/image/{}", bios::CORE))),
            ("05-esp.conf", partition("esp", "fanblade-install-esp", esp, installer.esp_mib)),
            ("10-verity.conf", whole("root-verity", "fanblade-install-verity", "verity")),
            ("11-root.conf", whole("root", "fanblade-install-root", "erofs")),
            ("20-files.conf", partition(BASIC_DATA, "FANBLADE", files, installer.files_mib)),
        ];
        disk::make(build, &file, SEED, &partitions)
    })
}

/// Files for /usr/lib/fanblade/install.repart.d: the disk that the stick makes. The installer adds the slot's
/// identifiers, which follow from the root hash, and a file within the root cannot know that.
pub(super) fn installed(partitions: &Partitions) -> [(&'static str, String); 7] {
    let Partitions { esp_mib, verity_mib, root_mib, state_mib_min } = *partitions;
    let from = |name: &str| format!("/dev/disk/by-partlabel/fanblade-install-{name}");
    let esp = format!(
        "Format=vfat\nCopyFiles={STICK_ESP}:/\nExcludeFiles={STICK_ESP}/EFI/Linux/fanblade_%A.efi.extra.d \
         {STICK_ESP}/grub/more.cfg\n"
    );
    let copy = |name: &str| format!("CopyBlocks={}\nReadOnly=yes\n", from(name));
    let [verity_b, root_b] = slot_b(partitions);
    [
        ("00-bios.conf", disk::bios_partition("fanblade-bios", &from("bios"))),
        ("05-esp.conf", partition("esp", "fanblade-esp", &esp, esp_mib)),
        ("10-verity-a.conf", partition("root-verity", "fanblade_%A_verity", &copy("verity"), verity_mib)),
        ("11-root-a.conf", partition("root", "fanblade_%A", &copy("root"), root_mib)),
        verity_b,
        root_b,
        ("30-state.conf", format!("{STATE}{TAKEN}SizeMinBytes={state_mib_min}M\n")),
    ]
}

/// What `fanblade configure` has put into memory. The state partition becomes /var.
const TAKEN: &str =
    "CopyFiles=/var/lib/fanblade:/lib/fanblade\nCopyFiles=/var/lib/fanblade-setup:/lib/fanblade-setup\n";
/// Files of the partition that people put their configuration on.
const FILES: &str = "firmware-config/installer";
/// Where the installer mounts the stick's ESP.
const STICK_ESP: &str = "/run/fanblade-install/esp";
/// As [`disk`]'s, for the stick.
const SEED: &str = "--seed=8c3e2a51-40d7-4b1e-9a55-7d6a0f1b2c3d";
/// "Microsoft basic data" of the GPT: every desktop shows it.
const BASIC_DATA: &str = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7";
