//! Patterns that select messages: `{ "/type" = "ticker" }`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use fanblade_wire::decimal::Decimal;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::pointer::Place;
use super::value;

/// Places and values: a message matches if it has each value at its place.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub struct Pattern(pub(super) BTreeMap<Place, Expected>);

/// A pattern, or a list of patterns of which one must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patterns(pub(super) Vec<Pattern>);

impl Pattern {
    /// It names no place, and so matches every message.
    #[must_use]
    pub fn matches_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.keys()
    }
}

impl Patterns {
    /// One of the patterns matches every message.
    #[must_use]
    pub fn match_everything(&self) -> bool {
        self.0.iter().any(Pattern::matches_everything)
    }

    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().flat_map(Pattern::places)
    }
}

impl Replies {
    /// No message can be a reply: the text is empty, or the list of patterns is.
    #[must_use]
    pub fn match_nothing(&self) -> bool {
        match &self.text {
            Some(text) => text.is_empty(),
            None => self.patterns.0.is_empty(),
        }
    }

    /// One of the patterns matches every message.
    #[must_use]
    pub fn match_everything(&self) -> bool {
        self.patterns.match_everything()
    }

    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.patterns.places()
    }
}

/// Replies to a text of ours: one fixed text, or messages that match a pattern.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replies {
    pub(super) text: Option<String>,
    pub(super) patterns: Patterns,
}

/// The value that a place must have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// `"*"`: anything but null.
    Any,
    Text(String),
    /// `"book*"`: a text with this beginning.
    Beginning(String),
    Number(Decimal),
    Bool(bool),
}

impl Expected {
    pub(super) fn is(&self, found: Option<&str>) -> bool {
        let Some(found) = found else { return false };
        match self {
            Expected::Any => found != "null",
            Expected::Text(text) => string(found).is_some_and(|found| found == *text),
            Expected::Beginning(text) => string(found).is_some_and(|found| found.starts_with(text)),
            Expected::Number(number) => Decimal::parse(found) == Ok(*number),
            Expected::Bool(expected) => found == if *expected { "true" } else { "false" },
        }
    }
}

/// The content of a string; `None` for other values.
fn string(found: &str) -> Option<Cow<'_, str>> {
    found.starts_with('"').then(|| value::text(found)).flatten()
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl Visitor<'_> for Scalar {
            type Value = Expected;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false; \"*\" for anything, \"book*\" for what begins so")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Expected, E> {
                Ok(match text.strip_suffix('*') {
                    Some("") => Expected::Any,
                    Some(escaped) if escaped.ends_with('\\') => {
                        Expected::Text(format!("{}*", escaped.trim_end_matches('\\')))
                    }
                    Some(beginning) => Expected::Beginning(beginning.to_owned()),
                    None => Expected::Text(text.to_owned()),
                })
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Expected, E> {
                Ok(Expected::Bool(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Expected, E> {
                Ok(Expected::Number(value.into()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Expected, E> {
                // The shortest digits that give this float: the digits in the configuration, unless they were more than
                // a float holds.
                Decimal::parse(&format!("{value:e}"))
                    .map(Expected::Number)
                    .map_err(|_| E::custom(format!("{value} is no JSON number")))
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

impl<'de> Deserialize<'de> for Replies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrPatterns;

        impl<'de> Visitor<'de> for TextOrPatterns {
            type Value = Replies;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the whole text of a message, { \"/pointer\" = value }, or a list of such")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Replies, E> {
                Ok(Replies { text: Some(text.to_owned()), patterns: Patterns::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Replies, A::Error> {
                let patterns = Patterns::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Replies { text: None, patterns })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Replies, A::Error> {
                let patterns = Patterns::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Replies { text: None, patterns })
            }
        }

        deserializer.deserialize_any(TextOrPatterns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let text = Expected::Text("7".to_owned());
        assert!(text.is(Some(r#""7""#)) && text.is(Some(r#""\u0037""#)) && !text.is(Some("7")) && !text.is(None));
        let seven = Expected::Number(7.into());
        assert!(["7", "7.0", "0.7e1", "70E-1"].iter().all(|same| seven.is(Some(same))) && !seven.is(Some(r#""7""#)));
        assert!(Expected::Bool(false).is(Some("false")) && !Expected::Bool(false).is(Some("null")));
        assert!(Expected::Any.is(Some("0")) && !Expected::Any.is(Some("null")) && !Expected::Any.is(None));
    }

    fn expected(toml: &str) -> Result<Expected, String> {
        let mut pattern: Pattern = toml::from_str(&format!("\"/x\" = {toml}")).map_err(|error| error.to_string())?;
        Ok(pattern.0.pop_first().unwrap().1)
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let big = expected("9007199254740993").unwrap();
        assert!(big.is(Some("9007199254740993")) && big.is(Some("9007199254740993.0")));
        assert!(!big.is(Some("9007199254740992")) && !big.is(Some("9007199254740992.9")));
        let price = expected("0.1").unwrap();
        assert!(price.is(Some("0.10")) && price.is(Some("1e-1")) && !price.is(Some("0.1000000000000000055511")));
        assert!(expected("-1").unwrap().is(Some("-1.0")) && expected("1e300").unwrap().is(Some("1E+300")));
        assert!(expected("0.0").unwrap().is(Some("-0")));
        assert!(expected("inf").unwrap_err().contains("is no JSON number"));
    }

    #[test]
    fn a_star_at_the_end_means_that_more_may_follow() {
        let books = expected("'book*'").unwrap();
        assert!(["book", "book-10", "book*"].iter().all(|text| books.is(Some(&format!("\"{text}\"")))));
        assert!(!books.is(Some("\"boo\"")) && !books.is(Some("\"a book\"")) && !books.is(Some("7")));
        let star = expected(r"'book\*'").unwrap();
        assert!(star.is(Some("\"book*\"")) && !star.is(Some("\"book-10\"")));
    }
}
