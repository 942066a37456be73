//! Texts with holes, which are filled with values of a message: `/KRAKEN/{/symbol}/trade`.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::from_text::from_text;
use super::pointer::Place;

/// A sequence of literal texts and places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub(super) Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Value(Place),
}

impl Template {
    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Value(place) => Some(place),
        })
    }

    /// Does the template make addresses whose host is always the same?
    pub fn is_http(&self) -> bool {
        let Some(Part::Literal(start)) = self.0.first() else { return false };
        let rest = start.strip_prefix("https://").or_else(|| start.strip_prefix("http://"));
        rest.and_then(|rest| rest.split_once('/')).is_some_and(|(host, _)| !host.is_empty())
    }
}

impl FromStr for Template {
    type Err = String;

    /// `{/`, `{^/` and `{@/` begin a hole; other braces are literal, so that a template can be JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = ["{/", "{^/", "{@/"].iter().filter_map(|hole| rest.find(hole)).min() {
            let (before, hole) = rest.split_at(start);
            let Some(end) = hole.find('}') else {
                return Err(format!("`{text}`: the placeholder that begins with `{hole}` lacks its `}}`"));
            };
            if !before.is_empty() {
                parts.push(Part::Literal(before.to_owned()));
            }
            parts.push(Part::Value(hole[1..end].parse()?));
            rest = &hole[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Template(parts))
    }
}

/// A subject's template: whatever fills its holes, the result is a subject, and other values give another subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate(pub(super) Vec<SubjectPart>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SubjectPart {
    Literal(String),
    /// `separators`: the characters that end a hole of this segment. They are escaped within values, so that `A-B` and
    /// `C` do not make the same subject as `A` and `B-C`.
    Value {
        place: Place,
        separators: String,
    },
}

impl FromStr for SubjectTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let template: Template = text.parse()?;
        let filled: String = template
            .0
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text,
                Part::Value(_) => "x",
            })
            .collect();
        match fanblade_ring::subject::check(&filled) {
            Ok(()) if !fanblade_ring::subject::is_pattern(&filled) => separated(text, template.0).map(SubjectTemplate),
            Ok(()) => Err(format!("`{text}` would make a pattern; a segment cannot be `*` or `**`")),
            Err(error) => Err(format!("`{text}` makes no subject: {error}, as in \"/VENUE/{{/symbol}}/trade\"")),
        }
    }
}

impl SubjectTemplate {
    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().filter_map(|part| match part {
            SubjectPart::Literal(_) => None,
            SubjectPart::Value { place, .. } => Some(place),
        })
    }
}

/// The template as it was written.
impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            SubjectPart::Literal(text) => f.write_str(text),
            SubjectPart::Value { place, .. } => write!(f, "{{{place}}}"),
        })
    }
}

from_text!(Template, SubjectTemplate);

/// Finds the characters that separate the holes of each segment. There must be some.
fn separated(text: &str, parts: Vec<Part>) -> Result<Vec<SubjectPart>, String> {
    let mut subject: Vec<SubjectPart> = Vec::new();
    // For the current segment: its holes in `subject`, and the characters between them.
    let (mut holes, mut separators) = (Vec::<usize>::new(), String::new());
    let mut between = String::new();
    for part in parts {
        match part {
            Part::Literal(literal) => {
                if literal.contains('/') {
                    settle(&mut subject, &mut holes, &mut separators);
                }
                between = literal.rsplit('/').next().unwrap_or_default().to_owned();
                subject.push(SubjectPart::Literal(literal));
            }
            Part::Value(place) => {
                if !holes.is_empty() {
                    let first = between.chars().next().filter(|first| *first != ESCAPE).ok_or_else(|| {
                        format!(
                            "`{text}`: between two placeholders of one segment there must be something other than \
                             `{ESCAPE}`, so that no two values make one subject, as in {{/base}}-{{/quote}}"
                        )
                    })?;
                    separators.push(first);
                }
                between.clear();
                holes.push(subject.len());
                subject.push(SubjectPart::Value { place, separators: String::new() });
            }
        }
    }
    settle(&mut subject, &mut holes, &mut separators);
    Ok(subject)
}

fn settle(subject: &mut [SubjectPart], holes: &mut Vec<usize>, found: &mut String) {
    for hole in holes.drain(..) {
        if let Some(SubjectPart::Value { separators, .. }) = subject.get_mut(hole) {
            separators.clone_from(found);
        }
    }
    found.clear();
}

/// Adds a value's text to a subject, within one segment, so that the text can be recovered: a character that a segment
/// cannot have is written as `~` and two digits for each of its bytes in UTF-8, `BTC~2FUSD` for `BTC/USD`. `%` is
/// escaped as well, so that a decoder of percent escapes can read the text with `%` in place of `~`. False for an empty
/// text.
pub(super) fn push_segment(out: &mut String, text: &str, separators: &str) -> bool {
    for char in text.chars() {
        let is_itself = char.is_ascii_graphic() && !matches!(char, '/' | '*' | '%' | ESCAPE);
        if is_itself && !separators.contains(char) {
            out.push(char);
            continue;
        }
        for byte in char.encode_utf8(&mut [0; 4]).bytes() {
            let _ = write!(out, "{ESCAPE}{byte:02X}");
        }
    }
    !text.is_empty()
}

