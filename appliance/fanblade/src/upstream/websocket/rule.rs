//! A rule of the configuration, ready to be applied: its places found in the plans that read messages.

use crate::config::{MapConfig, OnGap, Scope};

use super::book::BookFormat;
use super::extract::{Found, Plan, Slot, elements};
use super::pattern::{Expected, Pattern};
use super::pointer::{Place, Pointer};
use super::sequence::Numbers;
use super::template::{Part, SubjectPart, Template, push_segment};
use super::value::{self, TimeFormat};

/// What becomes of a kind of message.
#[derive(Debug)]
pub(super) struct Rule {
    matches: Matcher,
    /// From the message down to the elements: the array in what was read before, and how its elements are read.
    levels: Vec<(Slot, Plan)>,
    subject: Vec<SubjectPiece>,
    data: Option<Source>,
    ts: Option<(Source, TimeFormat)>,
    sequence: Option<Sequence>,
    pub(super) scope: Scope,
    pub(super) is_published: bool,
    pub(super) book: Option<BookRule>,
    pub(super) on_gap: OnGap,
    resubscribe: Vec<Filling>,
}

/// Which messages are meant.
#[derive(Debug, Default)]
pub(super) struct Matcher(Vec<(Slot, Expected)>);

/// How a book is kept.
#[derive(Debug)]
pub(super) struct BookRule {
    pub(super) format: BookFormat,
    pub(super) depth: usize,
    pub(super) levels: usize,
    /// Where `"snapshot"` stands.
    kind: Source,
}

/// One element of a message, and the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'f, 'a> {
    pub(super) outer: &'f Found<'a>,
    pub(super) inner: &'f Found<'a>,
    pub(super) text: &'a str,
}

#[derive(Debug)]
struct Sequence {
    last: Source,
    first: Option<Source>,
    previous: Option<Source>,
}

/// A place, and where what stands there will be found.
#[derive(Debug)]
struct Source {
    place: Place,
    slot: Slot,
    is_outer: bool,
}

#[derive(Debug)]
struct Filling(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Literal(String),
    Value(Source),
}

#[derive(Debug)]
enum SubjectPiece {
    Literal(String),
    Value { source: Source, separators: String },
}

impl Matcher {
    pub(super) fn new(pattern: &Pattern, plan: &mut Plan) -> Matcher {
        Matcher(pattern.0.iter().map(|(pointer, expected)| (plan.add(pointer), expected.clone())).collect())
    }

    pub(super) fn matches(&self, found: &Found<'_>) -> bool {
        self.0.iter().all(|(slot, expected)| expected.is(found.value(*slot)))
    }
}

impl Rule {
    /// Adds to `plan` what the rule wants of a message.
    pub(super) fn new(config: &MapConfig, plan: &mut Plan) -> Rule {
        let mut levels: Vec<(Slot, Plan)> = Vec::new();
        for array in config.each.iter().flat_map(|each| &each.get_ref().0) {
            let before = levels.last_mut().map_or(&mut *plan, |(_, plan)| plan);
            let slot = before.add(array);
            levels.push((slot, Plan::default()));
        }
        let matches = Matcher::new(&config.matches, plan);
        let mut source = |place: &Place| match levels.last_mut() {
            Some((_, inner)) if !place.is_outer => {
                Source { place: place.clone(), slot: inner.add(&place.pointer), is_outer: false }
            }
            _ => Source { place: place.clone(), slot: plan.add(&place.pointer), is_outer: true },
        };
        let subject_piece = |part: &SubjectPart| match part {
            SubjectPart::Literal(text) => SubjectPiece::Literal(text.clone()),
            SubjectPart::Value { place, separators } => {
                SubjectPiece::Value { source: source(place), separators: separators.clone() }
            }
        };
        let subject = config.subject.0.iter().map(subject_piece).collect();
        let mut filling = |template: &Template| {
            let piece = |part: &Part| match part {
                Part::Literal(text) => Piece::Literal(text.clone()),
                Part::Value(place) => Piece::Value(source(place)),
            };
            Filling(template.0.iter().map(piece).collect())
        };
        let resubscribe = config.resubscribe.iter().map(|template| filling(template.get_ref())).collect();
        let sequence = config.sequence.as_ref().map(|last| Sequence {
            last: source(last),
            first: config.sequence_first.as_ref().map(|place| source(place.get_ref())),
            previous: config.sequence_previous.as_ref().map(|place| source(place.get_ref())),
        });
        let book = config.book.as_ref().map(|format| BookRule {
            format: *format.get_ref(),
            depth: usize::try_from(*config.book_depth.get_ref()).unwrap_or(usize::MAX),
            levels: usize::try_from(*config.book_levels.get_ref()).unwrap_or(usize::MAX),
            // In both formats it is the message that says what it is.
            kind: source(&Place { is_outer: true, pointer: Pointer(vec!["type".to_owned()]) }),
        });
        Rule {
            subject,
            resubscribe,
            sequence,
            book,
            data: config.data.as_ref().map(|place| source(place.get_ref())),
            ts: config.ts.as_ref().map(|place| (source(place), config.ts_format)),
            scope: config.sequence_scope,
            is_published: *config.publish.get_ref(),
            on_gap: *config.on_gap.get_ref(),
            matches,
            levels,
        }
    }

