//! Files for systemd-networkd. It ignores what it does not understand and says so in the journal only, so that a file
//! is looked at before it is taken.

/// Whether a name is one that networkd reads, and nothing else.
pub(super) fn is_name(name: &str) -> bool {
    name.strip_suffix(super::sources::NETWORK).is_some_and(|stem| {
        (1..=64).contains(&stem.len())
            && !stem.starts_with('.')
            && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}

/// # Errors
/// A line is no section, key or comment, or what networkd needs is missing. The line is counted from 1.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut sections = Vec::new();
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        let is_continued = std::mem::replace(&mut goes_on, line.ends_with('\\'));
        if is_continued || line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.push(section);
        } else if sections.is_empty() {
            return Err(format!("line {number}: the first line must be a section, such as [Match]"));
        } else if !line
            .split_once('=')
            .is_some_and(|(key, _)| key.trim_end().bytes().all(|byte| byte.is_ascii_alphanumeric()))
        {
            return Err(format!("line {number}: neither a section, such as [Match], nor KEY=VALUE"));
        }
    }
    for needed in ["Match", "Network"] {
        if !sections.contains(&needed) {
            return Err(format!("there is no section [{needed}]"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_networkd_would_not_understand_is_refused() {
        check("# static\n[Match]\nName=eth0\n\n[Network]\nAddress = 10.0.0.2/24\nDNS=10.0.0.1 \\\n  10.0.0.3\n")
            .unwrap();
        for (text, words) in [
            ("", "no section [Match]"),
            ("[Match]\nName=eth0\n", "no section [Network]"),
            ("Name=eth0\n", "line 1: the first line"),
            ("[Match]\nName eth0\n[Network]\n", "line 2"),
            ("[Match\n", "line 1"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(is_name("static.network") && is_name("eth0-a_b.1.network"));
        for name in [".network", "a/b.network", "a.netdev", "..network", "a b.network"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