/// One of RFC 3986's unreserved characters, so that a subject needs no escapes in an address.
const ESCAPE: char = '~';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found_and_json_is_left_alone() {
        let template: Template = r#"{"op":"sub","args":["{/symbol}",{"d":"{^/depth}"}]}"#.parse().unwrap();
        let literal = |text: &str| Part::Literal(text.to_owned());
        let value = |text: &str| Part::Value(text.parse().unwrap());
        let expected = [
            literal(r#"{"op":"sub","args":[""#),
            value("/symbol"),
            literal(r#"",{"d":""#),
            value("^/depth"),
            literal(r#""}]}"#),
        ];
        assert_eq!(template.0, expected);
        assert!("{/a".parse::<Template>().is_err() && "{/a~}".parse::<Template>().is_err());
    }

    #[test]
    fn a_subject_s_template_makes_subjects() {
        assert!("/KRAKEN/{/symbol}/trade".parse::<SubjectTemplate>().is_ok());
        for wrong in
            ["KRAKEN/{/symbol}", "/{/a}", "/A//b", "/A/*", "/A/{/x}/**", "/Ä/b", &format!("/A/{}", "x".repeat(127))]
        {
            assert!(wrong.parse::<SubjectTemplate>().is_err(), "{wrong}");
        }
    }

    /// The subject that a template makes of these values.
    fn fill(template: &str, values: &[&str]) -> String {
        let mut values = values.iter();
        let mut out = String::new();
        for part in &template.parse::<SubjectTemplate>().unwrap().0 {
            match part {
                SubjectPart::Literal(text) => out.push_str(text),
                SubjectPart::Value { separators, .. } => {
                    assert!(push_segment(&mut out, values.next().unwrap(), separators));
                }
            }
        }
        out
    }

    #[test]
    fn a_value_stays_within_its_segment_and_can_be_had_back() {
        for (value, expected) in [
            ("BTC/USD", "/V/BTC~2FUSD/t"),
            ("BTC-USD", "/V/BTC-USD/t"),
            ("BTC USD", "/V/BTC~20USD/t"),
            ("BTC~2FUSD", "/V/BTC~7E2FUSD/t"),
            ("btc%2Fusd", "/V/btc~252Fusd/t"),
            ("*", "/V/~2A/t"),
            (" A\n", "/V/~20A~0A/t"),
            ("币", "/V/~E5~B8~81/t"),
            ("\0ü", "/V/~00~C3~BC/t"),
        ] {
            assert_eq!(fill("/V/{/s}/t", &[value]), expected);
        }
        assert!(!push_segment(&mut String::new(), "", ""));
    }

    #[test]
    fn holes_of_one_segment_are_kept_apart() {
        let template = "/V/{/base}-{/quote}/{/kind}";
        assert_eq!(fill(template, &["A-B", "C", "d-e"]), "/V/A~2DB-C/d-e");
        assert_eq!(fill(template, &["A", "B-C", "d-e"]), "/V/A-B~2DC/d-e");
        assert_ne!(
            fill("/V/{/a}A{/b}", &["/", "x"]),
            fill("/V/{/a}A{/b}", &["", "x"].map(|a| if a.is_empty() { "Ax" } else { a }))
        );
        for wrong in ["/V/{/a}{/b}", "/V/{/a}~{/b}", "/V/x{/a}y/{/a}{/b}"] {
            assert!(wrong.parse::<SubjectTemplate>().unwrap_err().contains("between two placeholders"), "{wrong}");
        }
        assert!("/V/{/a}/{/b}/x~{/c}".parse::<SubjectTemplate>().is_ok());
    }

    proptest::proptest! {
        /// Different values never make the same subject.
        #[test]
        fn different_values_make_different_subjects(
            a in ["[A-C~*/ü -]{1,3}", "[A-C~*/ü -]{1,3}", "[A-C~*/ü -]{1,3}"],
            b in ["[A-C~*/ü -]{1,3}", "[A-C~*/ü -]{1,3}", "[A-C~*/ü -]{1,3}"],
        ) {
            let (a, b) = (a.each_ref().map(String::as_str), b.each_ref().map(String::as_str));
            for template in ["/V/{/a}/{/b}/{/c}", "/V/{/a}-{/b}/{/c}", "/V/{/a}A{/b}B{/c}", "/V/{/a}-A{/b}-{/c}"] {
                proptest::prop_assert_eq!(fill(template, &a) == fill(template, &b), a == b);
            }
        }
    }
}
