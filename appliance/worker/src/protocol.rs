//! The subscriber protocol (docs/PROTOCOL.md): requests parsed, replies and notices written. No sessions, no sockets.

use fanblade_wire::json::{Object, check_fit};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write as _;

use crate::ids::SubjectId;
use crate::subject::{self, SubjectError};

/// How a subscription treats frames that its session could not take in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The session gets only the newest frame of each subject.
    Conflate,
    /// The session gets every frame that the ring still holds, and a gap notice for those that it does not.
    All,
}

/// A point in the numbering from which a client wants to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The numbering in which `seq` was seen.
    pub epoch: String,
    /// The last sequence number that the client has.
    pub seq: u64,
}

/// What a client wants, its subjects checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Subscribe to subjects and patterns.
    Subscribe {
        /// At least one; each passed [`subject::check`].
        subjects: Vec<String>,
        /// For all of them.
        mode: Mode,
        /// Send each subject's newest frame first.
        snapshot: bool,
        /// Replay from here instead.
        resume: Option<Resume>,
    },
    /// Take subscriptions back; the same texts as they were subscribed with.
    Unsubscribe {
        /// At least one.
        subjects: Vec<String>,
    },
    /// Which subscriptions are there?
    List,
    /// Are you there?
    Ping,
}

impl Op {
    /// The subjects that it names.
    pub(crate) fn subjects(&self) -> &[String] {
        match self {
            Op::Subscribe { subjects, .. } | Op::Unsubscribe { subjects } => subjects,
            Op::List | Op::Ping => &[],
        }
    }
}

/// A request with the client's own name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// A JSON string or number, as the client wrote it; `None` where it gave none.
    pub id: Option<String>,
    /// What to do.
    pub op: Op,
}

impl Request {
    /// User memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.capacity()).sum::<usize>();
        let epoch = match &self.op {
            Op::Subscribe { resume: Some(resume), .. } => resume.epoch.capacity(),
            _ => 0,
        };
        size_of::<Request>() + self.id.as_ref().map_or(0, String::capacity) + texts(self.op.subjects()) + epoch
    }
}

/// A request that cannot be obeyed: becomes an `error` reply; the session lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// As in [`Request`].
    pub id: Option<String>,
    /// One of the protocol's error codes.
    pub code: &'static str,
    /// What was wrong and where, for a person.
    pub message: String,
}

/// Parses one request.
pub(crate) fn parse(text: &str) -> Result<Request, Refusal> {
    let Object(fields): Object<Fields<'_>> =
        serde_json::from_str(text).map_err(|error| Refusal::new(None, "bad_request", error.to_string()))?;
    let id = checked_id(fields.id)?;
    let refuse = |code, message: String| Refusal::new(id.clone(), code, message);
    let only = |allowed: &[&str]| {
        let given = [
            ("subjects", fields.subjects.is_some()),
            ("mode", fields.mode.is_some()),
            ("snapshot", fields.snapshot.is_some()),
            ("resume", fields.resume.is_some()),
        ];
        match given.iter().find(|(name, is_given)| *is_given && !allowed.contains(name)) {
            Some((name, _)) => Err(refuse("bad_request", format!("`{name}` does not belong to `{}`", fields.op))),
            None => Ok(()),
        }
    };
    let op = match fields.op.as_ref() {
        "subscribe" => {
            only(&["subjects", "mode", "snapshot", "resume"])?;
            let mode = match fields.mode.as_deref() {
                None => Mode::Conflate,
                Some(text) => mode(text).map_err(|message| refuse("bad_request", message))?,
            };
            Op::Subscribe {
                subjects: checked_subjects(fields.subjects, &id)?,
                mode,
                snapshot: fields.snapshot.unwrap_or(true),
                resume: fields
                    .resume
                    .map(|Object(resume)| Resume { epoch: resume.epoch.into_owned(), seq: resume.seq }),
            }
        }
        "unsubscribe" => {
            only(&["subjects"])?;
            Op::Unsubscribe { subjects: checked_subjects(fields.subjects, &id)? }
        }
        "list" => only(&[]).map(|()| Op::List)?,
        "ping" => only(&[]).map(|()| Op::Ping)?,
        other => {
            let known = "subscribe, unsubscribe, list, ping";
            return Err(refuse("unknown_op", format!("`{}` is not one of {known}", printable(other))));
        }
    };
    Ok(Request { id, op })
}

/// The id of a request that is not even parsed otherwise; `None` where that cannot be told.
pub(crate) fn request_id(text: &str) -> Option<String> {
    let Object(fields): Object<Fields<'_>> = serde_json::from_str(text).ok()?;
    checked_id(fields.id).ok()?
}

