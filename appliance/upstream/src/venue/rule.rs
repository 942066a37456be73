//! A rule of the settings, ready to be applied: each of its places has a slot in the plans that read messages.

use std::fmt::Write as _;

use fanblade_feed::UnixNs;

use super::book::BookFormat;
use super::extract::{Found, Plan, Slot, elements};
use super::pattern::{Expected, Pattern};
use super::pointer::{Origin, Place, Pointer};
use super::sequence::Numbers;
use super::settings::{MapRule, OnGap, Scope};
use super::template::{Part, SubjectPart, Template, push_segment};
use super::value::{self, TimeFormat};

/// A rule: what to do with a kind of message.
#[derive(Debug)]
pub(super) struct Rule {
    /// The rule's index in the settings, from 0.
    pub(super) index: usize,
    matches: Matcher,
    /// From the message down to the elements: for each level, the slot of its array and the plan for its elements.
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

/// Decides which messages a rule is for.
#[derive(Debug, Default)]
pub(super) struct Matcher(Vec<(Source, Expected)>);

/// How a book is kept.
#[derive(Debug)]
pub(super) struct BookRule {
    pub(super) format: BookFormat,
    pub(super) depth: usize,
    pub(super) levels: usize,
    /// The field that tells a snapshot from a change.
    kind: Option<Source>,
    /// The address from which the whole book is fetched.
    snapshot: Option<Filling>,
}

/// One element of a message, and the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'f, 'a> {
    pub(super) outer: &'f Found<'a>,
    /// The values of the announcement of the message's channel.
    pub(super) channel: Option<&'f Found<'a>>,
    pub(super) inner: &'f Found<'a>,
    pub(super) text: &'a str,
}

#[derive(Debug)]
struct Sequence {
    last: Source,
    first: Option<Source>,
    previous: Option<Source>,
}

/// A place, and the slot that will hold its value.
#[derive(Debug)]
struct Source {
    place: Place,
    slot: Slot,
    within: Within,
}

/// Which of the results the slot belongs to.
#[derive(Debug, Clone, Copy)]
enum Within {
    Message,
    Element,
    Channel,
}

/// The values that are wanted of every message, and of the announcements of channels.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub(super) message: Plan,
    pub(super) channel: Plan,
}

impl Plans {
    /// Adds a place in a message as a whole, or in an announcement.
    fn source(&mut self, place: &Place) -> Source {
        let (plan, within) = match place.origin {
            Origin::Channel => (&mut self.channel, Within::Channel),
            Origin::Element | Origin::Message => (&mut self.message, Within::Message),
        };
        Source { place: place.clone(), slot: plan.add(&place.pointer), within }
    }
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
    pub(super) fn new(pattern: &Pattern, plans: &mut Plans) -> Matcher {
        Matcher(pattern.0.iter().map(|(place, expected)| (plans.source(place), expected.clone())).collect())
    }

    pub(super) fn matches(&self, message: Element<'_, '_>) -> bool {
        self.0.iter().all(|(source, expected)| expected.is(source.find(message).ok()))
    }
}

impl Rule {
    /// Makes a rule, and adds the values that it needs to `plans`.
    pub(super) fn new(index: usize, settings: &MapRule, plans: &mut Plans) -> Rule {
        // Each level of arrays gets a plan for its elements; the last level holds the rule's elements.
        let mut levels: Vec<(Slot, Plan)> = Vec::new();
        for array in settings.each.iter().flat_map(|each| &each.0) {
            let before = levels.last_mut().map_or(&mut plans.message, |(_, plan)| plan);
            let slot = before.add(array);
            levels.push((slot, Plan::default()));
        }
        let matches = Matcher::new(&settings.matches, plans);
        // A place in an element is read by the last level's plan, any other place by a plan for whole messages.
        let mut source = |place: &Place| match levels.last_mut() {
            Some((_, inner)) if place.origin == Origin::Element => {
                Source { place: place.clone(), slot: inner.add(&place.pointer), within: Within::Element }
            }
            _ => plans.source(place),
        };
        let subject_piece = |part: &SubjectPart| match part {
            SubjectPart::Literal(text) => SubjectPiece::Literal(text.clone()),
            SubjectPart::Value { place, separators } => {
                SubjectPiece::Value { source: source(place), separators: separators.clone() }
            }
        };
        let subject = settings.subject.0.iter().map(subject_piece).collect();
        let mut filling = |template: &Template| {
            let piece = |part: &Part| match part {
                Part::Literal(text) => Piece::Literal(text.clone()),
                Part::Value(place) => Piece::Value(source(place)),
            };
            Filling(template.0.iter().map(piece).collect())
        };
        let resubscribe = settings.resubscribe.iter().map(&mut filling).collect();
        let snapshot = settings.book_snapshot.as_ref().map(&mut filling);
        let sequence = settings.sequence.as_ref().map(|last| Sequence {
            last: source(last),
            first: settings.sequence_first.as_ref().map(&mut source),
            previous: settings.sequence_previous.as_ref().map(&mut source),
        });
        let book = settings.book.as_ref().map(|format| BookRule {
            format: *format,
            depth: settings.book_depth,
            levels: settings.book_levels,
            // This field is always in the message, not in the element.
            kind: format
                .kind_name()
                .map(|name| source(&Place { origin: Origin::Message, pointer: Pointer(vec![name.to_owned()]) })),
            snapshot,
        });
        Rule {
            index,
            subject,
            resubscribe,
            sequence,
            book,
            data: settings.data.as_ref().map(&mut source),
            ts: settings.ts.as_ref().map(|place| (source(place), settings.ts_format)),
            scope: settings.sequence_scope,
            is_published: settings.publish,
            on_gap: settings.on_gap,
            matches,
            levels,
        }
    }

