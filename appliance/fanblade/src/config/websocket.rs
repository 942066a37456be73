//! `[feed.websocket]`: another WebSocket server, such as a venue's. docs/UPSTREAM.md explains the keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fanblade_upstream::venue::{
    AnswerRule, BookFormat, ChannelRule, Each, MapRule, OnGap, Origin, Pattern, Patterns, PeriodicText, Place, Pointer,
    Replies, Rules, Scope, Settings, SubjectTemplate, Template, TimeFormat,
};
use serde::Deserialize;
use serde_spanned::Spanned;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Uri};

use super::checks::{Fault, fault, in_range, map, unplaced};
use super::units::{Bytes, Millis};

/// `[feed.websocket]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebsocketConfig {
    /// `ws://` or `wss://`. Empty: not configured.
    url: Spanned<String>,
    /// JSON texts, sent in this order after each connection.
    subscribe: Vec<Spanned<String>>,
    /// Additional headers of the opening request.
    headers: Spanned<BTreeMap<String, String>>,
    /// Certificates (PEM) of the issuers that are trusted for a `wss://` server, instead of those that browsers trust.
    ca_file: Option<PathBuf>,
    /// Limit from the first packet to the answered upgrade.
    connect_ms_max: Spanned<Millis>,
    /// Interval between our pings; 0: none.
    ping_interval_ms: Spanned<Millis>,
    /// The connection is given up when nothing at all has come for this long.
    idle_ms_max: Spanned<Millis>,
    /// The feed is called stale when no message has come for this long; 0: never.
    silent_ms_max: Spanned<Millis>,
    reconnect_ms_min: Spanned<Millis>,
    reconnect_ms_max: Spanned<Millis>,
    message_len_max: Spanned<Bytes>,
    /// Patterns of the messages by which the venue refuses something.
    error: Spanned<Patterns>,
    /// Where such a message gives the reason; none: the whole message.
    error_text: Option<Pointer>,
    /// Where each message of a connection has its number; the numbers have no gaps.
    sequence: Option<Pointer>,
    /// What to do at a gap in `sequence`.
    on_gap: Spanned<OnGap>,
    /// Where the venue numbers its messages; the number becomes `q`. None: we count.
    seq: Option<Spanned<Pointer>>,
    /// The name of the venue's numbering, if the numbering outlives connections.
    epoch: Option<Spanned<String>>,
    /// A rule that has published nothing for this long is reported; 0: never.
    rule_silent_ms_max: Spanned<Millis>,
    /// How messages name their channel by a number.
    channels: Option<Spanned<ChannelsConfig>>,
    send: Vec<SendConfig>,
    answer: Vec<AnswerConfig>,
    map: Vec<MapConfig>,
}

/// `[feed.websocket.channels]`: the venue announces channels with an id, and later messages name the channel by that
/// id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelsConfig {
    /// Which messages are announcements.
    #[serde(rename = "match")]
    matches: Pattern,
    /// Where an announcement has the id.
    id: Pointer,
    /// Where messages have the id.
    at: Pointer,
}

/// `[[feed.websocket.send]]`: a text that the venue expects at intervals.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SendConfig {
    /// May contain `{count}`, which counts from 1, and `{unix_ms}`, the time.
    text: Spanned<String>,
    every_ms: Spanned<Millis>,
    /// Which messages answer it: they are signs of life only.
    #[serde(default)]
    reply: Option<Spanned<Replies>>,
}

/// `[[feed.websocket.answer]]`: what to send when the venue says something.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerConfig {
    #[serde(rename = "match")]
    matches: Spanned<Pattern>,
    text: Spanned<Template>,
}

