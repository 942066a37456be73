//! Subjects and the patterns that select them (docs/PROTOCOL.md, "Subjects"): the grammar that configuration, feeds and
//! subscribers share.

pub use crate::limits::{SEGMENTS_MAX, SEGMENTS_MIN, SUBJECT_LEN_MAX};

/// Why a subject or pattern is not one. The text goes to the client in an `error` reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It does not begin with `/`.
    #[error("a subject begins with '/'")]
    NoSlash,
    /// Longer than [`SUBJECT_LEN_MAX`].
    #[error("a subject has at most {} bytes", SUBJECT_LEN_MAX)]
    TooLong,
    /// Fewer than [`SEGMENTS_MIN`] or more than [`SEGMENTS_MAX`] segments.
    #[error("a subject has {} to {} segments", SEGMENTS_MIN, SEGMENTS_MAX)]
    Segments,
    /// Two slashes in a row, or one at the end.
    #[error("a segment is empty")]
    EmptySegment,
    /// Something that is not printable ASCII.
    #[error("a subject is printable ASCII")]
    NotPrintable,
    /// `**` elsewhere than in the last place.
    #[error("'**' may only be the last segment")]
    RestNotLast,
    /// A star beside other characters, which would look like a pattern and select nothing.
    #[error("'*' stands for a whole segment, and cannot be a part of one")]
    StarWithin,
}

/// Is `text` a subject or pattern? A pattern's `*` stands for one segment, its `**` for one or more.
///
/// # Errors
/// What is wrong with it.
pub fn check(text: &str) -> Result<(), SubjectError> {
    if text.len() > SUBJECT_LEN_MAX {
        return Err(SubjectError::TooLong);
    }
    let Some(rest) = text.strip_prefix('/') else { return Err(SubjectError::NoSlash) };
    if !rest.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Err(SubjectError::NotPrintable);
    }
    let mut count = 0;
    let mut rest_seen = false;
    for segment in rest.split('/') {
        if segment.is_empty() {
            return Err(SubjectError::EmptySegment);
        }
        if rest_seen {
            return Err(SubjectError::RestNotLast);
        }
        if segment.contains('*') && !matches!(segment, "*" | "**") {
            return Err(SubjectError::StarWithin);
        }
        rest_seen = segment == "**";
        count += 1;
    }
    if count > SEGMENTS_MAX || (count < SEGMENTS_MIN && !rest_seen) {
        return Err(SubjectError::Segments);
    }
    Ok(())
}

/// Has `text` a wildcard segment?
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.split('/').any(|segment| segment == "*" || segment == "**")
}

/// Does `pattern` select `subject`? Both have passed [`check`]; linear in their lengths.
#[must_use]
#[inline]
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject_segments = subject.split('/');
    let mut pattern_segments = pattern.split('/');
    loop {
        match (pattern_segments.next(), subject_segments.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_checked() {
        for good in [
            "/NASDAQ/AAPL/bbo",
            "/a/b",
            "/NASDAQ/*/trade",
            "/NASDAQ/**",
            "/**",
            "/a/b/c/d/e/f/g/h",
            "/X/A.B=#/q",
            "/*/*",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", SubjectError::NoSlash),
            ("NASDAQ/AAPL", SubjectError::NoSlash),
            ("/", SubjectError::EmptySegment),
            ("/a", SubjectError::Segments),
            ("/a//b", SubjectError::EmptySegment),
            ("/a/b/", SubjectError::EmptySegment),
            ("/a/b/c/d/e/f/g/h/i", SubjectError::Segments),
            ("/a/**/b", SubjectError::RestNotLast),
            ("/a/**/**", SubjectError::RestNotLast),
            ("/**/b", SubjectError::RestNotLast),
            ("/a/AA*/b", SubjectError::StarWithin),
            ("/a/*AA/b", SubjectError::StarWithin),
            ("/a/A*A", SubjectError::StarWithin),
            ("/a/b**", SubjectError::StarWithin),
            ("/a/***", SubjectError::StarWithin),
            ("/a*/b", SubjectError::StarWithin),
            ("/a/b\u{7f}", SubjectError::NotPrintable),
            ("/a/é", SubjectError::NotPrintable),
        ] {
            assert_eq!(check(bad), Err(why), "{bad}");
        }
        assert_eq!(check(&format!("/a/{}", "b".repeat(126))), Err(SubjectError::TooLong));
    }

    #[test]
    fn patterns_select() {
        for (pattern, subject, selected) in [
            ("/NASDAQ/AAPL/bbo", "/NASDAQ/AAPL/bbo", true),
            ("/NASDAQ/AAPL/bbo", "/NASDAQ/AAPL/bboo", false),
            ("/NASDAQ/*/bbo", "/NASDAQ/AAPL/bbo", true),
            ("/NASDAQ/*/bbo", "/NASDAQ/AAPL/trade", false),
            ("/NASDAQ/*", "/NASDAQ/AAPL/trade", false),
            ("/NASDAQ/**", "/NASDAQ/AAPL/trade", true),
            ("/NASDAQ/**", "/NASDAQ", false),
            ("/**", "/x/y", true),
        ] {
            assert_eq!(matches(pattern, subject), selected, "{pattern} {subject}");
        }
    }
}