    pub(super) fn matches(&self, found: &Found<'_>) -> bool {
        self.matches.matches(found)
    }

    /// Passes each element of a message to `sink`, and whatever cannot be one to `fault`.
    pub(super) fn elements<'a>(
        &self,
        outer: &Found<'a>,
        text: &'a str,
        sink: &mut dyn FnMut(Element<'_, 'a>) -> Result<(), String>,
        fault: &mut dyn FnMut(String),
    ) {
        descend(&self.levels, outer, outer, text, sink, fault);
    }

    /// The element's subject, whether or not it is one in the end: its names may be too long.
    pub(super) fn subject(&self, element: Element<'_, '_>, out: &mut String) -> Result<(), String> {
        out.clear();
        for piece in &self.subject {
            match piece {
                SubjectPiece::Literal(text) => out.push_str(text),
                SubjectPiece::Value { source, separators } => {
                    let text = value::text(source.find(element)?).ok_or_else(|| source.is_no("text"))?;
                    if !push_segment(out, &text, separators) {
                        return Err(source.is_no("part of a subject: it is empty"));
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn data<'a>(&self, element: Element<'_, 'a>) -> Result<&'a str, String> {
        self.data.as_ref().map_or(Ok(element.text), |source| source.find(element))
    }

    /// When it happened; none: the venue does not say.
    pub(super) fn ts_ns(&self, element: Element<'_, '_>) -> Result<Option<u64>, String> {
        let Some((source, format)) = &self.ts else { return Ok(None) };
        let time = value::time_ns(source.find(element)?, *format);
        time.map(Some).ok_or_else(|| source.is_no(&format!("time ({format:?})")))
    }

    pub(super) fn numbers(&self, element: Element<'_, '_>) -> Result<Option<Numbers>, String> {
        let Some(sequence) = &self.sequence else { return Ok(None) };
        let number = |source: &Source| value::number(source.find(element)?).ok_or_else(|| source.is_no("number"));
        let last = number(&sequence.last)?;
        let first = sequence.first.as_ref().map_or(Ok(last), number)?;
        let previous = sequence.previous.as_ref().map(number).transpose()?;
        match first <= last {
            true => Ok(Some(Numbers { first, last, previous })),
            false => Err(format!("the first number, {first}, is above the last, {last}")),
        }
    }

    /// What asks the venue to begin anew with the element's subject.
    pub(super) fn resubscribe(&self, element: Element<'_, '_>, sink: &mut dyn FnMut(&str)) -> Result<(), String> {
        let mut text = String::new();
        for filling in &self.resubscribe {
            text.clear();
            for piece in &filling.0 {
                match piece {
                    Piece::Literal(literal) => text.push_str(literal),
                    // It stands between quotes there as it does here, escapes included.
                    Piece::Value(source) => text.push_str(value::unquoted(source.find(element)?)),
                }
            }
            sink(&text);
        }
        Ok(())
    }
}

impl BookRule {
    pub(super) fn is_snapshot(&self, element: Element<'_, '_>) -> Result<bool, String> {
        Ok(self.kind.find(element)? == "\"snapshot\"")
    }
}

impl Source {
    fn find<'a>(&self, element: Element<'_, 'a>) -> Result<&'a str, String> {
        let found = if self.is_outer { element.outer } else { element.inner };
        found.value(self.slot).ok_or_else(|| format!("there is no {}", self.place))
    }

    fn is_no(&self, what: &str) -> String {
        format!("{} is no {what}", self.place)
    }
}

fn descend<'a>(
    levels: &[(Slot, Plan)],
    outer: &Found<'a>,
    inner: &Found<'a>,
    text: &'a str,
    sink: &mut dyn FnMut(Element<'_, 'a>) -> Result<(), String>,
    fault: &mut dyn FnMut(String),
) {
    let Some(((slot, plan), rest)) = levels.split_first() else {
        if let Err(error) = sink(Element { outer, inner, text }) {
            fault(error);
        }
        return;
    };
    let Some(array) = inner.value(*slot) else { return fault("there is no array where `each` says".to_owned()) };
    let each = elements(array, &mut |text| match plan.extract(text) {
        Ok(found) => descend(rest, outer, &found, text, sink, fault),
        Err(error) => fault(error.to_string()),
    });
    if let Err(error) = each {
        fault(format!("where `each` says: {error}"));
    }
}