/// `[[feed.websocket.map]]`: how one kind of message is mapped. The first rule that matches applies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MapConfig {
    #[serde(rename = "match")]
    matches: Spanned<Pattern>,
    /// Where the array of elements is; none: the message is the one element.
    #[serde(default)]
    each: Option<Spanned<Each>>,
    subject: SubjectTemplate,
    /// Where the value is, or the book or its change; none: the whole element.
    #[serde(default)]
    data: Option<Spanned<Place>>,
    /// Where the time of the event is; none: the time of arrival counts.
    #[serde(default)]
    ts: Option<Place>,
    #[serde(default = "rfc3339")]
    ts_format: TimeFormat,
    /// Where the element has its number within its subject; the numbers have no gaps.
    #[serde(default)]
    sequence: Option<Place>,
    /// Where elements have several numbers: the first of them; `sequence` is the last.
    #[serde(default)]
    sequence_first: Option<Spanned<Place>>,
    /// Where the last number of the previous element is.
    #[serde(default)]
    sequence_previous: Option<Spanned<Place>>,
    #[serde(default)]
    sequence_scope: Scope,
    /// False: the elements carry no values; their `sequence` only says which number the subject has reached.
    #[serde(default = "yes")]
    publish: Spanned<bool>,
    /// The messages are an order book and its changes; the value is the whole book.
    #[serde(default)]
    book: Option<Spanned<BookFormat>>,
    /// Where to fetch the whole book, for venues that send only changes.
    #[serde(default)]
    book_snapshot: Option<Spanned<Template>>,
    /// How many levels of a side were subscribed.
    #[serde(default = "ten")]
    book_depth: Spanned<u64>,
    /// How many levels of a side are published.
    #[serde(default = "ten")]
    book_levels: Spanned<u64>,
    #[serde(default = "tell")]
    on_gap: Spanned<OnGap>,
    /// Sent in this order when `on_gap` is "resubscribe".
    #[serde(default)]
    resubscribe: Vec<Spanned<Template>>,
}

impl WebsocketConfig {
    /// The validated configuration as settings.
    pub(crate) fn settings(&self) -> Settings {
        let text = |send: &SendConfig| PeriodicText {
            text: send.text.get_ref().clone(),
            interval: send.every_ms.get_ref().duration(),
        };
        let if_any = |ms: &Spanned<Millis>| Some(ms.get_ref().duration()).filter(|duration| *duration > Duration::ZERO);
        Settings {
            url: self.url.get_ref().clone(),
            subscribe: self.subscribe.iter().map(|message| message.get_ref().clone()).collect(),
            headers: self.headers.get_ref().clone(),
            ca_file: self.ca_file.clone(),
            connect_max: self.connect_ms_max.get_ref().duration(),
            ping_interval: if_any(&self.ping_interval_ms),
            idle_max: self.idle_ms_max.get_ref().duration(),
            silent_max: if_any(&self.silent_ms_max),
            reconnect_min: self.reconnect_ms_min.get_ref().duration(),
            reconnect_max: self.reconnect_ms_max.get_ref().duration(),
            message_len_max: self.message_len_max.get_ref().len(),
            epoch: self.epoch.as_ref().map(|name| name.get_ref().clone()),
            send: self.send.iter().map(text).collect(),
            rules: Rules {
                error: self.error.get_ref().clone(),
                error_text: self.error_text.clone(),
                sequence: self.sequence.clone(),
                on_gap: *self.on_gap.get_ref(),
                seq: self.seq.as_ref().map(|pointer| pointer.get_ref().clone()),
                is_venue_wide: self.epoch.is_some(),
                silent_max: if_any(&self.rule_silent_ms_max),
                channels: self.channels.as_ref().map(|channels| channels.get_ref().rule()),
                replies: self
                    .send
                    .iter()
                    .filter_map(|send| send.reply.as_ref())
                    .map(|reply| reply.get_ref().clone())
                    .collect(),
                answer: self.answer.iter().map(AnswerConfig::rule).collect(),
                map: self.map.iter().map(MapConfig::rule).collect(),
            },
        }
    }

