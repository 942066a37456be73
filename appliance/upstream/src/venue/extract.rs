//! Finds the values that pointers name, all in one pass over the text, without building values of the rest.
//!
//! A value is the text in the message, so that the blade passes on what the venue wrote: a price of `0.10` stays
//! `0.10`, which a parsed number would not.

use std::collections::VecDeque;
use std::fmt;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::pointer::Pointer;

/// One of a plan's values: an index into [`Found`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// Pointers, merged by their common beginnings.
#[derive(Debug, Default)]
pub(super) struct Plan {
    root: Node,
    len: usize,
}

/// What the pointers of a plan found, each the text of a JSON value.
#[derive(Debug, Default)]
pub(super) struct Found<'a>(Vec<Option<&'a str>>);

#[derive(Debug, Default)]
struct Node {
    slot: Option<Slot>,
    /// The parts by their names; in an array, the name is the index.
    children: Vec<(String, Node)>,
}

impl Plan {
    /// Adds a pointer, unless the plan has it already.
    pub(super) fn add(&mut self, pointer: &Pointer) -> Slot {
        let mut node = &mut self.root;
        for step in &pointer.0 {
            let at = node.children.iter().position(|(name, _)| name == step).unwrap_or_else(|| {
                node.children.push((step.clone(), Node::default()));
                node.children.len() - 1
            });
            node = &mut node.children[at].1;
        }
        *node.slot.get_or_insert_with(|| {
            self.len += 1;
            Slot(self.len - 1)
        })
    }

    /// Reads `text`, one whole JSON value.
    pub(super) fn extract<'a>(&self, text: &'a str) -> Result<Found<'a>, serde_json::Error> {
        let mut found = Found(vec![None; self.len]);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Value { node: &self.root, found: &mut found }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

impl<'a> Found<'a> {
    pub(super) fn value(&self, slot: Slot) -> Option<&'a str> {
        self.0.get(slot.0).copied().flatten()
    }

    fn forget(&mut self, node: &Node) {
        if let Some(place) = node.slot.and_then(|slot| self.0.get_mut(slot.0)) {
            *place = None;
        }
        node.children.iter().for_each(|(_, child)| self.forget(child));
    }
}

/// Passes the elements of an array to `sink`, each as text.
pub(super) fn elements<'a>(text: &'a str, sink: &mut dyn FnMut(&'a str)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(Elements(sink))?;
    deserializer.end()
}

/// A value that is wanted, or on the path to a wanted one.
struct Value<'w, 'a> {
    node: &'w Node,
    found: &'w mut Found<'a>,
}

/// A value whose parts are wanted.
struct Parts<'w, 'a> {
    parts: &'w [(String, Node)],
    found: &'w mut Found<'a>,
}

/// The name of a part, if the part is on the path to a wanted value.
struct Name<'w>(&'w [(String, Node)]);

struct Elements<'s, 'a>(&'s mut dyn FnMut(&'a str));

/// How far from the end of an array a pointer may begin.
const FROM_END_MAX: usize = 16;

