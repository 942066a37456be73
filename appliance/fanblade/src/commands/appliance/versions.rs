//! `fanblade versions`: the versions on this machine's disk, and what becomes of them.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::SETUP;
use super::esp::Writable;
use super::replace::replace;
use super::slots::{Mark, Slots};
use super::version::Version;
use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the version that runs, so that its boots are no longer counted: the image calls this once the blade answers
    #[arg(long)]
    keep: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    super::need_root("versions")?;
    let running = super::running("versions")?;
    let slots = Slots::here();
    if args.keep {
        return keep(&slots, running);
    }
    for file in slots.boot_files()? {
        let runs = if file.version == running { ", runs" } else { "" };
        let lacks = slots.check(&file).err().map(|error| format!("; {error:#}")).unwrap_or_default();
        out::say(format_args!("{}: {}{runs}{lacks}", file.version, file.mark))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn keep(slots: &Slots, running: Version) -> anyhow::Result<ExitCode> {
    let esp = Writable::new()?;
    let has_changed = slots.keep(running)?;
    esp.end()?;
    if has_changed {
        out::say(format_args!("fanblade: this version is kept as fanblade_{running}.efi"))?;
    }
    // After the boot file: where the state partition is full, the version is kept all the same.
    if read_newest()?.is_none_or(|newest| newest < running) {
        write_newest(running)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest version that was ever kept here: an older one that is signed, too, is not put in unasked. A factory reset
/// forgets it, but not the versions on the disk.
pub(super) fn newest(slots: &Slots, running: Version) -> anyhow::Result<Version> {
    let on_disk = slots.boot_files()?.into_iter().filter(|file| file.mark.is_proven()).map(|file| file.version);
    Ok(on_disk.chain(read_newest()?).chain([running]).max().unwrap_or(running))
}

/// A file that is empty or odd after a power cut counts for nothing.
fn read_newest() -> anyhow::Result<Option<Version>> {
    match fs::read_to_string(newest_file()) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", newest_file().display())),
    }
}

fn write_newest(version: Version) -> anyhow::Result<()> {
    replace(&newest_file(), format!("{version}\n").as_bytes(), 0o644)
}

fn newest_file() -> std::path::PathBuf {
    Path::new(SETUP).join("newest-version")
}

/// Why an update cannot begin: at every moment one version that was healthy must be able to start.
pub(super) fn ready_for_update(slots: &Slots, running: Version) -> anyhow::Result<()> {
    match slots.boot_file(running)?.map(|file| file.mark) {
        Some(Mark::Kept) => Ok(()),
        Some(Mark::Aside) => anyhow::bail!(
            "a rollback from version {running} waits for the next boot: reboot first, or `fanblade rollback {running}`"
        ),
        _ => anyhow::bail!(
            "version {running} runs but is not kept yet, and an update would overwrite the only one that is: wait until it \
             is healthy"
        ),
    }
}