    /// `is_used`: this is the configured feed, so that it must be complete.
    pub(super) fn validate(&self, is_used: bool) -> Result<(), Fault> {
        // While another feed is configured, this section may be incomplete.
        let url = self.url.get_ref();
        if is_used && url.is_empty() {
            return fault(&self.url, "[feed.websocket] has no `url`".to_owned(), "url = \"wss://HOST/PATH\"");
        }
        if is_used && self.map.is_empty() {
            let hint = "a [[feed.websocket.map]] for each kind of message; docs/examples/ has some for known venues";
            return fault(&self.url, "no message of the server is mapped to a subject".to_owned(), hint);
        }
        if !url.is_empty() && !is_websocket(url) {
            let hint = "ws://HOST[:PORT]/PATH, or wss:// for TLS";
            return fault(&self.url, format!("`{url}` is not the address of a WebSocket server"), hint);
        }
        // What is sent must be well-formed.
        for message in &self.subscribe {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(message.get_ref()) {
                let hint = "in '…', TOML leaves quotes and backslashes as they are";
                return fault(message, format!("not JSON: {error}"), hint);
            }
        }
        for (name, value) in self.headers.get_ref() {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return fault(
                    &self.headers,
                    format!("`{name}: {value}` is not an HTTP header"),
                    "{ \"Name\" = \"value\" }",
                );
            }
        }
        // Ranges; 0 is allowed where it switches something off.
        let millis = |value: &Spanned<Millis>, min| in_range(&map(value, |ms| ms.0), min, 86_400_000, "milliseconds");
        millis(&self.connect_ms_max, 100)?;
        millis(&self.ping_interval_ms, 0)?;
        millis(&self.idle_ms_max, 100)?;
        millis(&self.silent_ms_max, 0)?;
        millis(&self.rule_silent_ms_max, 0)?;
        for send in &self.send {
            if send.text.get_ref().is_empty() || send.text.get_ref().len() > SENT_LEN_MAX {
                return fault(&send.text, "no text to send".to_owned(), "1 to 4096 bytes, such as \"ping\"");
            }
            millis(&send.every_ms, 100)?;
        }
        millis(&self.reconnect_ms_min, 10)?;
        millis(&self.reconnect_ms_max, self.reconnect_ms_min.get_ref().0)?;
        in_range(&map(&self.message_len_max, |bytes| bytes.0), 1 << 10, 1 << 30, "bytes")?;
        if *self.on_gap.get_ref() == OnGap::Resubscribe {
            let hint = "\"tell\" or \"reconnect\"; rules for single subjects can resubscribe";
            return fault(&self.on_gap, "a gap of the connection belongs to no single subject".to_owned(), hint);
        }
        self.validate_patterns()?;
        self.validate_numbering()?;
        self.validate_channels()?;
        self.map.iter().try_for_each(MapConfig::validate)
    }

    /// Patterns that match every message would leave none to be published, or none for the rules after them.
    fn validate_patterns(&self) -> Result<(), Fault> {
        if self.error.get_ref().match_everything() {
            let hint = "say what only refusals have, such as { \"/type\" = \"error\" }, or leave `error` out";
            return fault(&self.error, "every message would be a refusal, and none published".to_owned(), hint);
        }
        for reply in self.send.iter().filter_map(|send| send.reply.as_ref()) {
            let hint = "say what only replies have, such as { \"/type\" = \"pong\" }, or their whole text, such as \"pong\"; \
                        without replies, leave `reply` out";
            if reply.get_ref().match_everything() {
                return fault(reply, "every message would be a reply, and none published".to_owned(), hint);
            }
            if reply.get_ref().match_nothing() {
                return fault(reply, "no message would be a reply".to_owned(), hint);
            }
        }
        if let Some(answer) = self.answer.iter().find(|answer| answer.matches.get_ref().matches_everything()) {
            let hint = "say what only these messages have, such as match = { \"/ping\" = \"*\" }";
            return fault(&answer.matches, "every message would be answered, and none published".to_owned(), hint);
        }
        // A rule for every message is fine as the last one: a venue may send only one kind.
        let mut rules = self.map.iter().skip_while(|rule| !rule.matches.get_ref().matches_everything());
        if let (Some(every), Some(_)) = (rules.next(), rules.next()) {
            let hint =
                "say what only these messages have, such as { \"/type\" = \"trade\" }, or make this rule the last one";
            return fault(&every.matches, "every message matches: the rules after this one get none".to_owned(), hint);
        }
        Ok(())
    }

    /// Places that refer to a channel need announced channels.
    fn validate_channels(&self) -> Result<(), Fault> {
        let is_of_channel = |place: &Place| place.origin == Origin::Channel;
        let hint = "`@` is for values and matches of [[feed.websocket.map]]";
        let early = self
            .error
            .get_ref()
            .places()
            .chain(self.channels.iter().flat_map(|channels| channels.get_ref().matches.places()));
        let early = early
            .chain(self.send.iter().filter_map(|send| send.reply.as_ref()).flat_map(|reply| reply.get_ref().places()));
        let mut early = early.chain(
            self.answer.iter().flat_map(|one| one.matches.get_ref().places().chain(one.text.get_ref().places())),
        );
        if let Some(place) = early.find(|place| is_of_channel(place)) {
            return fault(
                &self.url,
                format!("`{place}` belongs to a channel, and the channel is not looked up there"),
                hint,
            );
        }
        if self.channels.is_some() {
            return Ok(());
        }
        match self.map.iter().flat_map(MapConfig::places).find(|place| is_of_channel(place)) {
            None => Ok(()),
            Some(place) => {
                let hint =
                    "[feed.websocket.channels]\nmatch = { \"/event\" = \"subscribed\" }\nid = \"/chanId\"\nat = \"/0\"";
                fault(
                    &self.url,
                    format!("`{place}` belongs to a channel, and there is no [feed.websocket.channels]"),
                    hint,
                )
            }
        }
    }

    fn validate_numbering(&self) -> Result<(), Fault> {
        if let Some(seq) = &self.seq
            && let Some(each) = self.map.iter().find_map(|rule| rule.each.as_ref())
        {
            let hint = format!("leave out `seq = \"{}\"`: then the blade counts", seq.get_ref());
            return fault(each, "several values of one message cannot all have its number".to_owned(), hint);
        }
        if let (Some(seq), Some(_)) = (&self.seq, self.map.iter().find(|rule| rule.book_snapshot.is_some())) {
            let hint = "leave out `seq`: then the blade counts";
            return fault(seq, "a book that is fetched has none of the venue's numbers".to_owned(), hint);
        }
        let Some(epoch) = &self.epoch else { return Ok(()) };
        let name = epoch.get_ref();
        if name.is_empty() || name.len() > 10 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return fault(
                epoch,
                format!("`{name}` cannot be the name of a numbering"),
                "1 to 10 characters of printable ASCII",
            );
        }
        match &self.seq {
            Some(seq) if self.sequence.as_ref() == Some(seq.get_ref()) => Ok(()),
            _ => {
                let hint = "set `seq` and `sequence` both to where the venue's number is, or leave `epoch` out";
                fault(epoch, "a numbering outlives its connection only if it shows what is missing".to_owned(), hint)
            }
        }
    }
}

