//! Where configuration is kept, and how it is replaced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use minisign_verify::PublicKey;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{Group, chown};

use super::network;
use super::sources::{AUTHORIZED_KEYS, BLADE, KEY, NETWORK, SIGNATURE, Source};
use crate::commands::appliance::replace::replace;
use crate::commands::appliance::{SETUP, public_keys, signing};
use crate::config::Config;

/// Directories of this machine, or of a test.
pub(super) struct Place {
    /// The blade's own directory.
    blade: PathBuf,
    /// What root alone writes.
    setup: PathBuf,
    /// Where an image may hold a key for configurations that no stick can replace.
    image: PathBuf,
    /// Where networkd looks, in memory.
    networkd: PathBuf,
}

/// What was taken and what was refused.
#[derive(Default)]
pub(super) struct Report {
    pub(super) lines: Vec<String>,
    pub(super) wrong: usize,
    taken: Vec<&'static str>,
}

impl Report {
    /// How to let what was taken take effect without a reboot.
    pub(super) fn hints(&self) -> Vec<&'static str> {
        let hint = |thing: &&'static str| match *thing {
            BLADE => Some("`systemctl restart fanblade.service` runs with the new configuration"),
            NETWORK => Some("`networkctl reload` takes the new addresses"),
            AUTHORIZED_KEYS => Some("`systemctl restart fanblade-ssh.service` lets the new keys in"),
            _ => None,
        };
        self.taken.iter().filter_map(hint).collect()
    }
}

impl Place {
    pub(super) fn here() -> Place {
        Place {
            blade: "/var/lib/fanblade".into(),
            setup: SETUP.into(),
            image: "/usr/share/fanblade".into(),
            networkd: "/run/systemd/network".into(),
        }
    }

    /// Takes each thing from the first source that has it.
    pub(super) fn take(&self, sources: &[Source]) -> Report {
        let mut report = Report::default();
        // The key last: what comes with a new key is signed by the old one.
        for thing in [BLADE, NETWORK, AUTHORIZED_KEYS, KEY] {
            let has = |source: &&Source| source.files.keys().any(|name| name.ends_with(thing));
            let Some(source) = sources.iter().find(has) else { continue };
            let what = if thing == NETWORK { "the addresses (*.network)" } else { thing };
            match self.take_from(source, thing) {
                Ok(false) => {}
                Ok(true) => {
                    report.lines.push(format!("{what} taken from {}", source.name));
                    report.taken.push(thing);
                }
                Err(error) => {
                    report.wrong += 1;
                    report.lines.push(format!("{what} from {} refused, nothing is changed: {error:#}", source.name));
                }
            }
        }
        report
    }

    /// Returns whether it differs from what was there.
    fn take_from(&self, source: &Source, thing: &'static str) -> anyhow::Result<bool> {
        if thing == NETWORK {
            return self.take_networks(source);
        }
        let content = source.files.get(thing).with_context(|| format!("there is no {thing}"))?;
        let (dir, mode) = if thing == BLADE { (&self.blade, 0o640) } else { (&self.setup, 0o600) };
        let path = dir.join(thing);
        if fs::read(&path).is_ok_and(|old| old == *content) {
            return Ok(false);
        }
        self.verify(source, thing)?;
        let text = || std::str::from_utf8(content).context("it is not text (UTF-8)");
        match thing {
            BLADE => drop(Config::parse(Path::new(BLADE), text()?)?),
            AUTHORIZED_KEYS => drop(public_keys::check(text()?).map_err(anyhow::Error::msg)?),
            _ => drop(PublicKey::decode(text()?).context("it is no public key of minisign's")?),
        }
        replace(&path, content, mode).with_context(is_full)?;
        if thing == BLADE
            && let Some(group) = Group::from_name("fanblade")?
        {
            // The blade reads it as this group.
            chown(&path, None, Some(group.gid)).with_context(|| format!("giving {} to the blade", path.display()))?;
        }
        Ok(true)
    }

