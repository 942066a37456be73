//! The exceptions that xtask/tidy.toml grants.

use anyhow::Context as _;
use serde::Deserialize;

use super::tree::Tree;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Exceptions {
    /// Files that may say `unsafe`.
    #[serde(rename = "unsafe")]
    pub(super) unsafety: Vec<Exception>,
    /// Files that may be longer than others.
    pub(super) long: Vec<Exception>,
    /// Folders of crates whose files may import in circles.
    pub(super) circles: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exception {
    pub(super) file: String,
    #[expect(dead_code, reason = "for people; that it stands there is checked by reading it")]
    pub(super) reason: String,
}

impl Exceptions {
    pub(super) const PATH: &str = "xtask/tidy.toml";

    pub(super) fn of(tree: &Tree) -> anyhow::Result<Exceptions> {
        let text = tree.file(Self::PATH).and_then(|file| file.text()).with_context(|| format!("no {}", Self::PATH))?;
        toml::from_str(text).with_context(|| format!("reading {}", Self::PATH))
    }
}

#[cfg(test)]
impl Exception {
    pub(super) fn for_file(file: &str) -> Exception {
        Exception { file: file.to_owned(), reason: "for the test".to_owned() }
    }
}
