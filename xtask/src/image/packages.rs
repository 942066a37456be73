//! Debian's packages for the root file system.

use std::fs;
use std::path::Path;

use super::build::mib;
use super::definition::Definition;
use super::room::Room;
use super::steps::{Key, Steps};

/// Debian's packages as one archive.
pub(super) fn fetch(steps: &mut Steps, room: &Room, dir: &Path, definition: &Definition) -> anyhow::Result<Key> {
    let packages = definition.packages().collect::<Vec<_>>().join(",");
    let sources = definition.sources();
    let key = Key::new(include_str!("packages.rs")).with(&packages).with(sources.join("\n"));
    steps.run("packages", &key, &["packages.tar"], || {
        let include = format!("--include={packages}");
        let mut args = vec!["--quiet", "--mode=root", "--variant=essential", "--skip=check/qemu", &include];
        args.extend(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\""]);
        args.extend(["--aptopt=Acquire::Retries \"3\"", "--dpkgopt=path-exclude=/usr/share/doc/*"]);
        args.extend(["--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=path-exclude=/usr/share/man/*"]);
        args.extend(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/bug/*"]);
        args.extend(["--dpkgopt=path-exclude=/usr/share/lintian/*", &definition.debian.suite, "/image/packages.tar"]);
        args.extend(sources.iter().map(String::as_str));
        room.run("mmdebstrap", &args)?;
        Ok(format!("{:.1} MiB", mib(fs::metadata(dir.join("packages.tar"))?.len())))
    })
}
