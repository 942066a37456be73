//! Files of real market data. They are not part of the project.

use std::path::{Path, PathBuf};

/// A file below the directory that `FANBLADE_DATA` names, else below `shared/data` beside the checkout. If the file
/// does not exist, prints a line that says so and returns `None`.
pub fn real(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FANBLADE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let file = root.join(path);
    if file.is_file() {
        return Some(file);
    }
    println!("skipped: no {} (FANBLADE_DATA names the directory)", file.display());
    None
}
