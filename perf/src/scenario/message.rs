//! The messages that are published: JSON with the message's number within its subject, the time at which it was due,
//! and padding. The number stands before the time, so that the time tells the end of a message, even if the server has
//! cut or joined messages.

use std::io::Write as _;

/// Where the swarm finds the time and the number.
pub(crate) const TIMESTAMP: &str = r#"text:"ts":""#;
pub(crate) const SEQUENCE: &str = r#"text:"n":"#;
/// Where it finds the subject's number, for clients with several subjects.
pub(crate) const NUMBER: &str = r#"text:"k":"#;

/// The name of a subject, as a template.
pub(crate) const SUBJECT: &str = "/K/{subject:06}/v";

/// The names of a list of subjects, the same way.
pub(crate) const SUBJECTS: &str = "{subjects|/K/{subject:06}/v|}";

pub(crate) fn subject(number: u32) -> String {
    format!("/K/{number:06}/v")
}

/// Writes a message of `len` bytes (64 at least) into `out`, in place of what was there. The message names its subject
/// if clients cannot know it otherwise.
pub(crate) fn write(out: &mut Vec<u8>, subject: Option<u32>, number: u64, due_ns: u64, len: usize) {
    out.clear();
    out.push(b'{');
    if let Some(subject) = subject {
        let _ = write!(out, r#""k":{subject},"#);
    }
    // Writing into memory cannot fail.
    let _ = write!(out, r#""n":{number},"ts":"{due_ns}","p":""#);
    out.resize(len.saturating_sub(2).max(out.len()), b'x');
    out.extend_from_slice(br#""}"#);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_length_and_are_json() {
        let mut out = Vec::new();
        for len in [64, 512, 1_024] {
            for subject in [None, Some(9_999_999)] {
                write(&mut out, subject, 4_294_967_296, 1_795_503_063_301_613_801, len);
                assert_eq!(out.len(), len);
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(value["k"].as_u64(), subject.map(u64::from));
                assert_eq!((&value["n"], &value["ts"]), (&4_294_967_296u64.into(), &"1795503063301613801".into()));
            }
        }
    }
}
