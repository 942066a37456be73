//! Versions of the image: three numbers.

use std::fmt;
use std::str::FromStr;

/// As `cargo xtask image` gives it. Ordered by the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u32; 3]);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Version, VersionError> {
        let number = |part: &str| {
            let is_plain = (1..=5).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            // "01" and "1" would be the same version under two names.
            (is_plain && (part == "0" || !part.starts_with('0'))).then(|| part.parse().ok()).flatten()
        };
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        numbers.and_then(|numbers| numbers.try_into().ok()).map(Version).ok_or_else(|| VersionError(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a version; versions are three numbers, such as 1.2.3")]
pub(super) struct VersionError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("0.10.0") > version("0.9.9") && version("1.0.0") > version("0.99999.0"));
        assert_eq!(version("10.20.30").to_string(), "10.20.30");
        for bad in ["", "1.2", "1.2.3.4", "1.2.x", "1..3", "1.2.-3", "1.2.+3", "1.2.03", "1.2.3 ", "1.2.123456"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
