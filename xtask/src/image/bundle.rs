//! The update: one file with both parts of a slot and the UKI, signed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::build::{Build, empty_dir, mib};
use super::disk;
use super::room::Room;
use super::steps::{Key, Steps};

/// The key that signs updates: the given one, or one of this checkout's own. Its public half goes into the image.
pub(super) fn key(room: &Room, dir: &Path, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let public = dir.join("update.pub");
    let secret = dir.join("update.key");
    if let Some(given) = given {
        let beside = given.with_extension("pub");
        ensure!(given.is_file(), "{} is no file; `minisign -G -p FILE.pub -s FILE.key` makes a pair", given.display());
        ensure!(beside.is_file(), "the public key {} is missing: the image needs it", beside.display());
        copy_if_different(given, &secret)?;
        copy_if_different(&beside, &public)?;
    } else if !(secret.is_file() && public.is_file()) {
        room.run("minisign", &["-G", "-f", "-W", "-p", "/image/update.pub", "-s", "/image/update.key"])?;
    }
    Ok(secret)
}

fn copy_if_different(from: &Path, to: &Path) -> anyhow::Result<()> {
    if fs::read(from)? != fs::read(to).unwrap_or_default() {
        fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// Packs and signs. The names within say what systemd-sysupdate needs to know.
pub(super) fn make(build: &Build<'_>, steps: &mut Steps, uki: &Key) -> anyhow::Result<Key> {
    let Build { room, dir, version, definition, .. } = *build;
    let file = build.bundle_name();
    let signature = format!("{file}.minisig");
    let key = uki.clone().with(include_str!("bundle.rs")).with_path(&dir.join("update.pub"))?;
    steps.run("update", &key, &[&file, &signature], || {
        let hash = fs::read_to_string(dir.join("root.hash"))?;
        let parts = dir.join("update");
        empty_dir(&parts)?;
        let names = [
            ("root.verity", format!("fanblade_{version}_{}.verity", disk::uuid(&hash[32..])?)),
            ("root.erofs", format!("fanblade_{version}_{}.root", disk::uuid(&hash[..32])?)),
            (&build.uki_name(), build.uki_name()),
        ];
        for (from, to) in &names {
            fs::hard_link(dir.join(from), parts.join(to))?;
        }
        let (stamp, archive) = (format!("--mtime=@{}", definition.image.epoch), format!("/image/{file}"));
        let mut args =
            vec!["-C", "/image/update", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644"];
        args.extend([stamp.as_str(), "--hard-dereference", "-cf", &archive]);
        args.extend(names.iter().map(|(_, name)| name.as_str()));
        room.run("tar", &args)?;
        let comment = format!("fanblade {version}");
        room.run("minisign", &["-S", "-s", "/image/update.key", "-m", &archive, "-t", &comment])?;
        fs::remove_dir_all(&parts)?;
        Ok(format!("{:.1} MiB", mib(fs::metadata(dir.join(&file))?.len())))
    })
}
