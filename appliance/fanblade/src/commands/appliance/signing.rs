//! minisign's keys and signatures, and what is said where one does not hold.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use minisign_verify::{PublicKey, Signature};

/// The public key in a file.
pub(super) fn public_key(file: &Path) -> anyhow::Result<PublicKey> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    PublicKey::decode(&text).with_context(|| format!("{} is no key of minisign's", file.display()))
}

/// `name`: of the file that holds the signature.
pub(super) fn signature(text: &str, name: &str) -> anyhow::Result<Signature> {
    Signature::decode(text).with_context(|| format!("{name} is no signature of minisign's"))
}

/// Of something with this name, by the key in this file.
pub(super) fn refused(name: &str, key: &Path) -> String {
    format!("{name} is not as it was signed, or not signed by the key {}", key.display())
}

/// Made by `minisign -G -W` and `minisign -S -t 'fanblade 0.1.0'`, of the text "an update\n".
#[cfg(test)]
pub(super) mod example {
    pub(in super::super) const KEY: &str = "untrusted comment: minisign public key A1CFB0526CA37842\n\
        RWRCeKNsUrDPoaA2KfwM2rtO69N1tMITacayCaxoKfDLGMoaRW0u8WKr\n";
    pub(in super::super) const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\n\
        RURCeKNsUrDPoUlrx2guaB6XHHTQHEw02BNcHBRJsJ+Rcbfw/gzvJkQEOZh9ubzeTr2HcAu1ZnVzBtdIj7dsJl6yS/6se3R+Vgo=\n\
        trusted comment: fanblade 0.1.0\n\
        sjHdAi/Kj1cjUnOtLeaRc6nj6k905lVOGSN6AWP7Ul6pHoMdgfwD5A/zkqrPgc2qbWUWm7Qg5M1HYJnplkFmCg==\n";
}
