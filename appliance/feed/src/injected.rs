//! Panics on demand, for tests of what follows from one. Debug builds only: where the environment names a directory in
//! `FANBLADE_INJECT`, a file in it that is called like a thread is taken away, and that thread panics. A release build
//! has none of this, and no peer can reach it in any build.

#[cfg(debug_assertions)]
use std::{path::PathBuf, sync::LazyLock};

/// Panics if that was asked of `name`.
///
/// # Panics
/// If it was asked.
pub fn panic_if_asked(name: &str) {
    assert!(!is_asked(name), "injected into {name}");
}

/// Was it asked of `name`? Once.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_asked(name: &str) -> bool {
    DIRECTORY.as_ref().is_some_and(|directory| std::fs::remove_file(directory.join(name)).is_ok())
}

#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_asked(_name: &str) -> bool {
    false
}

#[cfg(debug_assertions)]
static DIRECTORY: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("FANBLADE_INJECT").map(PathBuf::from));