    /// A source with addresses replaces all of them.
    fn take_networks(&self, source: &Source) -> anyhow::Result<bool> {
        let mut new = source.files.clone();
        new.retain(|name, _| name.ends_with(NETWORK));
        if new == self.networks()? {
            return Ok(false);
        }
        for (name, content) in &new {
            self.verify(source, name)?;
            if !network::is_name(name) {
                bail!("{name:?}: a name may have letters, digits, dots and dashes");
            }
            let text = std::str::from_utf8(content).with_context(|| format!("{name} is not text (UTF-8)"))?;
            network::check(text).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        }
        let (dir, unfinished) = (self.setup.join("network"), self.setup.join("network.new"));
        let write = || -> anyhow::Result<()> {
            let _ = fs::remove_dir_all(&unfinished);
            for (name, content) in &new {
                replace(&unfinished.join(name), content, 0o644)?;
            }
            fs::create_dir_all(&dir)?;
            // Both exist, and change places at once.
            renameat2(AT_FDCWD, &unfinished, AT_FDCWD, &dir, RenameFlags::RENAME_EXCHANGE)?;
            fs::File::open(&self.setup)?.sync_all()?;
            Ok(())
        };
        let written = write().with_context(is_full);
        let _ = fs::remove_dir_all(&unfinished);
        written?;
        Ok(true)
    }

    /// Those that are kept, by name.
    fn networks(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let dir = self.setup.join("network");
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(BTreeMap::new()) };
        entries
            .map(|entry| {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok((name, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?))
            })
            .collect()
    }

    /// Lets networkd see the addresses that are kept. Of several files for one card the first one by name counts: these
    /// stand before the image's own.
    pub(super) fn link_networks(&self) -> anyhow::Result<()> {
        const PREFIX: &str = "10-fanblade-";
        let cannot = || format!("cannot write to {}", self.networkd.display());
        fs::create_dir_all(&self.networkd).with_context(cannot)?;
        for entry in fs::read_dir(&self.networkd).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
                fs::remove_file(&path).with_context(cannot)?;
            }
        }
        for (name, content) in self.networks()? {
            // networkd reads them as a user of its own.
            replace(&self.networkd.join(format!("{PREFIX}{name}")), &content, 0o644)?;
        }
        Ok(())
    }

    /// # Errors
    /// The file must be signed, and is not, or otherwise.
    fn verify(&self, source: &Source, name: &str) -> anyhow::Result<()> {
        // The image's key counts before one that was given later.
        let keys = [self.image.join(KEY), self.setup.join(KEY)];
        let Some(key) = keys.iter().find(|key| key.exists()).filter(|_| source.is_stick) else { return Ok(()) };
        let public = signing::public_key(key)?;
        let content = source.files.get(name).with_context(|| format!("there is no {name}"))?;
        let signature_name = format!("{name}{SIGNATURE}");
        let signature = source.files.get(&signature_name).with_context(|| {
            format!("{name} is not signed: {signature_name} is missing, and this blade takes only what the key {} has signed", key.display())
        })?;
        let signature = signing::signature(&String::from_utf8_lossy(signature), &signature_name)?;
        public.verify(content, &signature, false).with_context(|| signing::refused(name, key))
    }
}