    pub(super) fn matches(&self, message: Element<'_, '_>) -> bool {
        self.matches.matches(message)
    }

    /// Passes each element of a message to `sink`, and anything that cannot be an element to `fault`.
    pub(super) fn elements<'a>(
        &self,
        message: Element<'_, 'a>,
        sink: &mut dyn FnMut(Element<'_, 'a>) -> Result<(), String>,
        fault: &mut dyn FnMut(String),
    ) {
        descend(&self.levels, message, sink, fault);
    }

    /// Writes the element's subject, which may be invalid: its names may be too long.
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

    /// The time of the element's event; none: the venue does not say.
    pub(super) fn ts_ns(&self, element: Element<'_, '_>) -> Result<Option<UnixNs>, String> {
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

    /// Passes to `sink` the texts that ask the venue to begin anew with the element's subject.
    pub(super) fn resubscribe(&self, element: Element<'_, '_>, sink: &mut dyn FnMut(&str)) -> Result<(), String> {
        let mut text = String::new();
        for filling in &self.resubscribe {
            text.clear();
            // The value goes between quotes as it came, escapes included.
            filling.fill(element, &mut text, &mut |out, value| out.push_str(value::unquoted(value)))?;
            sink(&text);
        }
        Ok(())
    }
}

/// The answer to messages of a kind.
#[derive(Debug)]
pub(super) struct Answer {
    matches: Matcher,
    text: Filling,
}

impl Answer {
    pub(super) fn new(pattern: &Pattern, template: &Template, plans: &mut Plans) -> Answer {
        let matches = Matcher::new(pattern, plans);
        let piece = |part: &Part| match part {
            Part::Literal(text) => Piece::Literal(text.clone()),
            Part::Value(place) => Piece::Value(plans.source(place)),
        };
        Answer { matches, text: Filling(template.0.iter().map(piece).collect()) }
    }

    /// The answer to this message; `None` if the pattern does not match.
    pub(super) fn to(&self, message: Element<'_, '_>) -> Option<Result<String, String>> {
        self.matches.matches(message).then(|| {
            let mut text = String::new();
            self.text.fill(message, &mut text, &mut |out, value| out.push_str(value::unquoted(value)))?;
            Ok(text)
        })
    }
}

impl Filling {
    fn fill(
        &self,
        element: Element<'_, '_>,
        out: &mut String,
        push: &mut dyn FnMut(&mut String, &str),
    ) -> Result<(), String> {
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => out.push_str(literal),
                Piece::Value(source) => push(out, source.find(element)?),
            }
        }
        Ok(())
    }
}

impl BookRule {
    /// The field that tells a snapshot from a change, if the format has it and the message does.
    pub(super) fn kind<'a>(&self, element: Element<'_, 'a>) -> Option<&'a str> {
        self.kind.as_ref().and_then(|kind| kind.find(element).ok())
    }

    /// The address of the whole book, if it must be fetched.
    pub(super) fn snapshot(&self, element: Element<'_, '_>) -> Result<Option<String>, String> {
        let Some(filling) = &self.snapshot else { return Ok(None) };
        let mut url = String::new();
        filling.fill(element, &mut url, &mut |out, value| push_url(out, &value::text(value).unwrap_or_default()))?;
        Ok(Some(url))
    }
}

/// Appends a value to an address: escapes all characters that are not unreserved (RFC 3986, 2.3).
fn push_url(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

impl Source {
    fn find<'a>(&self, element: Element<'_, 'a>) -> Result<&'a str, String> {
        let found = match self.within {
            Within::Message => Some(element.outer),
            Within::Element => Some(element.inner),
            Within::Channel => element.channel,
        };
        found.and_then(|found| found.value(self.slot)).ok_or_else(|| format!("there is no {}", self.place))
    }

    fn is_no(&self, what: &str) -> String {
        format!("{} is no {what}", self.place)
    }
}

fn descend<'a>(
    levels: &[(Slot, Plan)],
    element: Element<'_, 'a>,
    sink: &mut dyn FnMut(Element<'_, 'a>) -> Result<(), String>,
    fault: &mut dyn FnMut(String),
) {
    let Some(((slot, plan), rest)) = levels.split_first() else {
        if let Err(error) = sink(element) {
            fault(error);
        }
        return;
    };
    let array = element.inner.value(*slot);
    let Some(array) = array else { return fault("there is no array where `each` says".to_owned()) };
    let each = elements(array, &mut |text| match plan.extract(text) {
        Ok(found) => descend(rest, Element { inner: &found, text, ..element }, sink, fault),
        Err(error) => fault(error.to_string()),
    });
    if let Err(error) = each {
        fault(format!("where `each` says: {error}"));
    }
}
