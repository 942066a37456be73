//! The subscription that the address of an upgrade may carry, read as strictly as a request in JSON.
//!
//! `?subjects=/NASDAQ/AAPL/bbo,/NASDAQ/MSFT/trade&mode=all&snapshot=false`. The form is WHATWG's
//! `application/x-www-form-urlencoded`, which browsers and HTTP libraries write: pairs are taken apart at `&` and `=`,
//! lists at `,`, and only then what stands between them is decoded (RFC 3986 section 2.4), `+` as a space. So `%2C` is
//! a comma within a subject, `%2B` a plus.
//!
//! `form_urlencoded` itself decodes before we could take lists apart, and lets escapes pass that are none.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::protocol::{self, Mode, Op, Refusal, Request, printable};

/// What the query asks for; `None` if it is empty. A refusal becomes an `error` reply: a browser shows its page
/// nothing of an upgrade that is refused over HTTP.
pub(crate) fn subscription(query: &str) -> Option<Result<Request, Refusal>> {
    let mut parameters = query.split('&').filter(|pair| !pair.is_empty()).peekable();
    parameters.peek()?;
    Some(read(parameters))
}

fn read<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Request, Refusal> {
    let refuse = |message| Refusal::new(None, "bad_request", message);
    let (mut subjects, mut mode, mut snapshot) = (Vec::new(), None, None);
    for pair in parameters {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name).map_err(refuse)?;
        match name.as_ref() {
            "subjects" => {
                for item in value.split(',') {
                    subjects.push(decoded(item).map_err(refuse)?);
                }
            }
            "mode" => once(&mut mode, &name, protocol::mode(&decoded(value).map_err(refuse)?)).map_err(refuse)?,
            "snapshot" => once(&mut snapshot, &name, boolean(&decoded(value).map_err(refuse)?)).map_err(refuse)?,
            unknown => {
                let known = "there are subjects, mode and snapshot";
                return Err(refuse(format!("`{}` is not a parameter of the address; {known}", printable(unknown))));
            }
        }
    }
    let subjects = protocol::checked_subjects(Some(subjects), &None)?;
    let (mode, snapshot) = (mode.unwrap_or(Mode::Conflate), snapshot.unwrap_or(true));
    Ok(Request { id: None, op: Op::Subscribe { subjects, mode, snapshot, resume: None } })
}

/// Sets a parameter that may be given once; only a list may go on in a further parameter.
fn once<T>(place: &mut Option<T>, name: &str, value: Result<T, String>) -> Result<(), String> {
    match place.replace(value?) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is given more than once")),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("snapshot `{}` is neither true nor false", printable(other))),
    }
}

