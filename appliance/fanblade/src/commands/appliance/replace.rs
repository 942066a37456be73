//! Files that are there whole or not at all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Puts a file in another one's place: a reader finds the old content or the new one, also after a power cut.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let Some(dir) = path.parent() else { bail!("{} is no file", path.display()) };
    let unfinished = path.with_added_extension("new");
    let write = || {
        fs::create_dir_all(dir)?;
        let _ = fs::remove_file(&unfinished);
        // New: a link that somebody else has put there is not followed.
        let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        fs::File::open(dir)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}
