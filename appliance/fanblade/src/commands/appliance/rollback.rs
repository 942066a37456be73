//! `fanblade rollback`: from the next boot on, the other version runs.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};

use super::esp::Writable;
use super::slots::{BootFile, Mark, Slots};
use super::version::Version;
use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The version to start from the next boot on, see `fanblade versions`. Left out: the other one
    version: Option<String>,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    super::need_root("rollback")?;
    let running = super::running("rollback")?;
    let slots = Slots::here();
    let target = args.version.as_deref().map(str::parse).transpose()?;
    let target = choose(&slots.boot_files()?, running, target)?;
    slots.check(&target)?;
    let esp = Writable::new()?;
    let has_changed = turn_to(&slots, &target)?;
    esp.end()?;
    let already = if has_changed { "" } else { " already" };
    out::say(format_args!(
        "version {} starts at the next boot{already} and stays until an update: `systemctl reboot`",
        target.version
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The file of the version that is to start.
fn choose(files: &[BootFile], running: Version, wanted: Option<Version>) -> anyhow::Result<BootFile> {
    let is_proven = |version| files.iter().any(|file| file.version == version && file.mark.is_proven());
    ensure!(
        is_proven(running),
        "version {running} runs but is not kept yet: it is kept once it is healthy, or given up by itself after its tries"
    );
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => {
            let other = files.iter().map(|file| file.version).find(|version| *version != running);
            other.context("there is no other version on this disk; `fanblade update FILE` brings one")?
        }
    };
    let of_it = || files.iter().filter(|file| file.version == wanted);
    // A kept file counts, whatever an interrupted command has left beside it.
    let file = of_it().find(|file| file.mark == Mark::Kept).or_else(|| of_it().next());
    match file {
        Some(file) if file.mark.is_proven() => Ok(file.clone()),
        Some(BootFile { mark: Mark::Tries(_), .. }) => {
            bail!(
                "version {wanted} has not been tried yet: the next boot tries it, and it goes away if it is not healthy"
            )
        }
        Some(_) => {
            bail!("version {wanted} was given up: it did not become healthy. `fanblade update FILE` puts it in again")
        }
        None => {
            let there: Vec<String> = files.iter().map(|file| file.version.to_string()).collect();
            bail!("version {wanted} is not on this disk; there are {}", there.join(" and "))
        }
    }
}

/// Returns whether anything was to be done.
fn turn_to(slots: &Slots, target: &BootFile) -> anyhow::Result<bool> {
    let mut has_changed = false;
    if target.mark == Mark::Aside {
        slots.take_back(target)?;
        has_changed = true;
    }
    for newer in slots.boot_files()? {
        if newer.version > target.version && newer.mark == Mark::Kept {
            slots.set_aside(&newer)?;
            has_changed = true;
        }
    }
    Ok(has_changed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn rollback_goes_back_and_forth_and_refuses_what_was_never_healthy() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::new(dir.path(), "/nowhere");
        let names = || {
            let mut names: Vec<String> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.concat()
        };
        let roll = |running: &str, to: Option<&str>| -> anyhow::Result<bool> {
            let to = to.map(|version| version.parse().unwrap());
            turn_to(&slots, &choose(&slots.boot_files()?, running.parse().unwrap(), to)?)
        };
        let refused = |running: &str, to: Option<&str>, words: &str| {
            let error = roll(running, to).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        fs::write(dir.path().join("fanblade_0.1.0.efi"), "uki").unwrap();
        refused("0.1.0", None, "no other version");
        refused("0.1.0", Some("0.1.9"), "not on this disk; there are 0.1.0");
        fs::write(dir.path().join("fanblade_0.1.1+3.efi"), "uki").unwrap();
        refused("0.1.0", None, "has not been tried yet");
        refused("0.1.1", None, "is not kept yet");
        slots.keep("0.1.1".parse().unwrap()).unwrap();
        assert!(roll("0.1.1", None).unwrap());
        assert_eq!(names(), "fanblade_0.1.0.efifanblade_0.1.1+0.efi");
        assert!(!roll("0.1.1", None).unwrap(), "twice is once");
        assert!(roll("0.1.1", Some("0.1.1")).unwrap(), "and taken back before the reboot");
        assert_eq!(names(), "fanblade_0.1.0.efifanblade_0.1.1.efi");
        assert!(roll("0.1.1", None).unwrap() && roll("0.1.0", None).unwrap(), "back and forth");
        assert_eq!(names(), "fanblade_0.1.0.efifanblade_0.1.1.efi");
        fs::rename(dir.path().join("fanblade_0.1.1.efi"), dir.path().join("fanblade_0.1.1+0-3.efi")).unwrap();
        refused("0.1.0", None, "was given up");
    }
}