/// A mode by its name.
pub(crate) fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "conflate" => Ok(Mode::Conflate),
        "all" => Ok(Mode::All),
        "sampled" => Err("mode `sampled` is not served by this version; use `conflate`".to_owned()),
        other => Err(format!("mode `{}` is not one of conflate, all", printable(other))),
    }
}

/// Checks the subjects of a request or a query string.
pub(crate) fn checked_subjects(
    subjects: Option<Vec<Cow<'_, str>>>,
    id: &Option<String>,
) -> Result<Vec<String>, Refusal> {
    let subjects = subjects.unwrap_or_default();
    if subjects.is_empty() {
        return Err(Refusal::new(id.clone(), "bad_request", "`subjects` is missing or empty".to_owned()));
    }
    // Memory only for subjects that are right: a list of nothing but commas costs nothing.
    let mut checked = Vec::new();
    for (position, text) in subjects.into_iter().enumerate() {
        subject::check(&text).map_err(|error: SubjectError| {
            let shown = printable(&text);
            Refusal::new(id.clone(), "bad_subject", format!("subjects[{position}] `{shown}`: {error}"))
        })?;
        checked.push(text.into_owned());
    }
    Ok(checked)
}

impl Refusal {
    /// A refusal of the request `id`.
    pub(crate) fn new(id: Option<String>, code: &'static str, message: String) -> Self {
        Self { id, code, message }
    }

    /// The `error` reply.
    pub(crate) fn write(&self, out: &mut String) {
        out.clear();
        out.push_str("{\"op\":\"error\"");
        write_id(out, &self.id);
        let _ = write!(out, ",\"code\":\"{}\",\"message\":", self.code);
        write_json_string(out, &self.message);
        out.push('}');
    }
}

/// A `subscribed` or `unsubscribed` reply, or the answer to `list`, written piece by piece.
pub(crate) struct SubjectsReply<'a> {
    out: &'a mut String,
    count: usize,
}

impl<'a> SubjectsReply<'a> {
    /// Begins the reply `op`.
    pub(crate) fn begin(out: &'a mut String, op: &str, id: &Option<String>, epoch: &str) -> Self {
        out.clear();
        let _ = write!(out, "{{\"op\":\"{op}\"");
        write_id(out, id);
        out.push_str(",\"epoch\":");
        write_json_string(out, epoch);
        out.push_str(",\"subjects\":[");
        Self { out, count: 0 }
    }

    /// Adds a subject that exists: its number in this epoch, its newest sequence number, and that of a newer value that
    /// the ring has refused.
    pub(crate) fn subject(
        &mut self,
        name: &str,
        sid: SubjectId,
        seq: u64,
        recovered: Option<bool>,
        missing: Option<u64>,
    ) {
        self.name(name);
        let _ = write!(self.out, ",\"sid\":{},\"seq\":{seq}", sid.0);
        if let Some(recovered) = recovered {
            let _ = write!(self.out, ",\"recovered\":{recovered}");
        }
        if let Some(missing) = missing {
            let _ = write!(self.out, ",\"missing\":{missing}");
        }
        self.out.push('}');
    }

    /// Adds a filter that no subject matches yet, or that is only named (`list`, `unsubscribed`).
    pub(crate) fn filter(&mut self, name: &str, mode: Option<Mode>) {
        self.name(name);
        match mode {
            Some(Mode::All) => self.out.push_str(",\"mode\":\"all\""),
            Some(Mode::Conflate) => self.out.push_str(",\"mode\":\"conflate\""),
            None => {}
        }
        self.out.push('}');
    }

    fn name(&mut self, name: &str) {
        if self.count > 0 {
            self.out.push(',');
        }
        self.count += 1;
        self.out.push_str("{\"subject\":");
        write_json_string(self.out, name);
    }

    /// Ends the reply, and says that the source is not current.
    pub(crate) fn end_stale(self, more: bool, source: &str) {
        self.out.push_str("],\"stale\":true,\"source\":");
        write_json_string(self.out, source);
        self.out.push_str(if more { ",\"more\":true}" } else { "}" });
    }

    /// Ends the reply; `more`: a further reply to the same request follows.
    pub(crate) fn end(self, more: bool) {
        self.out.push_str(if more { "],\"more\":true}" } else { "]}" });
    }
}

/// `{"op":"pong","id":…}`
pub(crate) fn write_pong(out: &mut String, id: &Option<String>) {
    out.clear();
    out.push_str("{\"op\":\"pong\"");
    write_id(out, id);
    out.push('}');
}

