//! JSON from publishers: checks values, and splits text messages into records.

use std::borrow::Cow;

use fanblade_wire::json::{Object, check_fit, whole_number};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct JsonFault {
    /// Bytes from the beginning of the checked text to the fault.
    pub offset: usize,
    /// The fault, in words.
    pub what: String,
}

/// `t` of a record is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`t` is nanoseconds since 1970, as a number or in quotes")]
pub struct NoTime;

/// One record of a text message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry<'a> {
    /// The subject.
    #[serde(borrow)]
    pub s: Cow<'a, str>,
    /// The value, as JSON; `null` is a value, too.
    #[serde(borrow, default, deserialize_with = "present")]
    pub d: Option<&'a RawValue>,
    /// The opaque value, in base64.
    #[serde(borrow)]
    pub b: Option<Cow<'a, str>>,
    /// Unix nanoseconds, as a number with or without quotes.
    #[serde(borrow)]
    t: Option<&'a RawValue>,
}

/// Checks that `bytes` are one JSON value, and returns it on one line; `scratch` is used only to remove line breaks.
///
/// # Errors
/// The bytes are no JSON, or JSON that cannot be passed on.
pub fn check<'a>(bytes: &'a [u8], scratch: &'a mut String) -> Result<&'a str, JsonFault> {
    let value: &RawValue = serde_json::from_slice(bytes).map_err(|error| JsonFault::new(bytes, &error))?;
    let text = value.get();
    check_fit(text).map_err(|unfit| {
        let start = (text.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
        JsonFault { offset: start + unfit.offset(), what: unfit.to_string() }
    })?;
    // A line break within a string has been refused: only white space can be one.
    if !text.contains(['\n', '\r']) {
        return Ok(text);
    }
    scratch.clear();
    scratch.extend(text.chars().map(|char| if matches!(char, '\n' | '\r') { ' ' } else { char }));
    Ok(scratch)
}

/// The elements of an array, or the single object, each with the offset at which it begins.
///
/// # Errors
/// The text is no JSON.
pub fn elements(text: &str) -> Result<Vec<(usize, &str)>, JsonFault> {
    let fault = |error| JsonFault::new(text.as_bytes(), &error);
    let values: Vec<&RawValue> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text).map_err(fault)?,
        false => vec![serde_json::from_str(text).map_err(fault)?],
    };
    let start = text.as_ptr() as usize;
    // Each value is a slice of `text`.
    Ok(values.iter().map(|value| ((value.get().as_ptr() as usize).saturating_sub(start), value.get())).collect())
}

/// Reads one element as a record; `offset` is where the element begins in its message.
///
/// # Errors
/// The element is no record.
pub fn entry(text: &str, offset: usize) -> Result<Entry<'_>, JsonFault> {
    serde_json::from_str(text).map(|Object(entry)| entry).map_err(|error| {
        let fault = JsonFault::new(text.as_bytes(), &error);
        JsonFault { offset: offset + fault.offset, ..fault }
    })
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Entry<'_> {
    /// The time of the record's event.
    ///
    /// # Errors
    /// `t` is no time.
    pub fn ts_ns(&self) -> Result<Option<u64>, NoTime> {
        self.t.map(|t| whole_number(t.get()).ok_or(NoTime)).transpose()
    }
}

