//! `fanblade update`: puts a signed version into the slot that is not running.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use minisign_verify::{PublicKey, Signature};

use crate::terminal::out;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The update; its signature is expected beside it (FILE.minisig)
    file: PathBuf,
    /// The key that it must be signed by: the one that the running version came with
    #[arg(long, value_name = "FILE", default_value = "/usr/share/fanblade/update.pub")]
    key: PathBuf,
    /// Only say whether the signature is right
    #[arg(long)]
    check: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let mut file = File::open(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    let comment = verify(&mut file, &args.file, &args.key)?;
    out::say(format!("{}: signed by our key, {comment:?}", args.file.display()))?;
    if args.check {
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        Path::new(SYSUPDATE).exists(),
        "{SYSUPDATE} does not exist: this command is for the appliance image, other machines replace the program"
    );
    file.rewind()?;
    let unpacked = Unpacked::new(file)?;
    // The parts of the slot first, the file that the firmware starts last: a boot never finds half a version.
    succeed(Command::new("mount").args(["-o", "remount,rw", ESP]))?;
    let written = succeed(Command::new(SYSUPDATE).args(["--verify=no", "update"]));
    // sysupdate renames the new file into its place, but does not wait for the disk.
    let kept = succeed(Command::new("sync").args(["-f", ESP]));
    // That writes it all, but of vfat only the sync of a directory makes the disk flush it.
    let kept = kept.and_then(|()| succeed(Command::new("sync").arg(UKIS)));
    let _ = succeed(Command::new("mount").args(["-o", "remount,ro", ESP]));
    drop(unpacked);
    written.and(kept)?;
    out::say(
        "The version is on the disk. `systemctl reboot` starts it; if it does not become healthy, the machine goes back by \
         itself.",
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The signature's trusted comment, if `key` made the signature.
fn verify(file: &mut File, path: &Path, key: &Path) -> anyhow::Result<String> {
    let text = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let signature_path = PathBuf::from(format!("{}.minisig", path.display()));
    let public =
        PublicKey::decode(&text(key)?).with_context(|| format!("{} is no key of minisign's", key.display()))?;
    let signature = Signature::decode(&text(&signature_path)?)
        .with_context(|| format!("{} is no signature of minisign's", signature_path.display()))?;
    let refused = || format!("{} is not as it was signed, or not signed by the key {}", path.display(), key.display());
    let mut stream = public.verify_stream(&signature).with_context(refused)?;
    let mut buffer = vec![0; READ_LEN];
    loop {
        let len = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if len == 0 {
            break;
        }
        stream.update(&buffer[..len]);
    }
    stream.finalize().with_context(refused)?;
    Ok(signature.trusted_comment().to_owned())
}

/// The parts of an update, where systemd-sysupdate looks for them; removed when this is dropped.
struct Unpacked;

impl Unpacked {
    fn new(file: File) -> anyhow::Result<Unpacked> {
        let _ = fs::remove_dir_all(PARTS);
        fs::create_dir(PARTS).with_context(|| format!("cannot make {PARTS}: is another update under way?"))?;
        let unpacked = Unpacked;
        succeed(Command::new("tar").args(["-x", "--no-same-owner", "-C", PARTS]).stdin(Stdio::from(file)))?;
        Ok(unpacked)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(PARTS);
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Part of the image; its settings are in /usr/lib/sysupdate.d.
const SYSUPDATE: &str = "/usr/lib/systemd/systemd-sysupdate";
/// What those settings name as the source. In memory.
const PARTS: &str = "/run/fanblade-update";
/// Where the image mounts the EFI system partition.
const ESP: &str = "/efi";
/// Where systemd-boot looks for versions.
const UKIS: &str = "/efi/EFI/Linux";
const READ_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_key_has_signed_is_taken() {
        // Made by `minisign -G -W` and `minisign -S -t 'fanblade 0.1.0'`.
        const KEY: &str = "untrusted comment: minisign public key A1CFB0526CA37842\n\
            RWRCeKNsUrDPoaA2KfwM2rtO69N1tMITacayCaxoKfDLGMoaRW0u8WKr\n";
        const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
            RURCeKNsUrDPoUlrx2guaB6XHHTQHEw02BNcHBRJsJ+Rcbfw/gzvJkQEOZh9ubzeTr2HcAu1ZnVzBtdIj7dsJl6yS/6se3R+Vgo=\n\
            trusted comment: fanblade 0.1.0\n\
            sjHdAi/Kj1cjUnOtLeaRc6nj6k905lVOGSN6AWP7Ul6pHoMdgfwD5A/zkqrPgc2qbWUWm7Qg5M1HYJnplkFmCg==\n";
        let dir = tempfile::tempdir().unwrap();
        let [update, key] = ["fanblade.update", "update.pub"].map(|name| dir.path().join(name));
        fs::write(&key, KEY).unwrap();
        fs::write(dir.path().join("fanblade.update.minisig"), SIGNATURE).unwrap();
        let check = |content: &str| {
            fs::write(&update, content).unwrap();
            verify(&mut File::open(&update).unwrap(), &update, &key)
        };
        assert_eq!(check("an update\n").unwrap(), "fanblade 0.1.0");
        for other in ["An update\n", "an update\nand more\n", ""] {
            let error = format!("{:#}", check(other).unwrap_err());
            assert!(error.contains("is not as it was signed"), "{error}");
        }
        fs::remove_file(dir.path().join("fanblade.update.minisig")).unwrap();
        assert!(format!("{:#}", check("an update\n").unwrap_err()).contains("fanblade.update.minisig"));
    }
}
