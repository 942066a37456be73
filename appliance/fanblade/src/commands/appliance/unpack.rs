//! An update's file: read once, verified and unpacked from the same bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use minisign_verify::StreamVerifier;

use super::signing;
use super::version::Version;

/// Reads the update to its end and returns the version that its signature names. With `parts`, a directory that exists,
/// its parts are written there: they may be used only if this returns no error.
///
/// # Errors
/// The signature does not hold; the content is not the three parts of the version that it names; there is no room.
pub(super) fn read(path: &Path, key: &Path, parts: Option<&Path>) -> anyhow::Result<Version> {
    let public = signing::public_key(key)?;
    let signature_name = format!("{}.minisig", path.display());
    let signature = fs::read_to_string(&signature_name).with_context(|| format!("cannot read {signature_name}"))?;
    let signature = signing::signature(&signature, &signature_name)?;
    let refused = || signing::refused(&path.display().to_string(), key);
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut verified = Verified { file, verifier: public.verify_stream(&signature).with_context(refused)? };
    let names = unpack(&mut verified, parts);
    // What follows the archive was signed, too.
    io::copy(&mut verified, &mut io::sink()).with_context(|| format!("cannot read {}", path.display()))?;
    // A changed file is called that, whatever it has become as an archive.
    verified.verifier.finalize().with_context(refused)?;
    let names = names.with_context(|| format!("cannot unpack {}", path.display()))?;
    let comment = signature.trusted_comment();
    let version = comment.strip_prefix("fanblade ").and_then(|version| version.parse().ok());
    let version = version.with_context(|| format!("its signature is not for an update: it says {comment:?}"))?;
    check_names(&names, version)?;
    Ok(version)
}

/// A file whose bytes are verified as they are read.
struct Verified<'a> {
    file: File,
    verifier: StreamVerifier<'a>,
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buffer)?;
        self.verifier.update(&buffer[..len]);
        Ok(len)
    }
}

/// Returns the names in the archive.
fn unpack(reader: &mut impl Read, parts: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(READ_LEN, reader));
    let mut names = Vec::new();
    // Raw: extensions of the format, which could name or size a file otherwise, are refused like any other odd entry.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        ensure!(
            is_plain && name.starts_with("fanblade_") && entry.header().entry_type() == tar::EntryType::Regular,
            "the entry {name:?} is none of an update's"
        );
        ensure!(
            names.len() < PARTS && !names.contains(&name),
            "an update has {PARTS} parts, this one has {name} as well"
        );
        if let Some(parts) = parts {
            let to = parts.join(&name);
            let mut file = File::create_new(&to).with_context(|| format!("cannot make {}", to.display()))?;
            io::copy(&mut entry, &mut file)
                .and_then(|_| file.flush())
                .with_context(|| format!("cannot write {}", to.display()))?;
        }
        names.push(name);
    }
    Ok(names)
}

/// Exactly the parts of this version: `fanblade_VERSION_UUID.verity`, `fanblade_VERSION_UUID.root`,
/// `fanblade_VERSION.efi`.
fn check_names(names: &[String], version: Version) -> anyhow::Result<()> {
    let is_uuid = |text: &str| {
        text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            })
    };
    for ending in [".verity", ".root", ".efi"] {
        let is_it = |name: &&String| {
            let middle = name.strip_prefix(&format!("fanblade_{version}")).and_then(|rest| rest.strip_suffix(ending));
            match middle {
                Some("") => ending == ".efi",
                Some(middle) => ending != ".efi" && middle.strip_prefix('_').is_some_and(is_uuid),
                None => false,
            }
        };
        if names.iter().filter(is_it).count() != 1 {
            bail!(
                "it is signed as version {version}, but has no part of this version that ends in {ending}: {names:?}"
            );
        }
    }
    ensure!(names.len() == PARTS, "an update has {PARTS} parts, not {}: {names:?}", names.len());
    Ok(())
}