impl ChannelsConfig {
    fn rule(&self) -> ChannelRule {
        ChannelRule { matches: self.matches.clone(), id: self.id.clone(), at: self.at.clone() }
    }
}

impl AnswerConfig {
    fn rule(&self) -> AnswerRule {
        AnswerRule { matches: self.matches.get_ref().clone(), text: self.text.get_ref().clone() }
    }
}

impl MapConfig {
    fn rule(&self) -> MapRule {
        let plain = |place: &Option<Spanned<Place>>| place.as_ref().map(|place| place.get_ref().clone());
        let count = |number: &Spanned<u64>| usize::try_from(*number.get_ref()).unwrap_or(usize::MAX);
        MapRule {
            matches: self.matches.get_ref().clone(),
            each: self.each.as_ref().map(|each| each.get_ref().clone()),
            subject: self.subject.clone(),
            data: plain(&self.data),
            ts: self.ts.clone(),
            ts_format: self.ts_format,
            sequence: self.sequence.clone(),
            sequence_first: plain(&self.sequence_first),
            sequence_previous: plain(&self.sequence_previous),
            sequence_scope: self.sequence_scope,
            publish: *self.publish.get_ref(),
            book: self.book.as_ref().map(|format| *format.get_ref()),
            book_snapshot: self.book_snapshot.as_ref().map(|template| template.get_ref().clone()),
            book_depth: count(&self.book_depth),
            book_levels: count(&self.book_levels),
            on_gap: *self.on_gap.get_ref(),
            resubscribe: self.resubscribe.iter().map(|template| template.get_ref().clone()).collect(),
        }
    }