impl<'a> Value<'_, 'a> {
    /// Reads a part that has been found as text.
    fn read<E: Error>(self, text: &'a str) -> Result<(), E> {
        self.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let parts = Parts { parts: &self.node.children, found: self.found };
        let Some(slot) = self.node.slot else { return parts.deserialize(deserializer) };
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if let Some(place) = parts.found.0.get_mut(slot.0) {
            *place = Some(text);
        }
        if parts.parts.is_empty() {
            return Ok(());
        }
        parts.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(D::Error::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Parts<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.parts.is_empty() {
            return IgnoredAny::deserialize(deserializer).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parts<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key_seed(Name(self.parts))? {
            match node {
                Some(node) => {
                    // If a name comes twice, the last value counts, whole, as in other parsers (RFC 8259, section 4).
                    self.found.forget(node);
                    map.next_value_seed(Value { node, found: &mut *self.found })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        // -1 is the last element. So many elements are kept until the end is known.
        let from_end = |name: &str| {
            name.strip_prefix('-')?.parse::<usize>().ok().filter(|index| (1..=FROM_END_MAX).contains(index))
        };
        let kept_max = self.parts.iter().filter_map(|(name, _)| from_end(name)).max().unwrap_or(0);
        let mut kept: VecDeque<&'de str> = VecDeque::with_capacity(kept_max);
        for index in 0usize.. {
            let is_index = |name: &str| name.parse() == Ok(index);
            let wanted = self.parts.iter().find(|(name, _)| is_index(name));
            let more = if kept_max > 0 {
                let element = seq.next_element::<&'de RawValue>()?.map(RawValue::get);
                if let Some(text) = element {
                    if let Some((_, node)) = wanted {
                        Value { node, found: &mut *self.found }.read(text)?;
                    }
                    if kept.len() == kept_max {
                        kept.pop_front();
                    }
                    kept.push_back(text);
                }
                element.is_some()
            } else {
                match wanted {
                    Some((_, node)) => seq.next_element_seed(Value { node, found: &mut *self.found })?.is_some(),
                    None => seq.next_element::<IgnoredAny>()?.is_some(),
                }
            };
            if !more {
                break;
            }
        }
        for (name, node) in self.parts {
            if let Some(text) = from_end(name).and_then(|index| kept.get(kept.len().checked_sub(index)?)) {
                Value { node, found: &mut *self.found }.read(text)?;
            }
        }
        Ok(())
    }

    // A value without parts has no wanted parts.

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

impl<'de, 'w> DeserializeSeed<'de> for Name<'w> {
    type Value = Option<&'w Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Name<'w> {
    type Value = Option<&'w Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|(name, _)| name == text).map(|(_, node)| node))
    }
}

impl<'de> Visitor<'de> for Elements<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&'de RawValue>()? {
            (self.0)(element.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str =
        r#" {"type":"t", "data":[{"a/b":0.10,"deep":{"x":[1,[2 ,3]]}},null], "n":-1e3,"s":"q\"x","u":"a\u002fb"} "#;

    fn find(pointers: &[&str], text: &str) -> Vec<Option<String>> {
        let mut plan = Plan::default();
        let slots: Vec<Slot> = pointers.iter().map(|pointer| plan.add(&pointer.parse().unwrap())).collect();
        let found = plan.extract(text).unwrap();
        slots.iter().map(|slot| found.value(*slot).map(str::to_owned)).collect()
    }

    #[test]
    fn values_are_found_as_they_stand() {
        let pointers =
            ["/type", "/data/0/a~1b", "/data/0/deep/x/1", "/data/0/deep", "/n", "/s", "/data/1", "/data/1/x", "/no"];
        let expected = [
            Some(r#""t""#),
            Some("0.10"),
            Some("[2 ,3]"),
            Some(r#"{"x":[1,[2 ,3]]}"#),
            Some("-1e3"),
            Some(r#""q\"x""#),
            Some("null"),
            None,
            None,
        ];
        assert_eq!(find(&pointers, TEXT), expected.map(|text| text.map(str::to_owned)));
        assert_eq!(find(&["", "/x"], r#"{"x":1}"#), [Some(r#"{"x":1}"#.to_owned()), Some("1".to_owned())]);
        assert_eq!(find(&["/x", "/0"], "7"), [None, None]);
        let array = r#"[336,{"a":[1,2]},"book-10","XBT/USD"]"#;
        let from_end = ["336", "\"XBT/USD\"", "\"book-10\"", "2", "336"].map(|text| Some(text.to_owned()));
        assert_eq!(find(&["/0", "/-1", "/-2", "/-3/a/-1", "/-4"], array), from_end);
        assert_eq!(find(&["/-5", "/-0", "/-17", "/1/-1"], array), [None, None, None, None]);
        assert_eq!(find(&["/-1"], r#"{"-1":7}"#), [Some("7".to_owned())], "a name is a name");
        assert_eq!(find(&["/-1"], "[]"), [None]);
        assert_eq!(find(&["/a/b"], r#"{"a":"b"}"#), [None]);
        assert_eq!(find(&["/a"], r#"{"\u0061":1}"#), [Some("1".to_owned())], "an escaped name");
        let twice = r#"{"a":{"x":1,"y":2},"a":{"y":3},"b":1,"\u0062":2}"#;
        let last = [None, Some("3".to_owned()), Some("2".to_owned())];
        assert_eq!(find(&["/a/x", "/a/y", "/b"], twice), last, "of names that come twice");
    }

    #[test]
    fn all_of_the_text_must_be_json() {
        let mut plan = Plan::default();
        plan.add(&"/a".parse().unwrap());
        for wrong in
            ["", "{", r#"{"a":1}x"#, r#"{"a":1,"b":tru}"#, r#"{"a":1,"b":"\x"}"#, "{\"a\":\"\u{1}\"}", "{'a':1}"]
        {
            assert!(plan.extract(wrong).is_err(), "{wrong}");
        }
        assert!(elements(r#"{"a":1}"#, &mut |_| {}).is_err());
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(find(&["/b"], &deep), [None]);
        let mut plan = Plan::default();
        plan.add(&"/a/0/0/0".parse().unwrap());
        assert!(plan.extract(&deep).is_ok());
    }

    proptest! {
        /// Finds the same as serde_json's own pointer.
        #[test]
        fn it_agrees_with_serde_json(value in json(), steps in prop::collection::vec("[ab01]", 0..4)) {
            let pointer: String = steps.iter().map(|step| format!("/{step}")).collect();
            let text = value.to_string();
            let found = find(&[&pointer, "/a", "/a/b", ""], &text);
            for (found, pointer) in found.iter().zip([&*pointer, "/a", "/a/b", ""]) {
                let expected = value.pointer(pointer);
                let found: Option<serde_json::Value> = found.as_ref().map(|text| serde_json::from_str(text).unwrap());
                prop_assert_eq!(found.as_ref(), expected);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let mut plan = Plan::default();
            plan.add(&"/a/b".parse().unwrap());
            prop_assert_eq!(plan.extract(&text).is_ok(), serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-b\"\\\\]{0,3}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::hash_map("[ab01]", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
