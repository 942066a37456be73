//! firmware-config/image.toml: what the image consists of.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The whole definition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    pub(super) image: Image,
    pub(super) debian: Debian,
    pub(super) tools: Tools,
    package: Vec<Package>,
    pub(super) borrow: Vec<Borrow>,
    module: Modules,
    pub(super) files: Files,
    pub(super) units: Units,
    pub(super) initrd: Initrd,
    pub(super) partitions: Partitions,
    pub(super) installer: Installer,
    pub(super) budgets: Budgets,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    /// Time of every file, in seconds since 1970.
    pub(super) epoch: u64,
    command_line: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Debian {
    pub(super) suite: String,
    components: Vec<String>,
    source: Vec<Source>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    uri: String,
    suite: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tools {
    packages: Vec<String>,
    vm_packages: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    why: String,
}

/// Single files of a package that the tools tree has and the image has not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Borrow {
    pub(super) package: String,
    /// Paths without a leading slash.
    pub(super) files: Vec<String>,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modules {
    remove: Vec<Removal>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removal {
    why: String,
    paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    /// Paths without a leading slash.
    pub(super) remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Units {
    pub(super) mask: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Initrd {
    /// dracut's modules.
    pub(super) modules: Vec<String>,
    /// The kernel's modules.
    pub(super) drivers: Vec<String>,
    pub(super) filesystems: Vec<String>,
    pub(super) programs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Partitions {
    pub(super) esp_mib: u64,
    pub(super) verity_mib: u64,
    pub(super) root_mib: u64,
    pub(super) state_mib_min: u64,
}

/// The stick that installs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Installer {
    /// Words that the stick adds to the kernel's command line.
    pub(super) command_line: Vec<String>,
    pub(super) esp_mib: u64,
    pub(super) files_mib: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budgets {
    pub(super) packages: usize,
    pub(super) root_mib: u64,
    pub(super) uki_mib: u64,
    pub(super) unpacked_mib: u64,
    /// What `systemd-analyze security` gives fanblade.service, in tenths.
    pub(super) exposure_tenths: u32,
}

impl Definition {
    /// Reads firmware-config/image.toml of a checkout.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Definition> {
        let file = root.join("firmware-config/image.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Definition::parse(&text).with_context(|| file.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Definition> {
        let definition: Definition = toml::from_str(text)?;
        for Package { name, why } in &definition.package {
            ensure!(!why.is_empty(), "package {name} has no reason");
        }
        for Borrow { package, why, .. } in &definition.borrow {
            ensure!(!why.is_empty(), "the files of {package} have no reason");
        }
        for Removal { why, paths } in &definition.module.remove {
            ensure!(!why.is_empty(), "the removal of {} has no reason", paths.join(", "));
        }
        let borrowed = definition.borrow.iter().flat_map(|borrow| &borrow.files);
        for path in definition.files.remove.iter().chain(definition.modules_removed()).chain(borrowed) {
            // It is joined to the directory of the root file system, and removed or written.
            let is_below = path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
            ensure!(is_below, "{path:?} is no path below a directory: no slash at its ends, no `..`");
        }
        ensure!(
            definition.debian.source.iter().any(|source| source.suite == definition.debian.suite),
            "no source has the suite {}",
            definition.debian.suite
        );
        Ok(definition)
    }

    /// The packages of the root file system.
    pub(super) fn packages(&self) -> impl Iterator<Item = &str> {
        self.package.iter().map(|package| package.name.as_str())
    }

    /// The packages of the tools tree.
    pub(super) fn tools(&self) -> Vec<&str> {
        self.tools.packages.iter().chain(&self.tools.vm_packages).map(String::as_str).collect()
    }

    /// Directories and files below `kernel/` of the modules.
    pub(super) fn modules_removed(&self) -> impl Iterator<Item = &String> {
        self.module.remove.iter().flat_map(|removal| &removal.paths)
    }

    /// Lines for apt's sources.
    pub(super) fn sources(&self) -> Vec<String> {
        let components = self.debian.components.join(" ");
        let line = |source: &Source| format!("deb {} {} {components}", source.uri, source.suite);
        self.debian.source.iter().map(line).collect()
    }

    /// The kernel's command line for a root of this hash.
    pub(super) fn command_line(&self, root_hash: &str) -> String {
        format!("roothash={root_hash} {}", self.image.command_line.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../firmware-config/image.toml");

    #[test]
    fn the_shipped_definition_is_whole() {
        let definition = Definition::parse(SHIPPED).unwrap();
        assert!(definition.packages().any(|name| name == "linux-image-amd64"));
        assert!(definition.packages().count() <= definition.budgets.packages);
        assert!(definition.command_line("12ab").starts_with("roothash=12ab systemd.verity_root_options="));
    }

    #[test]
    fn what_would_remove_something_else_is_refused() {
        for path in ["../etc", "/etc", "", "etc/", "a//b", "./a"] {
            let text = SHIPPED.replace("\"var/cache\"", &format!("{path:?}"));
            let error = Definition::parse(&text).unwrap_err().to_string();
            assert!(error.contains("no path below a directory"), "{path}: {error}");
        }
    }

    #[test]
    fn a_wrong_key_is_named_with_its_line() {
        let error = Definition::parse(&SHIPPED.replace("esp_mib", "esp_mb")).unwrap_err().to_string();
        assert!(error.contains("unknown field `esp_mb`") && error.contains("line"), "{error}");
    }
}
