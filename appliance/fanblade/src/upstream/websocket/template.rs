//! Texts with holes that values of a message fill: `/KRAKEN/{/symbol}/trade`.

use std::str::FromStr;

use super::pointer::Place;

/// Literal text and places in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(pub(super) Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Value(Place),
}

impl FromStr for Template {
    type Err = String;

    /// `{/` and `{^/` begin a hole; other braces are themselves, so that a template may be JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = [rest.find("{/"), rest.find("{^/")].into_iter().flatten().min() {
            let (before, hole) = rest.split_at(start);
            let Some(end) = hole.find('}') else {
                return Err(format!("`{text}`: the hole that begins with `{hole}` lacks its `}}`"));
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

/// A subject's template: what it makes is a subject, whatever fills its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubjectTemplate(pub(super) Template);

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
        match fanblade_worker::check_subject(&filled) {
            Ok(()) if !fanblade_worker::is_pattern(&filled) => Ok(SubjectTemplate(template)),
            Ok(()) => Err(format!("`{text}` would make a pattern; a segment cannot be `*` or `**`")),
            Err(error) => Err(format!("`{text}` makes no subject: {error}, as in \"/VENUE/{{/symbol}}/trade\"")),
        }
    }
}

/// Adds a value's text to a subject, within one segment: what cannot stand there becomes `-`, as in `BTC-USD` for
/// `BTC/USD`. Nothing to add: false.
pub(super) fn push_segment(out: &mut String, text: &str) -> bool {
    out.extend(text.chars().map(|c| if c.is_ascii_graphic() && c != '/' && c != '*' { c } else { '-' }));
    !text.is_empty()
}

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

    #[test]
    fn a_value_stays_within_its_segment() {
        let mut out = "/V/".to_owned();
        assert!(push_segment(&mut out, "BTC/USD *ü\n"));
        assert_eq!(out, "/V/BTC-USD----");
        assert!(!push_segment(&mut out, ""));
    }
}
