//! What JSON from outside must obey beyond what serde demands.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::decimal::Decimal;
use crate::limits::JSON_DEPTH_MAX;

/// A `T` that is written as a JSON object, and as nothing else.
///
/// Derived structs also read an array, whose elements they take for their fields by the order in which the fields stand
/// in the source (serde-rs/serde#1587). Where a protocol says "an object", such an array is a mistake that would be
/// obeyed. Wrap every struct that is read from outside in this one, nested ones too. A key that comes twice is an error
/// of the derived struct itself, which stays so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object {…}")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A whole number from 0, as a JSON number or the same in quotes: `7`, `"7"`, `7.0`, `0.7e1`.
#[must_use]
pub fn whole_number(value: &str) -> Option<u64> {
    Decimal::parse(unquoted(value)).ok()?.to_u64()
}

/// Takes off the quotes, if there are any. Escapes stay, as no number has one.
#[must_use]
pub fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// Why JSON is not passed on, although it is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The byte where it begins to be too deep.
    #[error("nested more than {JSON_DEPTH_MAX} deep")]
    Deep(usize),
    /// The byte where there is half of a character: RFC 8259 (8.2) calls what parsers make of it unpredictable.
    #[error("half of a surrogate pair, which is no character")]
    Surrogate(usize),
    /// The byte where a number begins that no double can hold (RFC 8259, 6): some parsers make infinity of it, others
    /// refuse the whole text.
    #[error("a number beyond 1.8e308")]
    Number(usize),
}

impl Unfit {
    /// Where it is, in bytes from the beginning.
    #[must_use]
    pub fn offset(&self) -> usize {
        match self {
            Unfit::Deep(offset) | Unfit::Surrogate(offset) | Unfit::Number(offset) => *offset,
        }
    }
}

/// Can any parser be expected to survive this JSON? It need not be JSON: that is for a parser to say.
pub fn check_fit(text: &str) -> Result<(), Unfit> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1)?,
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(Unfit::Deep(at));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => {
                let len = number_len(&bytes[at..]);
                if is_beyond_doubles(&text[at..at + len]) {
                    return Err(Unfit::Number(at));
                }
                at += len - 1;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Where the quote is that ends a string. `at`: the first byte within it.
fn string_end(bytes: &[u8], mut at: usize) -> Result<usize, Unfit> {
    while let Some(next) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += next;
        if bytes[at] == b'"' {
            return Ok(at);
        }
        at += match (escaped_unit(bytes, at), escaped_unit(bytes, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => return Err(Unfit::Surrogate(at)),
            _ => 2,
        };
    }
    Ok(bytes.len())
}

/// The length of what begins like a number: all bytes that a number can have.
fn number_len(bytes: &[u8]) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    bytes.iter().position(|byte| !is_part(byte)).unwrap_or(bytes.len())
}

/// Only an exponent or very many digits can lead so far. A parser refuses what is no number.
fn is_beyond_doubles(number: &str) -> bool {
    let may_be = number.len() > f64::MAX_10_EXP as usize || number.contains(['e', 'E']);
    may_be && number.parse().is_ok_and(f64::is_infinite)
}