const PARTS: usize = 3;
const READ_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::signing::example::{KEY, SIGNATURE};
    use super::*;

    #[test]
    fn only_what_the_key_has_signed_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let [update, key] = ["fanblade.update", "update.pub"].map(|name| dir.path().join(name));
        fs::write(&key, KEY).unwrap();
        fs::write(dir.path().join("fanblade.update.minisig"), SIGNATURE).unwrap();
        let refused = |content: &str| {
            fs::write(&update, content).unwrap();
            format!("{:#}", read(&update, &key, None).unwrap_err())
        };
        // The signature holds for this text, which is no archive.
        let error = refused("an update\n");
        assert!(error.contains("cannot unpack"), "{error}");
        for other in ["An update\n", "an update\nand more\n", ""] {
            let error = refused(other);
            assert!(error.contains("is not as it was signed"), "{error}");
        }
        fs::remove_file(dir.path().join("fanblade.update.minisig")).unwrap();
        assert!(refused("an update\n").contains("fanblade.update.minisig"));
    }

    const UUID: &str = "0123abcd-0123-0123-0123-0123456789ab";

    #[test]
    fn an_update_has_three_parts_of_the_version_that_is_signed() {
        let check = |names: &[String]| check_names(names, "0.1.2".parse().unwrap()).map_err(|error| error.to_string());
        let good = ["verity", "root"].map(|ending| format!("fanblade_0.1.2_{UUID}.{ending}"));
        let good = [&good[..], &["fanblade_0.1.2.efi".to_owned()]].concat();
        check(&good).unwrap();
        for at in 0..3 {
            let mut other = good.clone();
            other[at] = other[at].replace("0.1.2", "0.1.3");
            assert!(check(&other).unwrap_err().contains("signed as version 0.1.2"));
            other.remove(at);
            assert!(check(&other).is_err(), "one is missing");
            other = good.clone();
            other.push(good[at].clone());
            assert!(check(&other).is_err(), "one is there twice");
            other = good.clone();
            other[at] = other[at].replace(UUID, "").replace(".efi", "+3.efi");
            assert!(check(&other).is_err(), "{other:?}");
        }
        let mut more = good.clone();
        more.push("fanblade_x".to_owned());
        assert!(check(&more).unwrap_err().contains("3 parts, not 4"));
    }

    #[test]
    fn an_odd_archive_is_refused() {
        type Make = fn(&mut tar::Builder<Vec<u8>>);
        fn entry(archive: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str) {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_size(2);
            header.set_cksum();
            archive.append(&header, &b"xy"[..]).unwrap();
        }
        let odd: [Make; 6] = [
            |archive| entry(archive, tar::EntryType::Regular, "../fanblade_x"),
            |archive| entry(archive, tar::EntryType::Regular, "fanblade_/x"),
            |archive| entry(archive, tar::EntryType::Symlink, "fanblade_x"),
            |archive| entry(archive, tar::EntryType::GNULongName, "fanblade_x"),
            |archive| entry(archive, tar::EntryType::Regular, "other"),
            |archive| (0..4).for_each(|number| entry(archive, tar::EntryType::Regular, &format!("fanblade_{number}"))),
        ];
        for (number, make) in odd.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let mut archive = tar::Builder::new(Vec::new());
            make(&mut archive);
            let bytes = archive.into_inner().unwrap();
            assert!(unpack(&mut &bytes[..], Some(dir.path())).is_err(), "number {number}");
            assert!(fs::read_dir(dir.path()).unwrap().count() <= PARTS, "number {number}");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        entry(&mut archive, tar::EntryType::Regular, "fanblade_a");
        entry(&mut archive, tar::EntryType::Regular, "fanblade_b");
        let bytes = archive.into_inner().unwrap();
        assert_eq!(unpack(&mut &bytes[..], Some(dir.path())).unwrap(), ["fanblade_a", "fanblade_b"]);
        assert_eq!(fs::read(dir.path().join("fanblade_b")).unwrap(), b"xy");
    }
}
