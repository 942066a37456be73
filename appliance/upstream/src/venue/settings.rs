//! The settings of a venue: its address, the texts that we send, and the meaning of its messages. Whoever makes these
//! has checked them: ranges, that JSON is JSON, and that settings which depend on each other are complete.

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
    /// JSON texts, sent in this order after each connection.
    pub subscribe: Vec<String>,
    /// Further headers of the opening request.
    pub headers: BTreeMap<String, String>,
    /// Certificates (PEM) of the issuers to trust for a `wss://` server, instead of those that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// How long connecting may take, from the first packet to the answered upgrade.
    pub connect_max: Duration,
    /// The time between our pings; none: we send no pings.
    pub ping_interval: Option<Duration>,
    /// The connection is given up after this long without any message, ping or pong.
    pub idle_max: Duration,
    /// The feed is called stale after this long without a message; none: never.
    pub silent_max: Option<Duration>,
    /// The shortest wait before the next attempt.
    pub reconnect_min: Duration,
    /// The longest wait before the next attempt.
    pub reconnect_max: Duration,
    /// The most bytes of a message.
    pub message_len_max: usize,
    /// The name of the venue's numbering, which outlives connections.
    pub epoch: Option<String>,
    /// Texts that the venue must receive at intervals.
    pub send: Vec<PeriodicText>,
    /// The meaning of the venue's messages.
    pub rules: Rules,
}

/// A text that the venue must receive at intervals.
#[derive(Debug, Clone)]
pub struct PeriodicText {
    /// The text; `{count}` in it counts from 1, `{unix_ms}` is the time.
    pub text: String,
    /// The time from one sending to the next.
    pub interval: Duration,
}

/// The meaning of a venue's messages.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize), serde(default))]
pub struct Rules {
    /// Messages with which the venue refuses something.
    pub error: Patterns,
    /// Where these messages have their text; none: the whole message is the text.
    pub error_text: Option<Pointer>,
    /// The number of every message of a connection, without holes.
    pub sequence: Option<Pointer>,
    /// What to do about a gap in these numbers.
    pub on_gap: OnGap,
    /// The venue's number of a message, which becomes `q`; none: the blade counts.
    pub seq: Option<Pointer>,
    /// The numbers of messages outlive connections.
    pub is_venue_wide: bool,
    /// A rule is reported after it has published nothing for this long; none: never.
    #[cfg_attr(test, serde(skip))]
    pub silent_max: Option<Duration>,
    /// How a number in a message names its channel.
    pub channels: Option<ChannelRule>,
    /// Replies to our texts: signs of life, and nothing else.
    pub replies: Vec<Replies>,
    /// Messages of the venue that we must answer.
    pub answer: Vec<AnswerRule>,
    /// The rules for messages. The first rule that matches takes a message.
    pub map: Vec<MapRule>,
}

/// The venue announces channels with a name each, and then refers to them by these names.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct ChannelRule {
    /// The announcements.
    #[cfg_attr(test, serde(rename = "match"))]
    pub matches: Pattern,
    /// Where an announcement has the channel's name.
    pub id: Pointer,
    /// Where messages have the channel's name.
    pub at: Pointer,
}

/// A message of the venue that we must answer.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct AnswerRule {
    /// The venue's messages.
    #[cfg_attr(test, serde(rename = "match"))]
    pub matches: Pattern,
    /// Our answer.
    pub text: Template,
}

/// A rule: what to do with a kind of message.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct MapRule {
    /// The messages that the rule is for.
    #[cfg_attr(test, serde(rename = "match"))]
    pub matches: Pattern,
    /// Where the elements with values are; none: the message is the only element.
    #[cfg_attr(test, serde(default))]
    pub each: Option<Each>,
    /// The subject of an element.
    pub subject: SubjectTemplate,
    /// Where the value is, or the book or its change; none: the whole element.
    #[cfg_attr(test, serde(default))]
    pub data: Option<Place>,
    /// Where the time of the event is; none: the time of arrival counts.
    #[cfg_attr(test, serde(default))]
    pub ts: Option<Place>,
    /// How the venue writes that time.
    #[cfg_attr(test, serde(default = "tests::rfc3339"))]
    pub ts_format: TimeFormat,
    /// The number of the element within its subject, without holes.
    #[cfg_attr(test, serde(default))]
    pub sequence: Option<Place>,
    /// If elements have several numbers: the first number; `sequence` is the last.
    #[cfg_attr(test, serde(default))]
    pub sequence_first: Option<Place>,
    /// The last number of the element before.
    #[cfg_attr(test, serde(default))]
    pub sequence_previous: Option<Place>,
    /// How long the numbering lasts.
    #[cfg_attr(test, serde(default))]
    pub sequence_scope: Scope,
    /// False: the elements are no values, but say with `sequence` which number the subject has reached.
    #[cfg_attr(test, serde(default = "tests::yes"))]
    pub publish: bool,
    /// The messages are an order book and its changes; the value is the book.
    #[cfg_attr(test, serde(default))]
    pub book: Option<BookFormat>,
    /// The address of the whole book, for venues that send only changes.
    #[cfg_attr(test, serde(default))]
    pub book_snapshot: Option<Template>,
    /// How many levels of each side were subscribed.
    #[cfg_attr(test, serde(default = "tests::ten"))]
    pub book_depth: usize,
    /// How many levels of each side are passed on.
    #[cfg_attr(test, serde(default = "tests::ten"))]
    pub book_levels: usize,
    /// What to do if an element is missing.
    #[cfg_attr(test, serde(default))]
    pub on_gap: OnGap,
    /// Texts that are sent in this order if `on_gap` says so.
    #[cfg_attr(test, serde(default))]
    pub resubscribe: Vec<Template>,
}

/// What to do about messages that are missing, beyond telling subscribers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// Do nothing.
    #[default]
    Tell,
    /// Send the texts of `resubscribe`.
    Resubscribe,
    /// Connect anew.
    Reconnect,
}

/// How long a numbering lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The numbering is the same for every connection.
    #[default]
    Venue,
    /// Each connection has its own numbering.
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
