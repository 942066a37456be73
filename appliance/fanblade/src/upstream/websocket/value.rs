//! JSON values as text, and what they mean.

use std::borrow::Cow;

use jiff::Timestamp;

/// How a venue writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TimeFormat {
    /// `2026-01-31T09:30:00.123456Z`, also with another offset.
    Rfc3339,
    /// Seconds since 1970, also with a fraction.
    S,
    /// Milliseconds since then.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

/// A string's content, or a number, `true` or `false` as it stands. Nothing else has a text.
pub(super) fn text(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => match value.get(1..value.len().checked_sub(1)?)? {
            plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
            // An escaped half of a surrogate pair is JSON, but no text.
            _ => serde_json::from_str(value).ok().map(Cow::Owned),
        },
        b'[' | b'{' | b'n' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

/// A whole number from 0, which venues also write as text.
pub(super) fn number(value: &str) -> Option<u64> {
    unquoted(value).parse().ok()
}

/// A time in Unix nanoseconds.
pub(super) fn time_ns(value: &str, format: TimeFormat) -> Option<u64> {
    let text = unquoted(value);
    let scale = match format {
        TimeFormat::Rfc3339 => {
            return text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok());
        }
        TimeFormat::S => 9,
        TimeFormat::Ms => 6,
        TimeFormat::Us => 3,
        TimeFormat::Ns => 0,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut ns = whole.parse::<u64>().ok()?;
    let mut digits = fraction.bytes();
    for _ in 0..scale {
        let digit = digits.next().map_or(0, |digit| u64::from(digit - b'0'));
        ns = ns.checked_mul(10)?.checked_add(digit)?;
    }
    Some(ns)
}

/// How deep the arrays and objects of `text` are nested. It need not be JSON.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut is_string, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        if is_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => is_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The beginning of a text from outside, fit for one line of a log.
pub(super) fn excerpt(text: &str, len_max: usize) -> String {
    let mut end = text.len().min(len_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "…" } else { "" };
    let line: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line + cut
}

/// Without quotes, if it has any. Escapes stay, as no number has one.
pub(super) fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_all_kinds() {
        let same = 1_696_613_755_440_295_000;
        let table = [
            (r#""2023-10-06T17:35:55.440295Z""#, TimeFormat::Rfc3339, Some(same)),
            (r#""2023-10-06T19:35:55.440295+02:00""#, TimeFormat::Rfc3339, Some(same)),
            ("1696613755.440295", TimeFormat::S, Some(same)),
            (r#""1696613755.440295""#, TimeFormat::S, Some(same)),
            ("1696613755440", TimeFormat::Ms, Some(1_696_613_755_440_000_000)),
            ("1696613755440.295", TimeFormat::Ms, Some(same)),
            ("1696613755440295", TimeFormat::Us, Some(same)),
            ("1696613755440295000", TimeFormat::Ns, Some(same)),
            ("1696613755.4402950009", TimeFormat::S, Some(same)),
            ("99999999999999999999", TimeFormat::Ns, None),
            ("99999999999999", TimeFormat::S, None),
            ("-1", TimeFormat::S, None),
            ("1e9", TimeFormat::S, None),
            ("1.x", TimeFormat::S, None),
            (r#""noon""#, TimeFormat::Rfc3339, None),
            (r#""1950-01-01T00:00:00Z""#, TimeFormat::Rfc3339, None),
            ("null", TimeFormat::Ms, None),
        ];
        for (text, format, expected) in table {
            assert_eq!(time_ns(text, format), expected, "{text} as {format:?}");
        }
    }

    #[test]
    fn texts_and_numbers() {
        assert_eq!(text(r#""BTC\/USD""#).as_deref(), Some("BTC/USD"));
        assert_eq!(text(r#""BTC""#), Some(Cow::Borrowed("BTC")));
        assert_eq!(text("7").as_deref(), Some("7"));
        assert_eq!(text("true").as_deref(), Some("true"));
        for none in ["null", "[1]", "{}", r#""\ud800""#, ""] {
            assert_eq!(text(none), None, "{none}");
        }
        assert_eq!(number(r#""18446744073709551615""#), Some(u64::MAX));
        for none in ["18446744073709551616", "-1", "1.0", "null", r#""""#] {
            assert_eq!(number(none), None, "{none}");
        }
    }

    #[test]
    fn depth_counts_what_is_no_string() {
        assert_eq!(depth(r#"{"a":[[1]],"b":"[[[[\"[["}"#), 3);
        assert_eq!(depth("7"), 0);
        assert_eq!(depth("]]]["), 1);
    }

    #[test]
    fn an_excerpt_is_one_line() {
        assert_eq!(excerpt("a\nb", 10), "a b");
        assert_eq!(excerpt("aüb", 2), "a…");
    }
}
