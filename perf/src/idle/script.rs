//! The texts of this measurement: the server sends them, and every client compares each byte.

/// Sent to every session at once.
pub(crate) const NOTICE: &str = r#"{"op":"notice","kind":"stale","source":"idle"}"#;

/// What a session is sent after its subscription, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Line {
    /// The message with this number of the session's subject.
    Message(u64),
    Notice,
}

/// The name of a client's subject, as a template.
pub(crate) const SUBJECT: &str = "/IDLE/S{subject:05}/trade";

/// The name of a subject.
pub(crate) fn subject(subject: usize) -> String {
    format!("/IDLE/S{subject:05}/trade")
}

/// The sequence number of a message: numbers are counted through all `subjects`, as in a feed.
pub(crate) fn seq(subjects: usize, subject: usize, number: u64) -> u64 {
    number * subjects as u64 + subject as u64 + 1
}

/// The payload of message `number` of a subject.
pub(crate) fn message(subjects: usize, subject: usize, number: u64) -> String {
    let (name, q) = (self::subject(subject), seq(subjects, subject, number));
    let p = number.checked_sub(1).map_or(0, |previous| seq(subjects, subject, previous));
    format!(r#"{{"s":"{name}","q":{q},"p":{p},"t":"{q}","d":{{"px":{q},"sz":100,"side":"B","match":{q}}}}}"#)
}