/// What most often keeps a file from being written.
fn is_full() -> &'static str {
    "the state partition takes no file; `df /var` says whether it is full, `dmesg` whether the disk is broken"
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        dir: tempfile::TempDir,
        place: Place,
    }

    impl Machine {
        fn new() -> Machine {
            let dir = tempfile::tempdir().unwrap();
            let [blade, setup, image, networkd] =
                ["blade", "setup", "image", "networkd"].map(|name| dir.path().join(name));
            fs::create_dir(&image).unwrap();
            Machine { dir, place: Place { blade, setup, image, networkd } }
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.dir.path().join(path)).ok()
        }

        /// The report's lines.
        fn take(&self, sources: &[Source]) -> String {
            let report = self.place.take(sources);
            self.place.link_networks().unwrap();
            report.lines.join("\n")
        }
    }

    fn source(is_stick: bool, files: &[(&str, &str)]) -> Source {
        let files = files.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect();
        Source { name: if is_stick { "the stick" } else { "credentials" }, is_stick, files }
    }

    const GOOD: &str = "[log]\nlevel = \"debug\"\n";
    const STATIC: &str = "[Match]\nType=ether\n[Network]\nAddress=10.0.0.2/24\n";

    #[test]
    fn the_stick_counts_before_credentials_and_a_wrong_file_changes_nothing() {
        let machine = Machine::new();
        assert_eq!(machine.take(&[]), "");
        let credentials = || source(false, &[("fanblade.toml", "[log]\nlevel = \"warn\"\n"), ("a.network", STATIC)]);
        assert_eq!(
            machine.take(&[source(true, &[("fanblade.toml", GOOD)]), credentials()]),
            "fanblade.toml taken from the stick\nthe addresses (*.network) taken from credentials"
        );
        assert_eq!(machine.read("blade/fanblade.toml").as_deref(), Some(GOOD));
        assert_eq!(machine.read("networkd/10-fanblade-a.network").as_deref(), Some(STATIC));
        assert_eq!(machine.take(&[source(true, &[("fanblade.toml", GOOD)])]), "", "the same: nothing happens");

        let wrong =
            [("fanblade.toml", "[data]\nlisen = 7\n"), ("b.network", "[Match]\nhello\n"), ("authorized_keys", "x")];
        let said = machine.take(&[source(true, &wrong), credentials()]);
        assert!(said.contains("fanblade.toml:2:1: unknown field `lisen`"), "{said}");
        assert!(said.contains("b.network: line 2") && said.contains("line 1: it does not begin"), "{said}");
        assert_eq!(machine.read("blade/fanblade.toml").as_deref(), Some(GOOD), "the old one stays");
        assert_eq!(machine.read("networkd/10-fanblade-a.network").as_deref(), Some(STATIC));
        assert_eq!(machine.read("setup/authorized_keys"), None);

        machine.take(&[source(true, &[("c.network", STATIC)])]);
        assert_eq!(machine.read("networkd/10-fanblade-a.network"), None, "a source replaces all addresses");
        assert_eq!(machine.read("networkd/10-fanblade-c.network").as_deref(), Some(STATIC));
        assert_eq!(machine.read("setup/network.new"), None);
    }

    #[test]
    fn where_nothing_can_be_written_the_old_one_stays() {
        let machine = Machine::new();
        machine.take(&[source(true, &[("fanblade.toml", GOOD)])]);
        // A directory in its place: also root cannot write there.
        fs::create_dir(machine.dir.path().join("blade/fanblade.toml.new")).unwrap();
        let said = machine.take(&[source(true, &[("fanblade.toml", "")])]);
        assert!(said.contains("the state partition takes no file"), "{said}");
        assert_eq!(machine.read("blade/fanblade.toml").as_deref(), Some(GOOD));
    }

    #[test]
    fn where_a_key_is_given_a_stick_must_be_signed_and_credentials_need_not() {
        // What was signed is no TOML, and the signature is looked at first.
        use crate::commands::appliance::signing::example::{KEY as KEY_TEXT, SIGNATURE as SIGNED};
        for place in ["image", "setup"] {
            let machine = Machine::new();
            let said = if place == "setup" {
                machine.take(&[source(true, &[("configuration.pub", KEY_TEXT)])])
            } else {
                fs::write(machine.dir.path().join("image/configuration.pub"), KEY_TEXT).unwrap();
                "configuration.pub taken from the stick".to_owned()
            };
            assert_eq!(said, "configuration.pub taken from the stick");
            let stick = |files: &[(&str, &str)]| machine.take(&[source(true, files)]);
            let said = stick(&[("fanblade.toml", GOOD)]);
            assert!(said.contains("fanblade.toml is not signed: fanblade.toml.minisig is missing"), "{said}");
            let said = stick(&[("fanblade.toml", GOOD), ("fanblade.toml.minisig", SIGNED)]);
            assert!(said.contains("fanblade.toml is not as it was signed"), "{said}");
            let said = stick(&[("fanblade.toml", "an update\n"), ("fanblade.toml.minisig", SIGNED)]);
            assert!(said.contains("fanblade.toml:1:"), "the signature holds, the text is wrong: {said}");
            let said = stick(&[("a.network", STATIC), ("authorized_keys", ""), ("configuration.pub", KEY_TEXT)]);
            // The key that is there already is no change.
            assert_eq!(said.matches("is not signed").count(), if place == "image" { 3 } else { 2 }, "{said}");
            assert_eq!(machine.read("blade/fanblade.toml"), None);
            let said = machine.take(&[source(false, &[("fanblade.toml", GOOD)])]);
            assert_eq!(said, "fanblade.toml taken from credentials");
        }
    }
}