/// Conflation has replaced `dropped` frames.
pub(crate) fn write_lagging(out: &mut String, dropped: u64) {
    out.clear();
    let _ = write!(out, "{{\"op\":\"notice\",\"kind\":\"lagging\",\"dropped\":{dropped}}}");
}

/// Frames of `subject` after `from`, up to and with `to`, have left the history.
pub(crate) fn write_gap(out: &mut String, subject: &str, from: u64, to: u64) {
    out.clear();
    out.push_str("{\"op\":\"notice\",\"kind\":\"gap\",\"subject\":");
    write_json_string(out, subject);
    let _ = write!(out, ",\"from\":{from},\"to\":{to}}}");
}

/// Updates of `source` after `from`, up to and with `to`, are missing for everybody.
pub(crate) fn write_source_gap(out: &mut String, source: &str, from: u64, to: u64) {
    out.clear();
    out.push_str("{\"op\":\"notice\",\"kind\":\"gap\",\"source\":");
    write_json_string(out, source);
    let _ = write!(out, ",\"from\":{from},\"to\":{to}}}");
}

/// The source is no longer current, or is so again.
pub(crate) fn write_currency(out: &mut String, is_stale: bool, source: &str) {
    out.clear();
    let kind = if is_stale { "stale" } else { "live" };
    let _ = write!(out, "{{\"op\":\"notice\",\"kind\":\"{kind}\",\"source\":");
    write_json_string(out, source);
    out.push('}');
}

/// Numbering has begun anew.
pub(crate) fn write_epoch(out: &mut String, epoch: &str) {
    out.clear();
    out.push_str("{\"op\":\"notice\",\"kind\":\"epoch\",\"epoch\":");
    write_json_string(out, epoch);
    out.push('}');
}

/// Precedes a close with 1012.
pub(crate) fn write_restart(out: &mut String, reconnect_in_ms: u32) {
    out.clear();
    let _ = write!(out, "{{\"op\":\"notice\",\"kind\":\"restart\",\"reconnect_in_ms\":{reconnect_in_ms}}}");
}

fn write_id(out: &mut String, id: &Option<String>) {
    if let Some(id) = id {
        out.push_str(",\"id\":");
        out.push_str(id);
    }
}