/// A name, a value or one item of a list.
fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = text.chars().skip(text[..at].chars().count()).take(3).collect();
            let rule = "two hexadecimal digits follow a percent sign, and %25 is the sign itself";
            return Err(format!("`{}` in the address is no escape: {rule}", printable(&shown)));
        }
    }
    let not_text = |_| format!("`{}` in the address is not UTF-8", printable(text));
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Ok(Cow::Owned(percent_decode_str(&spaced).decode_utf8().map_err(not_text)?.into_owned()));
    }
    percent_decode_str(text).decode_utf8().map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(query: &str) -> Vec<String> {
        match subscription(query).unwrap_or_else(|| panic!("{query} asks for nothing")).unwrap().op {
            Op::Subscribe { subjects, mode: Mode::Conflate, snapshot: true, resume: None } => subjects,
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn the_address_is_taken_apart_before_it_is_decoded() {
        for (query, expected) in [
            ("subjects=/NASDAQ/AAPL/bbo", &["/NASDAQ/AAPL/bbo"][..]),
            ("subjects=/X/A%2CB/q", &["/X/A,B/q"]),
            ("subjects=/X/A%2cB/q,%2FX%2F*%2Ftrade", &["/X/A,B/q", "/X/*/trade"]),
            ("subjects=/X/a/q&subjects=/X/b/q,/X/c/q", &["/X/a/q", "/X/b/q", "/X/c/q"]),
            ("subjects=%2FX%2FBRK+A%2Fq", &["/X/BRK A/q"]),
            ("subjects=/X/BRK%20A/q", &["/X/BRK A/q"]),
            ("subjects=/X/BRK%2BA/q", &["/X/BRK+A/q"]),
            ("subjects=/X/50%25/q", &["/X/50%/q"]),
            ("subjects=/X/50%252C/q", &["/X/50%2C/q"]),
            ("subjects=/X/A%26B/q", &["/X/A&B/q"]),
            ("subjects=/X/A%3DB/q", &["/X/A=B/q"]),
            ("subjects=/X/A=B/q", &["/X/A=B/q"]),
            ("&%73ubjects=/X/a/q&", &["/X/a/q"]),
        ] {
            assert_eq!(subjects(query), expected, "{query}");
        }
        let request = subscription("mode=all&subjects=/X/**&snapshot=false").unwrap().unwrap();
        let op = Op::Subscribe { subjects: vec!["/X/**".into()], mode: Mode::All, snapshot: false, resume: None };
        assert_eq!(request, Request { id: None, op });
        assert!(subscription("").is_none() && subscription("&&").is_none());
    }

    #[test]
    fn what_is_wrong_in_the_address_is_told() {
        let ok = "subjects=/X/a/q";
        for (query, code, part) in [
            ("subjects=AAPL", "bad_subject", "subjects[0] `AAPL`: a subject begins with '/'"),
            ("subjects=/X/a/q,", "bad_subject", "subjects[1] ``"),
            ("subjects=/X/a/q,,/X/b/q", "bad_subject", "subjects[1] ``"),
            ("subjects=/X/a/q&subjects=/X/AA*/q", "bad_subject", "subjects[1] `/X/AA*/q`: '*' stands for"),
            ("subjects=/X/**/q", "bad_subject", "'**' may only"),
            ("subjects=", "bad_subject", "subjects[0] ``"),
            ("subjects", "bad_subject", "subjects[0] ``"),
            ("subjects=/X/%C3%A9/q", "bad_subject", "printable ASCII"),
            ("subjects=/X/%00/q", "bad_subject", "printable ASCII"),
            ("mode=all", "bad_request", "`subjects` is missing"),
            ("subjects=/X/50%+5/q", "bad_request", "`%+5` in the address is no escape"),
            ("subjects=/X/50%/q", "bad_request", "`%/q` in the address is no escape"),
            ("subjects=/X/a/q%", "bad_request", "`%` in the address is no escape"),
            ("subjects=/X/a/q%4", "bad_request", "`%4` in the address is no escape"),
            ("subjects=/X/%-1/q", "bad_request", "`%-1` in the address is no escape"),
            ("subjects=/X/%\u{e9}\u{e9}/q", "bad_request", "is no escape"),
            ("subjects=/X/%ff/q", "bad_request", "is not UTF-8"),
            ("subjects=/X/a/q&mode=al", "bad_request", "mode `al` is not one of conflate, all"),
            ("subjects=/X/a/q&mode=sampled", "bad_request", "sampled"),
            ("subjects=/X/a/q&mode=all&mode=all", "bad_request", "`mode` is given more than once"),
            ("subjects=/X/a/q&snapshot=true&snapshot=false", "bad_request", "`snapshot` is given more than once"),
            (
                "token=x",
                "bad_request",
                "`token` is not a parameter of the address; there are subjects, mode and snapshot",
            ),
        ] {
            let refusal = subscription(query).unwrap().unwrap_err();
            assert!(refusal.code == code && refusal.message.contains(part), "{query}: {refusal:?}");
        }
        for wrong in ["snapshot=0", "snapshot=1", "snapshot=False", "snapshot=TRUE", "snapshot=", "snapshot", "mode="] {
            let refusal = subscription(&format!("{ok}&{wrong}")).unwrap().unwrap_err();
            assert_eq!(refusal.code, "bad_request", "{wrong}");
        }
        for unknown in
            ["snapshoot=true", "Subjects=/X/b/q", "subjects[]=/X/b/q", "amp;mode=all", "=x", "x", " mode=all"]
        {
            let refusal = subscription(&format!("{ok}&{unknown}")).unwrap().unwrap_err();
            assert!(refusal.message.contains("is not a parameter of the address"), "{unknown}: {refusal:?}");
        }
    }
}
