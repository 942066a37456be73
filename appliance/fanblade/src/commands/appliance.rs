//! Commands for a machine that runs the appliance image: its versions, its configuration, its beginning again.

pub(crate) mod configure;
mod esp;
mod public_keys;
mod replace;
pub(crate) mod reset;
pub(crate) mod rollback;
mod signing;
mod slots;
pub(crate) mod support;
mod unpack;
pub(crate) mod update;
mod version;
pub(crate) mod versions;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use nix::unistd::Uid;

use version::Version;

/// The blade's configuration, where the image's tmpfiles.d puts it.
pub(crate) const CONFIG: &str = "/var/lib/fanblade/fanblade.toml";
/// What root alone may change on the state partition: the blade's own directory belongs to the user that it runs as.
const SETUP: &str = "/var/lib/fanblade-setup";
/// Where firmware says whether it is UEFI, and keeps variables.
const EFI: &str = "/sys/firmware/efi";
/// The vendor part of systemd-boot's variables (systemd.io/BOOT_LOADER_INTERFACE).
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Refuses everybody but root, with the command's name.
fn need_root(command: &str) -> anyhow::Result<()> {
    ensure!(Uid::effective().is_root(), "`fanblade {command}` needs root: run it by sudo, or in root's shell");
    Ok(())
}

/// The version of the image that runs. Refuses machines that do not run it, and those that were not started by UEFI.
fn running(command: &str) -> anyhow::Result<Version> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    let (Some("fanblade"), Some(version)) = (value("IMAGE_ID="), value("IMAGE_VERSION=")) else {
        bail!("`fanblade {command}` is for the appliance image; on other machines, replace the program by yourself");
    };
    let version = version.parse().context("IMAGE_VERSION in /etc/os-release")?;
    ensure!(
        Path::new(EFI).exists(),
        "`fanblade {command}` needs a machine that was started by UEFI; this one was started by BIOS. Write the new \
         image to its disk instead"
    );
    Ok(version)
}

/// Runs a program to its end; its words go to where ours go.
fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Sets a variable of the firmware to a text, which stays there until somebody takes it away.
fn set_firmware_variable(name: &str, vendor: &str, text: &str) -> anyhow::Result<()> {
    // Non-volatile, for the boot loader and for the running system; then UTF-16 with a zero at the end. The kernel
    // takes all of it in one write.
    let mut bytes = 7_u32.to_le_bytes().to_vec();
    bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    let path = Path::new(EFI).join("efivars").join(format!("{name}-{vendor}"));
    if std::fs::read(&path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if path.exists() {
        // The kernel protects variables against `rm -r`.
        succeed(Command::new("chattr").arg("-i").arg(&path))?;
    }
    std::fs::write(&path, &bytes)
        .with_context(|| format!("the firmware does not take the variable {}", path.display()))?;
    ensure!(std::fs::read(&path)? == bytes, "the firmware has not kept the variable {}", path.display());
    Ok(())
}