    fn validate(&self) -> Result<(), Fault> {
        for more in [&self.sequence_first, &self.sequence_previous].into_iter().flatten() {
            if self.sequence.is_none() {
                return fault(more, "there is no `sequence`".to_owned(), "the last number of the message");
            }
        }
        if !self.publish.get_ref() && (self.sequence.is_none() || self.book.is_some()) {
            let hint = "`sequence`: where the number is that the subject has got to";
            return fault(&self.publish, "a message that is not published says a number".to_owned(), hint);
        }
        self.validate_book()?;
        in_range(&self.book_depth, 1, 1 << 20, "levels of a side")?;
        in_range(&self.book_levels, 1, 1 << 10, "levels of a side")?;
        match (self.on_gap.get_ref(), self.resubscribe.first()) {
            (OnGap::Resubscribe, None) => {
                let hint = "resubscribe = ['…', '…']: what takes the subscription back, then what makes it again";
                fault(&self.on_gap, "there is nothing to send".to_owned(), hint)
            }
            (OnGap::Tell | OnGap::Reconnect, Some(first)) => {
                fault(first, "it is never sent".to_owned(), "on_gap = \"resubscribe\"")
            }
            _ => Ok(()),
        }
    }
}

impl MapConfig {
    /// All places that the rule names.
    fn places(&self) -> impl Iterator<Item = &Place> {
        let spanned = [&self.data, &self.sequence_first, &self.sequence_previous].into_iter().flatten();
        let plain = [&self.ts, &self.sequence].into_iter().flatten();
        let templates =
            self.resubscribe.iter().chain(&self.book_snapshot).flat_map(|template| template.get_ref().places());
        let found = self.matches.get_ref().places().chain(self.subject.places()).chain(templates);
        found.chain(spanned.map(Spanned::get_ref)).chain(plain)
    }

    fn validate_book(&self) -> Result<(), Fault> {
        let format = self.book.as_ref().map(|book| *book.get_ref());
        match (&self.book_snapshot, &self.book) {
            (None, Some(book)) if *book.get_ref() == BookFormat::Binance => {
                let hint = "book_snapshot = \"https://HOST/api/v3/depth?symbol={/s}&limit=1000\", or no `book`, and the streams of \
                            whole books, such as @depth20";
                return fault(book, "changes alone make no book".to_owned(), hint);
            }
            (Some(url), _) if format != Some(BookFormat::Binance) => {
                return fault(url, "only `book = \"binance\"` is fetched".to_owned(), "leave out `book_snapshot`");
            }
            (Some(url), _) if !url.get_ref().is_http() => {
                let hint = "\"https://HOST/PATH?symbol={/s}\", placeholders only after the host";
                return fault(url, "not the address of a snapshot".to_owned(), hint);
            }
            _ => {}
        }
        if *self.on_gap.get_ref() != OnGap::Resubscribe {
            return Ok(());
        }
        match format {
            Some(BookFormat::Gemini) => {
                let hint = "\"reconnect\": only the first message of a connection is known to be the whole book";
                fault(&self.on_gap, "a subscription of Gemini's cannot be told from the one before".to_owned(), hint)
            }
            Some(BookFormat::Binance) => {
                let hint = "leave out `on_gap`: the book is fetched again";
                fault(&self.on_gap, "a book is fetched, not subscribed again".to_owned(), hint)
            }
            _ => Ok(()),
        }
    }
}

impl Default for WebsocketConfig {
    fn default() -> Self {
        let millis = |millis| unplaced(Millis(millis));
        Self {
            url: unplaced(String::new()),
            subscribe: Vec::new(),
            headers: unplaced(BTreeMap::new()),
            ca_file: None,
            connect_ms_max: millis(10_000),
            ping_interval_ms: millis(10_000),
            idle_ms_max: millis(30_000),
            silent_ms_max: millis(15_000),
            reconnect_ms_min: millis(500),
            reconnect_ms_max: millis(30_000),
            message_len_max: unplaced(Bytes(16 << 20)),
            error: unplaced(Patterns::default()),
            error_text: None,
            sequence: None,
            on_gap: tell(),
            seq: None,
            epoch: None,
            rule_silent_ms_max: millis(60_000),
            channels: None,
            send: Vec::new(),
            answer: Vec::new(),
            map: Vec::new(),
        }
    }
}

/// Bytes of a text that is sent at intervals.
const SENT_LEN_MAX: usize = 4_096;

fn is_websocket(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("ws" | "wss")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

fn yes() -> Spanned<bool> {
    unplaced(true)
}

fn ten() -> Spanned<u64> {
    unplaced(10)
}

fn tell() -> Spanned<OnGap> {
    unplaced(OnGap::Tell)
}

fn rfc3339() -> TimeFormat {
    TimeFormat::Rfc3339
}

#[cfg(test)]
mod tests;