fn write_json_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// What a client wrote, cut and cleaned for an error message.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn checked_id(id: Option<&RawValue>) -> Result<Option<String>, Refusal> {
    let Some(id) = id.map(RawValue::get) else { return Ok(None) };
    if id == "null" {
        return Ok(None);
    }
    let is_scalar = id.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
    if !is_scalar || id.len() > ID_LEN_MAX {
        let message = format!("`id` must be a JSON string or number of at most {ID_LEN_MAX} bytes");
        return Err(Refusal::new(None, "bad_request", message));
    }
    // It is sent back to the client, whose parser must be able to read it.
    check_fit(id).map_err(|unfit| Refusal::new(None, "bad_request", format!("`id`: {unfit}")))?;
    Ok(Some(id.to_owned()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    subjects: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    mode: Option<Cow<'a, str>>,
    #[serde(default)]
    snapshot: Option<bool>,
    #[serde(borrow, default)]
    resume: Option<Object<ResumeFields<'a>>>,
    /// Named in the protocol for `sampled`, which this version refuses by its mode.
    #[serde(default, rename = "interval_ms")]
    _interval_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeFields<'a> {
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    seq: u64,
}

/// Bytes of a request's `id`: it is echoed in every reply.
const ID_LEN_MAX: usize = 64;
/// Characters of a client's text shown back in an error.
const SHOWN_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_the_protocol_parse() {
        let request = parse(r#"{"op":"subscribe","id":1,"subjects":["/NASDAQ/AAPL/bbo","/NASDAQ/*/status"],"mode":"conflate","snapshot":true}"#).unwrap();
        assert_eq!(request.id.as_deref(), Some("1"));
        let subjects = vec!["/NASDAQ/AAPL/bbo".to_owned(), "/NASDAQ/*/status".to_owned()];
        assert_eq!(request.op, Op::Subscribe { subjects, mode: Mode::Conflate, snapshot: true, resume: None });
        let request = parse(r#"{"op":"subscribe","id":"x\"y","subjects":["/N/A/t"],"mode":"all","resume":{"epoch":"20191230-1","seq":1841923}}"#).unwrap();
        assert_eq!(request.id.as_deref(), Some(r#""x\"y""#));
        assert!(matches!(request.op, Op::Subscribe { resume: Some(Resume { seq: 1_841_923, .. }), .. }));
        assert_eq!(parse(r#"{"op":"list"}"#).unwrap(), Request { id: None, op: Op::List });
        assert_eq!(parse(r#"{"op":"ping","id":7}"#).unwrap().op, Op::Ping);
    }

    #[test]
    fn wrong_requests_are_refused_with_the_reason() {
        for (text, code, part) in [
            ("", "bad_request", "EOF"),
            ("[]", "bad_request", "expected an object"),
            (r#"["ping",5]"#, "bad_request", "expected an object"),
            (r#"["list"]"#, "bad_request", "expected an object"),
            (r#"["subscribe",1,["/X/a/v"]]"#, "bad_request", "expected an object"),
            (r#"["subscribe",2,["/X/a/v"],"all",false,["e",1]]"#, "bad_request", "expected an object"),
            (r#"{"op":"subscribe","subjects":["/a/b"],"resume":["e",1]}"#, "bad_request", "expected an object"),
            (r#"{"op":"subscribe","subjects":{"0":"/a/b"}}"#, "bad_request", "expected a sequence"),
            (r#"{"op":"ping","op":"list"}"#, "bad_request", "duplicate field `op`"),
            (r#"{"op":"subscribe","subjects":["/a/b"],"subjects":["/a/c"]}"#, "bad_request", "duplicate field"),
            (r#"{"op":"ping","id":1,"id":2}"#, "bad_request", "duplicate field `id`"),
            (r#"{"op":"subscribe","subjects":["/a/b"],"snapshoot":true}"#, "bad_request", "unknown field `snapshoot`"),
            (r#"{"op":"subscribe"}"#, "bad_request", "`subjects` is missing"),
            (r#"{"op":"subscribe","subjects":["a"]}"#, "bad_subject", "subjects[0] `a`: a subject begins with '/'"),
            (r#"{"op":"subscribe","subjects":["/a/b"],"mode":"sampled","interval_ms":250}"#, "bad_request", "sampled"),
            (
                r#"{"op":"subscribe","subjects":["/a/b","/a/AA*/b"]}"#,
                "bad_subject",
                "subjects[1] `/a/AA*/b`: '*' stands for",
            ),
            (r#"{"op":"unsubscribe","subjects":["/a/**/b"]}"#, "bad_subject", "subjects[0] `/a/**/b`: '**' may only"),
            (r#"{"op":"unsubscribe","subjects":["/a/b*"]}"#, "bad_subject", "subjects[0] `/a/b*`: '*' stands for"),
            (r#"{"op":"list","subjects":["/a/b"]}"#, "bad_request", "`subjects` does not belong to `list`"),
            (r#"{"op":"fly","id":3}"#, "unknown_op", "`fly`"),
            (r#"{"op":"ping","id":[1]}"#, "bad_request", "`id`"),
            (r#"{"op":"ping","id":1e999}"#, "bad_request", "`id`: a number beyond"),
            (r#"{"op":"ping","id":"\ud800"}"#, "bad_request", "`id`: half of a surrogate pair"),
            (r#"{"op":"subscribe","subjects":["/a/b"],"resume":{"epoch":"x","seq":-1}}"#, "bad_request", "-1"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert_eq!(refusal.code, code, "{text}");
            assert!(refusal.message.contains(part), "{text}: {}", refusal.message);
            let mut out = String::new();
            refusal.write(&mut out);
            let reply: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(reply["op"], "error");
        }
        assert_eq!(parse(r#"{"op":"fly","id":3}"#).unwrap_err().id.as_deref(), Some("3"));
    }

    #[test]
    fn replies_are_json() {
        let mut out = String::new();
        let mut reply = SubjectsReply::begin(&mut out, "subscribed", &Some("1".to_owned()), "20191230-1");
        reply.subject("/N/A\"\\/bbo", SubjectId(17), 1_841_900, Some(true), Some(1_841_905));
        reply.filter("/N/*/x", None);
        reply.end(false);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["subjects"][0]["subject"], "/N/A\"\\/bbo");
        assert_eq!(value["subjects"][0]["sid"], 17);
        assert_eq!((&value["subjects"][0]["missing"], &value["more"]), (&1_841_905.into(), &serde_json::Value::Null));
        assert_eq!(value["subjects"][1]["subject"], "/N/*/x");
        SubjectsReply::begin(&mut out, "subscribed", &None, "1").end_stale(true, "a\"b");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&value["stale"], &value["source"], &value["more"]), (&true.into(), &"a\"b".into(), &true.into()));
        SubjectsReply::begin(&mut out, "subscribed", &None, "1").end_stale(false, "a");
        assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["more"].is_null());
    }
}