impl JsonFault {
    /// serde_json reports line and column; in a stream, an offset in bytes is more useful.
    fn new(bytes: &[u8], error: &serde_json::Error) -> Self {
        let line_start: usize =
            bytes.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
        let offset = (line_start + error.column().saturating_sub(1)).min(bytes.len());
        let text = error.to_string();
        let what = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
        Self { offset, what: what.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, (usize, String)> {
        let mut scratch = String::new();
        check(text.as_bytes(), &mut scratch).map(str::to_owned).map_err(|fault| (fault.offset, fault.what))
    }

    #[test]
    fn values_are_checked_and_kept_as_they_are() {
        for text in
            ["1", "-0.5e10", "null", "{\"a\":[1,{\"b\":\"\\u00e9\\n\"}]}", "\"é\"", "12345678901234567890123.10"]
        {
            assert_eq!(checked(text).as_deref(), Ok(text));
        }
        assert_eq!(checked(" {\"a\":\r\n 1}\n").as_deref(), Ok("{\"a\":   1}"));
    }

    #[test]
    fn what_is_no_value_is_told_with_its_place() {
        let long = format!("[{}", "1,".repeat(100));
        for (text, offset) in [
            ("", 0),
            ("{\"a\":}", 5),
            ("{\"a\":1}}", 7),
            ("[1,\n2,\n x]", 8),
            ("{a:1}", 1),
            ("\"a\nb\"", 2),
            ("01", 1),
            ("NaN", 0),
            (long.as_str(), 200),
        ] {
            let (at, what) = checked(text).unwrap_err();
            assert!(at.abs_diff(offset) <= 1 && !what.contains("line"), "{text}: {at} {what}");
        }
        let deep = |depth: usize| format!(" {}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(checked(&deep(64)).is_ok());
        assert_eq!(checked(&deep(65)), Err((65, "nested more than 64 deep".to_owned())));
        assert_eq!(checked(&deep(30_000)), Err((65, "nested more than 64 deep".to_owned())));
        let (at, what) = checked(r#"{"a":"\ud800"}"#).unwrap_err();
        assert!(at == 6 && what.contains("surrogate"), "{at} {what}");
        assert!(checked("\u{feff}1").is_err(), "a byte order mark is no JSON");
        assert_eq!(checked(r#"{"a":1,"a":"\u0000"}"#).as_deref(), Ok(r#"{"a":1,"a":"\u0000"}"#), "JSON, as it came");
        let mut scratch = String::new();
        assert!(check(b"\"\xff\"", &mut scratch).is_err());
        // A million levels deep: the check must not recurse.
        let deep = "[".repeat(1_000_000);
        assert!(check(deep.as_bytes(), &mut scratch).is_err());
    }

    #[test]
    fn messages_are_taken_apart() {
        let text = " [ {\"s\":\"/a/b\",\"d\":{\"x\":1}}, {\"d\":2,\"t\":\"17\",\"s\":\"/a/\\u0062\"}, {\"s\":\"/a/c\",\"b\":\"AP8=\",\"t\":18} ]";
        let elements = elements(text).unwrap();
        let entries: Vec<Entry<'_>> = elements.iter().map(|(offset, text)| entry(text, *offset).unwrap()).collect();
        assert_eq!(elements.iter().map(|(offset, _)| *offset).collect::<Vec<_>>()[..2], [3, 29]);
        assert_eq!(
            (entries[0].s.as_ref(), entries[0].d.unwrap().get(), entries[0].ts_ns()),
            ("/a/b", "{\"x\":1}", Ok(None))
        );
        assert_eq!((entries[1].s.as_ref(), entries[1].ts_ns()), ("/a/b", Ok(Some(17))));
        assert_eq!((entries[2].b.as_deref(), entries[2].ts_ns()), (Some("AP8="), Ok(Some(18))));
        let (offset, odd) = super::elements("[{\"s\":\"/a/b\",\"d\":1}, {\"s\":\"/a/b\",\"x\":1}]").unwrap()[1];
        let fault = entry(odd, offset).unwrap_err();
        assert!(fault.what.contains("unknown field `x`") && (21..40).contains(&fault.offset), "{fault}");
        for wrong in ["{\"s\":\"/a/b\",\"t\":1.5}", "{\"s\":\"/a/b\",\"t\":-1}", "{\"s\":\"/a/b\",\"t\":\"x\"}"] {
            assert_eq!(entry(wrong, 0).unwrap().ts_ns(), Err(NoTime), "{wrong}");
        }
        for same in ["17e17", "1700000000000000000.0", "\"1.7e18\""] {
            let text = format!("{{\"s\":\"/a/b\",\"t\":{same}}}");
            assert_eq!(entry(&text, 0).unwrap().ts_ns(), Ok(Some(1_700_000_000_000_000_000)), "{same}");
        }
        assert!(super::elements("[1,").is_err() && super::elements("").is_err());
    }

    #[test]
    fn a_record_is_an_object() {
        for (wrong, part) in [
            ("[\"/X/a/v\",2,null,\"17\"]", "expected an object"),
            ("\"/X/a/v\"", "expected an object"),
            ("null", "expected an object"),
            ("{\"s\":\"/X/a/v\",\"s\":\"/X/b/v\",\"d\":1}", "duplicate field `s`"),
            ("{\"s\":[\"/X/a/v\"],\"d\":1}", "invalid type"),
            ("{\"s\":\"\\ud800\",\"d\":1}", "hex escape"),
        ] {
            let fault = entry(wrong, 0).unwrap_err();
            assert!(fault.what.contains(part), "{wrong}: {fault}");
        }
    }
}
