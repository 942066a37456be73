//! Which messages are meant: `{ "/type" = "ticker" }`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::pointer::Pointer;
use super::value;

/// Values that all must be found at their places.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Pattern(pub(super) BTreeMap<Pointer, Expected>);

/// One pattern or a list of them, of which any will do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Patterns(pub(super) Vec<Pattern>);

/// What must stand at a place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// `"*"`: anything but null.
    Any,
    Text(String),
    Number(f64),
    Bool(bool),
}

impl Expected {
    pub(super) fn is(&self, found: Option<&str>) -> bool {
        let Some(found) = found else { return false };
        match self {
            Expected::Any => found != "null",
            Expected::Text(text) => found.starts_with('"') && value::text(found).is_some_and(|found| found == *text),
            Expected::Number(number) => found.parse() == Ok(*number),
            Expected::Bool(expected) => found == if *expected { "true" } else { "false" },
        }
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl Visitor<'_> for Scalar {
            type Value = Expected;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false; \"*\" for anything")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expected, E> {
                Ok(if text == "*" { Expected::Any } else { Expected::Text(text.to_owned()) })
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Expected, E> {
                Ok(Expected::Bool(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Expected, E> {
                Ok(Expected::Number(value as f64))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Expected, E> {
                Ok(Expected::Number(value))
            }
        }

        deserializer.deserialize_any(Scalar)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ \"/pointer\" = value }, or a list of such")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Patterns, A::Error> {
                Pattern::deserialize(MapAccessDeserializer::new(map)).map(|pattern| Patterns(vec![pattern]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Patterns, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Patterns)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let text = Expected::Text("7".to_owned());
        assert!(text.is(Some(r#""7""#)) && text.is(Some(r#""\u0037""#)) && !text.is(Some("7")) && !text.is(None));
        assert!(Expected::Number(7.0).is(Some("7.0")) && !Expected::Number(7.0).is(Some(r#""7""#)));
        assert!(Expected::Bool(false).is(Some("false")) && !Expected::Bool(false).is(Some("null")));
        assert!(Expected::Any.is(Some("0")) && !Expected::Any.is(Some("null")) && !Expected::Any.is(None));
    }
}
