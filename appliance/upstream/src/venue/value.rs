//! JSON values as text, and their meaning.

use std::borrow::Cow;

use fanblade_wire::UnixNs;
use fanblade_wire::decimal::Decimal;
use jiff::Timestamp;

pub(super) use fanblade_wire::json::{check_fit, unquoted, whole_number as number};

/// How a venue writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// `2026-01-31T09:30:00.123456Z`, also with another offset.
    Rfc3339,
    /// Seconds since 1970, also with a fraction.
    S,
    /// Milliseconds since 1970.
    Ms,
    /// Microseconds since 1970.
    Us,
    /// Nanoseconds since 1970.
    Ns,
}

/// A string's content, or a number, `true` or `false` as written. Other values have no text.
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

/// A moment.
pub(super) fn time_ns(value: &str, format: TimeFormat) -> Option<UnixNs> {
    let text = unquoted(value);
    let places = match format {
        TimeFormat::Rfc3339 => return rfc3339_ns(text),
        TimeFormat::S => 9,
        TimeFormat::Ms => 6,
        TimeFormat::Us => 3,
        TimeFormat::Ns => 0,
    };
    Decimal::parse(text).ok()?.scaled_to_u64(places).map(UnixNs)
}

/// RFC 3339 allows any number of decimals, and a 61st second; the library takes nine decimals, and 60 seconds.
fn rfc3339_ns(text: &str) -> Option<UnixNs> {
    let mut text = Cow::Borrowed(text);
    if let Some(point) = text.find('.') {
        let digits = text[point + 1..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > NANOSECOND_DIGITS {
            text.to_mut().replace_range(point + 1 + NANOSECOND_DIGITS..point + 1 + digits, "");
        }
    }
    let leap = if text.get(SECONDS) == Some("60") {
        // Unix time has no number for a leap second except that of the second after it.
        text.to_mut().replace_range(SECONDS, "59");
        1_000_000_000
    } else {
        0
    };
    let time = text.parse::<Timestamp>().ok()?;
    u64::try_from(time.as_nanosecond()).ok()?.checked_add(leap).map(UnixNs)
}

const NANOSECOND_DIGITS: usize = 9;
/// The place of the seconds in `2016-12-31T23:59:60Z`.
const SECONDS: std::ops::Range<usize> = 17..19;

/// The beginning of an untrusted text, made safe for one line of a log.
pub(super) fn excerpt(text: &str, len_max: usize) -> String {
    let mut end = text.len().min(len_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "…" } else { "" };
    let line: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line + cut
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
            ("1e9", TimeFormat::S, Some(1_000_000_000_000_000_000)),
            ("1.7e12", TimeFormat::Ms, Some(1_700_000_000_000_000_000)),
            (r#""1.696613755440295E+15""#, TimeFormat::Us, Some(same)),
            ("1696613755440.2950009999999999999999", TimeFormat::Ms, Some(same)),
            ("1e999", TimeFormat::S, None),
            (r#""2023-10-06T17:35:55.440295000999999999999Z""#, TimeFormat::Rfc3339, Some(same)),
            (r#""2023-10-06T17:35:55.440295000999999999999-00:00""#, TimeFormat::Rfc3339, Some(same)),
            (r#""2023-10-06t17:35:55.440295z""#, TimeFormat::Rfc3339, Some(same)),
            (r#""2023-10-07T00:05:55.440295+06:30""#, TimeFormat::Rfc3339, Some(same)),
            (r#""2016-12-31T23:59:60Z""#, TimeFormat::Rfc3339, Some(1_483_228_800_000_000_000)),
            (r#""2016-12-31T23:59:60.25Z""#, TimeFormat::Rfc3339, Some(1_483_228_800_250_000_000)),
            (r#""2017-01-01T02:59:60.5+03:00""#, TimeFormat::Rfc3339, Some(1_483_228_800_500_000_000)),
            (r#""2016-12-31T23:59:61Z""#, TimeFormat::Rfc3339, None),
            (r#""2016-12-31T23:59:59""#, TimeFormat::Rfc3339, None),
            (r#""2016-12-31T23:59:59.Z""#, TimeFormat::Rfc3339, None),
            (r#""2016-12-31T23:59:6éZ""#, TimeFormat::Rfc3339, None),
            ("1.x", TimeFormat::S, None),
            (r#""noon""#, TimeFormat::Rfc3339, None),
            (r#""1950-01-01T00:00:00Z""#, TimeFormat::Rfc3339, None),
            ("null", TimeFormat::Ms, None),
        ];
        for (text, format, expected) in table {
            assert_eq!(time_ns(text, format), expected.map(UnixNs), "{text} as {format:?}");
        }
    }

    #[test]
    fn texts() {
        assert_eq!(text(r#""BTC\/USD""#).as_deref(), Some("BTC/USD"));
        assert_eq!(text(r#""BTC""#), Some(Cow::Borrowed("BTC")));
        assert_eq!(text("7").as_deref(), Some("7"));
        assert_eq!(text("true").as_deref(), Some("true"));
        for none in ["null", "[1]", "{}", r#""\ud800""#, ""] {
            assert_eq!(text(none), None, "{none}");
        }
    }

    #[test]
    fn an_excerpt_is_one_line() {
        assert_eq!(excerpt("a\nb", 10), "a b");
        assert_eq!(excerpt("aüb", 2), "a…");
    }
}
