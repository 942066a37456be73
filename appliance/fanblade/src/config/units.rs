//! Quantities as people write them: `"64MiB"`, `"30s"`, or a plain number in the unit at the end of the key's name.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A number of bytes: `65536`, `"64KiB"`, `"1.5GiB"`, `"10MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// A duration in whole milliseconds: `30000`, `"30s"`, `"250ms"`, `"1.5m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(pub(crate) u64);

impl Bytes {
    /// For sizes in memory.
    pub(crate) fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        scaled(text, BYTE_UNITS)
            .map(Bytes)
            .ok_or_else(|| format!("`{text}` is not a number of bytes; write 65536, \"64KiB\", \"256MiB\" or \"1GiB\""))
    }
}

impl Millis {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        scaled(text, TIME_UNITS).map(Millis).ok_or_else(|| {
            format!("`{text}` is not a duration; write \"250ms\", \"30s\" or \"5m\" (a bare number is ms)")
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (divisor, unit) = match self.0 {
            bytes if bytes >= 1 << 30 && bytes % (1 << 30) == 0 => (1 << 30, "GiB"),
            bytes if bytes >= 1 << 20 => (1 << 20, "MiB"),
            bytes if bytes >= 1 << 10 => (1 << 10, "KiB"),
            _ => (1, "B"),
        };
        write!(f, "{} {unit}", self.0 / divisor)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            what: "a number of bytes, such as 65536 or \"64KiB\"",
            parse: Bytes::parse,
            whole: Bytes,
        })
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            what: "a duration, such as \"30s\" or 30000 (ms)",
            parse: Millis::parse,
            whole: Millis,
        })
    }
}

/// Accepts either spelling of a quantity.
struct Quantity<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
    whole: fn(u64) -> T,
}

impl<T> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        u64::try_from(value)
            .map(self.whole)
            .map_err(|_| E::custom(format!("{value} is negative; expected {}", self.what)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        Ok((self.whole)(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Parses a number, an optional space, and a unit; the number may have a fraction, the result is whole.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).map(|(_, factor)| *factor)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    let whole = |value: f64| value.round() as u64;
    // A quantity with a fraction beyond 2^53 is a mistake rather than a configuration.
    (value.is_finite() && value < (1u64 << 53) as f64).then(|| whole(value))
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

const TIME_UNITS: &[(&str, u64)] =
    &[("", 1), ("ms", 1), ("s", 1_000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_written() {
        assert_eq!(Bytes::parse("64KiB"), Ok(Bytes(65_536)));
        assert_eq!(Bytes::parse("1.5 GiB"), Ok(Bytes(1_610_612_736)));
        assert_eq!(Bytes::parse("10MB"), Ok(Bytes(10_000_000)));
        assert_eq!(Millis::parse("30s"), Ok(Millis(30_000)));
        assert_eq!(Millis::parse("250ms"), Ok(Millis(250)));
        assert_eq!(Millis::parse("1.5m"), Ok(Millis(90_000)));
        for wrong in
            ["", "s", "ten", "10 parsecs", "1..5s", "-3s", "99999999999999999999GiB", "18446744073709551615TiB"]
        {
            assert!(Bytes::parse(wrong).is_err() && Millis::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_read_back_as_people_say_them() {
        assert_eq!(Bytes(1 << 30).to_string(), "1 GiB");
        assert_eq!(Bytes(256 << 20).to_string(), "256 MiB");
        assert_eq!(Bytes(100).to_string(), "100 B");
    }
}
