//! What a client says, with its own number and that of its subject in it: text or binary.

use std::str::FromStr;

/// Bytes with places for numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Number { of: Of, digits: usize },
}

/// Whose number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Subject,
    Client,
}

impl Template {
    /// Appends what client number `client` says, who has subject number `subject`.
    pub(crate) fn write(&self, client: u32, subject: u32, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::Number { of, digits } => {
                    let number = match of {
                        Of::Subject => subject,
                        Of::Client => client,
                    };
                    out.extend_from_slice(format!("{number:0digits$}").as_bytes());
                }
            }
        }
    }
}

impl FromStr for Template {
    type Err = String;

    /// `{subject}` and `{client}` are numbers, `{subject:05}` one of at least five digits. Other braces are braces.
    fn from_str(text: &str) -> Result<Template, String> {
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
            _ => return Err(format!("`\\{escaped}`: there are \\r \\n \\t \\0 \\\\ and \\xNN")),
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
        template.parse::<Template>().unwrap().write(7, 42, &mut out);
        out
    }

    #[test]
    fn numbers_and_escapes_are_put_in_and_other_braces_stay() {
        let json = r#"{"op":"subscribe","id":{client},"subjects":["/K/{subject:05}/v"]}"#;
        assert_eq!(written(json), br#"{"op":"subscribe","id":7,"subjects":["/K/00042/v"]}"#);
        assert_eq!(written(r"SUB s{subject} 1\r\n\x00\\{client}"), b"SUB s42 1\r\n\x00\\7");
        assert_eq!(written(""), b"");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [r"\q", r"\x4", r"\", "{subject", "{subject:5}", "{client:011}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
