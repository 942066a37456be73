//! The tools tree: one version of every program that builds the image or runs it, whatever the host has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::Uid;

use super::build::tree_size;
use super::definition::Definition;
use super::steps::{Key, Steps};
use crate::{child, repository};

/// The tree's name in the build's directory.
const TREE: &str = "tools";

/// Says what is missing on this host for building an image, and the command that mends it.
pub(crate) fn missing() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some(
            "an image needs root: its files belong to root, and its tools run in a mount namespace. Run \
             `sudo -E env PATH=$PATH cargo xtask image`; everything it makes lies below target/image"
                .to_owned(),
        );
    }
    if repository::find_program("mmdebstrap").is_none() {
        return Some(
            "mmdebstrap is missing: `apt-get install -y --no-install-recommends mmdebstrap` (it runs on any system; it \
             fetches all other tools into a tree of their own)"
                .to_owned(),
        );
    }
    None
}

/// Where the tree lies.
pub(super) fn tree(dir: &Path) -> PathBuf {
    dir.join(TREE)
}

/// Makes the tree if its list of packages has changed.
pub(super) fn make(steps: &mut Steps, dir: &Path, definition: &Definition) -> anyhow::Result<(PathBuf, Key)> {
    let tree = tree(dir);
    let packages = definition.tools().join(",");
    let sources = definition.sources();
    let key = Key::new(include_str!("tools.rs")).with(&packages).with(sources.join("\n"));
    let key = steps.run("tools", &key, &[TREE], || {
        if let Some(missing) = missing() {
            bail!(missing);
        }
        if tree.exists() {
            fs::remove_dir_all(&tree).with_context(|| format!("removing the old {}", tree.display()))?;
        }
        let mut debootstrap = Command::new("mmdebstrap");
        debootstrap.args(["--quiet", "--mode=root", "--variant=apt", "--aptopt=APT::Install-Recommends \"false\""]);
        debootstrap.args(["--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""]);
        debootstrap.arg("--dpkgopt=path-exclude=/usr/share/man/*").arg("--dpkgopt=path-exclude=/usr/share/doc/*");
        debootstrap.arg(format!("--include={packages}")).arg(&definition.debian.suite).arg(&tree).args(&sources);
        child::succeed(&mut debootstrap)?;
        Ok(format!("{} MB", tree_size(&tree)? / 1_000_000))
    })?;
    Ok((tree, key))
}
