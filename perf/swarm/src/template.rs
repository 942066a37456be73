//! What a client says, with its own number and those of its subjects in it: text or binary.

use std::str::FromStr;

/// Bytes with places for numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Number {
        of: Of,
        digits: usize,
    },
    /// Repeated for each subject, with commas between.
    Each(Template),
}

/// Whose number stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Subject,
    Client,
}

impl Template {
    /// Appends what client number `client` says, who has these subjects; where one is named alone, it is the first.
    pub(crate) fn write(&self, client: u32, subjects: &[u32], out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::Number { of, digits } => {
                    let number = match of {
                        Of::Subject => subjects.first().copied().unwrap_or_default(),
                        Of::Client => client,
                    };
                    out.extend_from_slice(format!("{number:0digits$}").as_bytes());
                }
                Part::Each(item) => {
                    for (at, subject) in subjects.iter().enumerate() {
                        if at > 0 {
                            out.push(b',');
                        }
                        item.write(client, &[*subject], out);
                    }
                }
            }
        }
    }
}

impl FromStr for Template {
    type Err = String;

    /// `{subject}` and `{client}` are numbers, `{subject:05}` one of at least five digits; `{subjects|…|}` is what
    /// stands in it for each subject, with commas between. Other braces are braces.
    fn from_str(text: &str) -> Result<Template, String> {
        if let Some((before, rest)) = text.split_once(EACH_BEGIN) {
            let (item, after) = rest.split_once(EACH_END).ok_or_else(|| format!("`{rest}`: {EACH_END} is missing"))?;
            if item.contains(EACH_BEGIN) {
                return Err(format!("`{item}`: {EACH_BEGIN} cannot be nested"));
            }
            let (before, after): (Template, Template) = (before.parse()?, after.parse()?);
            let parts = before.parts.into_iter().chain([Part::Each(item.parse()?)]).chain(after.parts);
            return Ok(Template { parts: parts.collect() });
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, of, name_len)) = next_place(rest) {
            let (before, after) = (&rest[..at], &rest[at + name_len..]);
            let (format, after) = after.split_once('}').ok_or_else(|| format!("`{rest}`: a brace is not closed"))?;
            let digits = match format.strip_prefix(":0").map(str::parse) {
                None if format.is_empty() => 1,
                Some(Ok(digits)) if digits <= 10 => digits,
                _ => return Err(format!("`{format}`: a number's width is written `:05`")),
            };
            parts.push(Part::Bytes(unescape(before)?));
            parts.push(Part::Number { of, digits });
            rest = after;
        }
        parts.push(Part::Bytes(unescape(rest)?));
        Ok(Template { parts })
    }
}

const EACH_BEGIN: &str = "{subjects|";
const EACH_END: &str = "|}";

/// Where the next number's place begins, whose it is, and the length of its name with the brace.
fn next_place(text: &str) -> Option<(usize, Of, usize)> {
    let place = |name: &str, of| text.find(name).map(|at| (at, of, name.len()));
    let places = [place("{subject", Of::Subject), place("{client", Of::Client)];
    places.into_iter().flatten().min_by_key(|(at, ..)| *at)
}

/// `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN` stand for single bytes; everything else for itself.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, len) = match escaped.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (b'\0', 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => {
                let byte = escaped.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.ok_or_else(|| format!("`\\{escaped}`: two hex digits follow \\x"))?, 3)
            }
            _ => return Err(format!("`\\{escaped}`: the escapes are \\r \\n \\t \\0 \\\\ and \\xNN")),
        };
        bytes.push(byte);
        rest = &escaped[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(template: &str) -> Vec<u8> {
        let mut out = Vec::new();
        template.parse::<Template>().unwrap().write(7, &[42, 8], &mut out);
        out
    }

    #[test]
    fn numbers_and_escapes_are_put_in_and_other_braces_stay() {
        let json = r#"{"op":"subscribe","id":{client},"subjects":["/K/{subject:05}/v"]}"#;
        assert_eq!(written(json), br#"{"op":"subscribe","id":7,"subjects":["/K/00042/v"]}"#);
        assert_eq!(written(r"SUB s{subject} 1\r\n\x00\\{client}"), b"SUB s42 1\r\n\x00\\7");
        assert_eq!(written(""), b"");
        let list = r#"{"id":{client},"subjects":[{subjects|"/K/{subject:03}/v"|}]}{subjects|{subject}|}"#;
        assert_eq!(written(list), br#"{"id":7,"subjects":["/K/042/v","/K/008/v"]}42,8"#);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            r"\q",
            r"\x4",
            r"\",
            "{subject",
            "{subject:5}",
            "{client:011}",
            "{subjects|{subject}",
            "{subjects|{subjects|1|}|}",
        ] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
