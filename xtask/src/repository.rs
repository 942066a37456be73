//! The paths of the checkout, of build output, tools and programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::Context as _;

/// The checkout of the current directory: cargo names it, else it is the nearest parent that has an xtask.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    if let Some(manifest) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)
        && let Some(root) = manifest.parent()
        && root.join("xtask/Cargo.toml").is_file()
    {
        return Ok(root.to_owned());
    }
    let here = env::current_dir()?;
    here.ancestors()
        .find(|dir| dir.join("xtask/Cargo.toml").is_file())
        .map(Path::to_owned)
        .context("not inside a checkout of fanblade: run this through `cargo xtask`")
}

/// Where cargo builds: CARGO_TARGET_DIR, else target/.
pub(crate) fn build_dir(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// The Python venv with the test peers. It is always below the checkout, so that tests find it by themselves.
pub(crate) fn venv(root: &Path) -> PathBuf {
    root.join("target/venv")
}

/// Programs that `setup` built (`bin/` below).
pub(crate) fn tools(root: &Path) -> PathBuf {
    root.join("target/tools")
}

/// The same `cargo` that runs us, in the checkout, with an empty standard input.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(std::process::Stdio::null());
    // Cargo has set these for xtask itself; build scripts and tests of other packages must not see them.
    command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    command
}

/// Looks for a program on PATH and in Debian's directories for the administrator, which a user's PATH lacks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// The entries of a directory, sorted; none if it cannot be read.
pub(crate) fn list(dir: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
