//! What there is to say about a venue: where it is, what we say to it, and what its messages mean. Whoever makes these
//! has checked them: ranges, that JSON is JSON, and that what belongs together is there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::book::BookFormat;
use super::pattern::{Pattern, Patterns, Replies};
use super::pointer::{Each, Place, Pointer};
use super::template::{SubjectTemplate, Template};
use super::value::TimeFormat;

/// A venue.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `ws://` or `wss://`.
    pub url: String,
    /// Sent in this order after each connection. JSON.
    pub subscribe: Vec<String>,
    /// Further ones of the opening request.
    pub headers: BTreeMap<String, String>,
    /// Certificates (PEM) that a `wss://` server's may be signed with, instead of those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// From the first packet to the answered upgrade.
    pub connect_max: Duration,
    /// Between our pings; none: there are none.
    pub ping_interval: Option<Duration>,
    /// The connection is given up after this long with nothing at all.
    pub idle_max: Duration,
    /// What is served is called stale after this long without a message; none: never.
    pub silent_max: Option<Duration>,
    /// The shortest wait before the next attempt.
    pub reconnect_min: Duration,
    /// The longest.
    pub reconnect_max: Duration,
    /// Bytes.
    pub message_len_max: usize,
    /// The name of the venue's numbering, which outlives connections.
    pub epoch: Option<String>,
    /// Texts that the venue wants to hear.
    pub send: Vec<PeriodicText>,
    /// What its messages mean.
    pub rules: Rules,
}

/// A text that the venue wants to hear every so often.
#[derive(Debug, Clone)]
pub struct PeriodicText {
    /// With `{count}`, from 1, and `{unix_ms}`, the time.
    pub text: String,
    /// From one to the next.
    pub interval: Duration,
}

/// What a venue's messages mean.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize), serde(default))]
pub struct Rules {
    /// Messages by which the venue says no.
    pub error: Patterns,
    /// Where they say it in words; none: the whole message.
    pub error_text: Option<Pointer>,
    /// The number of every message of a connection, without holes.
    pub sequence: Option<Pointer>,
    /// What to do where there is one.
    pub on_gap: OnGap,
    /// The venue's number of a message becomes `q`; none: we count.
    pub seq: Option<Pointer>,
    /// The numbers of messages outlive connections.
    pub is_venue_wide: bool,
    /// A rule is told of after it has published nothing for this long; none: never.
    #[cfg_attr(test, serde(skip))]
    pub silent_max: Option<Duration>,
    /// How messages say by a number what they are about.
    pub channels: Option<ChannelRule>,
    /// What answers our texts: signs of life, and nothing else.
    pub replies: Vec<Replies>,
    /// What the venue wants to hear when it has said something.
    pub answer: Vec<AnswerRule>,
    /// What becomes of messages. The first that matches takes one.
    pub map: Vec<MapRule>,
}

/// The venue announces channels, and then names them by what it called them.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct ChannelRule {
    /// The announcements.
    #[cfg_attr(test, serde(rename = "match"))]
    pub matches: Pattern,
    /// Where an announcement has the name.
    pub id: Pointer,
    /// Where messages have it.
    pub at: Pointer,
}

/// What the venue wants to hear when it has said something.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct AnswerRule {
    /// What it has said.
    #[cfg_attr(test, serde(rename = "match"))]
    pub matches: Pattern,
    /// What it wants to hear.
    pub text: Template,
}

/// What becomes of a kind of message.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct MapRule {
    /// The messages.
    #[cfg_attr(test, serde(rename = "match"))]
    pub matches: Pattern,
    /// Where the elements are that have values; none: the message is the one element.
    #[cfg_attr(test, serde(default))]
    pub each: Option<Each>,
    /// The subject of an element.
    pub subject: SubjectTemplate,
    /// The value, or the book or its change; none: the whole element.
    #[cfg_attr(test, serde(default))]
    pub data: Option<Place>,
    /// When it happened; none: when it came.
    #[cfg_attr(test, serde(default))]
    pub ts: Option<Place>,
    /// How that is written.
    #[cfg_attr(test, serde(default = "tests::rfc3339"))]
    pub ts_format: TimeFormat,
    /// The number of the element within its subject, without holes.
    #[cfg_attr(test, serde(default))]
    pub sequence: Option<Place>,
    /// Where elements have several numbers: the first of them, `sequence` being the last.
    #[cfg_attr(test, serde(default))]
    pub sequence_first: Option<Place>,
    /// The last number of the element before.
    #[cfg_attr(test, serde(default))]
    pub sequence_previous: Option<Place>,
    /// How long the numbers last.
    #[cfg_attr(test, serde(default))]
    pub sequence_scope: Scope,
    /// False: the elements are no values, but say with `sequence` which number the subject has got to.
    #[cfg_attr(test, serde(default = "tests::yes"))]
    pub publish: bool,
    /// The messages are an order book and its changes; the value is the book.
    #[cfg_attr(test, serde(default))]
    pub book: Option<BookFormat>,
    /// Where the whole book is to be had, for books of which only changes are sent.
    #[cfg_attr(test, serde(default))]
    pub book_snapshot: Option<Template>,
    /// How many levels of a side were subscribed.
    #[cfg_attr(test, serde(default = "tests::ten"))]
    pub book_depth: usize,
    /// How many levels of a side are passed on.
    #[cfg_attr(test, serde(default = "tests::ten"))]
    pub book_levels: usize,
    /// What to do where an element is missing.
    #[cfg_attr(test, serde(default))]
    pub on_gap: OnGap,
    /// Sent in this order where `on_gap` says so.
    #[cfg_attr(test, serde(default))]
    pub resubscribe: Vec<Template>,
}

/// What to do about messages that are missing, beyond telling subscribers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// Nothing.
    #[default]
    Tell,
    /// Send what `resubscribe` says.
    Resubscribe,
    /// Connect anew.
    Reconnect,
}

/// How long a numbering lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// It is the same for every connection.
    #[default]
    Venue,
    /// Each connection has its own.
    Connection,
}

#[cfg(test)]
mod tests {
    //! Rules as the tests of this crate write them: with the keys of the configuration.

    use super::*;

    impl Default for Rules {
        fn default() -> Self {
            Self {
                error: Patterns::default(),
                error_text: None,
                sequence: None,
                on_gap: OnGap::Tell,
                seq: None,
                is_venue_wide: false,
                silent_max: None,
                channels: None,
                replies: Vec::new(),
                answer: Vec::new(),
                map: Vec::new(),
            }
        }
    }

    pub(super) fn rfc3339() -> TimeFormat {
        TimeFormat::Rfc3339
    }

    pub(super) fn yes() -> bool {
        true
    }

    pub(super) fn ten() -> usize {
        10
    }
}