/// The UTF-16 unit of an escape `\uXXXX` at this place.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow, default)]
        raw: Option<&'a RawValue>,
        #[serde(default)]
        inner: Option<Object<Inner>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        seq: u64,
    }

    fn read(text: &str) -> Result<Outer<'_>, String> {
        serde_json::from_str::<Object<Outer<'_>>>(text).map(|outer| outer.0).map_err(|error| error.to_string())
    }

    #[test]
    fn an_object_is_read_without_copies() {
        let text = r#" {"raw":[1, {"x":2}],"name":"a","inner":{"seq":7}} "#;
        let outer = read(text).unwrap();
        assert!(matches!(outer.name, Cow::Borrowed("a")));
        assert_eq!(outer.raw.map(RawValue::get), Some(r#"[1, {"x":2}]"#));
        assert_eq!(outer.inner.map(|inner| inner.0.seq), Some(7));
        assert!(read(r#"{"name":"a","inner":null}"#).unwrap().inner.is_none());
    }

    #[test]
    fn what_is_no_object_is_refused_at_every_depth() {
        for (text, part) in [
            (r#"["a",null,{"seq":7}]"#, "expected an object"),
            (r#"{"name":"a","inner":[7]}"#, "expected an object"),
            (r#""a""#, "expected an object"),
            ("7", "expected an object"),
            ("null", "expected an object"),
            (r#"{"name":"a","name":"b"}"#, "duplicate field `name`"),
            (r#"{"name":"a","inner":{"seq":1,"seq":1}}"#, "duplicate field `seq`"),
            (r#"{"name":"a","nam":1}"#, "unknown field `nam`"),
            (r#"{"name":"a"} {}"#, "trailing characters"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part) && error.contains(" at line 1 column "), "{text}: {error}");
        }
    }

    #[test]
    fn whole_numbers_with_and_without_quotes() {
        for same in ["7", r#""7""#, "7.0", "0.7e1", r#""+07""#] {
            assert_eq!(whole_number(same), Some(7), "{same}");
        }
        assert_eq!(whole_number(r#""18446744073709551615""#), Some(u64::MAX));
        for none in ["18446744073709551616", "-1", "1.5", "1e-1", "null", r#""""#, "\"", "[7]", "true"] {
            assert_eq!(whole_number(none), None, "{none}");
        }
    }

    #[test]
    fn what_parsers_may_not_survive_is_unfit() {
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check_fit(&deep(JSON_DEPTH_MAX)), Ok(()));
        assert_eq!(check_fit(&deep(JSON_DEPTH_MAX + 1)), Err(Unfit::Deep(JSON_DEPTH_MAX)));
        assert_eq!(check_fit(&"{\"a\":[".repeat(33)), Err(Unfit::Deep(32 * 6)));
        // Brackets in strings, whatever is escaped there; and one after the other.
        assert_eq!(check_fit(&format!(r#"["{}","\\","\"{}"]"#, "[".repeat(100), "{".repeat(100))), Ok(()));
        assert_eq!(check_fit(&"[]".repeat(1_000)), Ok(()));
        for fit in
            [r#""\ud83d\ude00""#, r#""\uD83D\uDE00\u0000\n""#, r#""\\ud800""#, "\"\\", "\"", "]]]", "", r#""\u12"#]
        {
            assert_eq!(check_fit(fit), Ok(()), "{fit}");
        }
        for (lone, at) in [
            (r#""\ud800""#, 1),
            (r#"{"a\udc00":1}"#, 3),
            (r#"["\ud83dx\ude00"]"#, 2),
            (r#""\ud800\ud800\udc00""#, 1),
            (r#""\\\uDFFF""#, 3),
            (r#""\ud83d\n""#, 1),
        ] {
            assert_eq!(check_fit(lone), Err(Unfit::Surrogate(at)), "{lone}");
        }
        let digits = |count: usize| format!("[1,-{}]", "9".repeat(count));
        for fit in ["1.7e308", "-1.7E+308", "1e-5000", "[0.1,2]", r#""1e999""#, "0e999", &digits(308)] {
            assert_eq!(check_fit(fit), Ok(()), "{fit}");
        }
        for (huge, at) in
            [("1.8e308", 0), (r#"{"x":[1,-2.5E+1000]}"#, 8), ("1e99999999999999999999", 0), (&digits(400), 3)]
        {
            assert_eq!(check_fit(huge), Err(Unfit::Number(at)), "{huge}");
        }
    }

    proptest::proptest! {
        /// What is fit, serde_json reads into a value, if it is JSON at all.
        #[test]
        fn what_is_fit_and_json_is_read(text in r#"["\[{}\],:0-9a-f\\ud]{0,24}"#) {
            let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
            if is_json && check_fit(&text).is_ok() {
                let value = serde_json::from_str::<serde_json::Value>(&text);
                let is_far = value.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
                proptest::prop_assert!(value.is_ok() || is_far, "{}", text);
            }
        }
    }
}
