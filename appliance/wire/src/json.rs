//! What is asked of JSON that comes from outside, beyond what serde asks.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

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
}
