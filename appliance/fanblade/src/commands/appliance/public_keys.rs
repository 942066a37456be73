//! SSH's `authorized_keys`: who may log in.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// How many keys a text has.
///
/// # Errors
/// A line is no key. The line is counted from 1. Options before the key are refused: of some of them a mistake lets in
/// more than was meant.
pub(super) fn check(text: &str) -> Result<usize, String> {
    let mut count = 0;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !KINDS.contains(&kind) {
            return Err(format!(
                "line {number}: it does not begin with the kind of a key, such as {}; options are not taken",
                KINDS[0]
            ));
        }
        let bytes = BASE64_STANDARD
            .decode(key)
            .map_err(|error| format!("line {number}: the key is cut or changed: {error}"))?;
        // The key begins with the length of its kind, and its kind.
        let named = bytes.split_first_chunk().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
            (rest.len() > len).then(|| rest.get(..len)).flatten()
        });
        if named != Some(kind.as_bytes()) {
            return Err(format!("line {number}: the key is not of the kind {kind}"));
        }
        count += 1;
    }
    Ok(count)
}

/// What the image's sshd takes.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519`.
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHn0Tl0Ym1p4wq2kLwzYFvF0S9nV0v2cX8fJr1m8E1Zk";

    #[test]
    fn a_text_with_anything_but_keys_is_refused() {
        assert_eq!(check(&format!("# us\n\n{KEY} me@here\n{KEY}\n")), Ok(2));
        assert_eq!(check(""), Ok(0));
        for (text, words) in [
            (format!("{KEY}\nhello\n"), "line 2: it does not begin with the kind"),
            (format!("command=\"sh\" {KEY}"), "options are not taken"),
            (KEY.replace("AAAAC3", "AAAA!3"), "line 1: the key is cut or changed"),
            (KEY.replacen("ssh-ed25519", "ssh-rsa", 1), "not of the kind ssh-rsa"),
            ("ssh-ed25519".to_owned(), "not of the kind ssh-ed25519"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "line 1"),
        ] {
            let error = check(&text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
