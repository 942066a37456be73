//! Updates of feeds that name their subjects themselves: no market, no books; the value is passed on as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanblade_feed::{Data, Unpublished};
use fanblade_market::encode;
use fanblade_market::encode::binary::{Head, VERSION};
use fanblade_ring::{Payloads, UnixNs};
use zerocopy::IntoBytes as _;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::desk::Desk;

/// A new value of a subject.
pub(super) struct Update<'a> {
    pub(super) seq: u64,
    pub(super) subject: &'a str,
    pub(super) ts_ns: UnixNs,
    pub(super) data: Data<'a>,
}

impl Desk {
    /// Publishes the update, or returns why the ring refused it. Workers tell the subscribers of the subject.
    pub(super) fn publish_named(&mut self, update: &Update<'_>) -> Result<(), Unpublished> {
        let now_ns = UnixNs::now();
        let id = match self.encoder.subject(update.subject, &mut self.writer) {
            Ok(id) => id,
            Err(error) => return Err(self.note_refused(None, update.seq, &error, now_ns, || update.subject.to_owned())),
        };
        let prev = self.writer.last_seq(id);
        json(&mut self.json, update, prev);
        binary(&mut self.binary, update, id.0, prev);
        let payloads: Payloads<'_> = [&self.json, &self.binary, &[], &[]];
        let frame = fanblade_ring::NewFrame {
            subject: id,
            channel: CHANNEL.into(),
            seq: update.seq,
            ts_feed_ns: update.ts_ns,
            ts_publish_ns: now_ns,
        };
        match self.writer.append(&frame, &payloads) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.note_refused(Some(id), update.seq, &error, now_ns, || update.subject.to_owned())),
        }
    }
}

/// Encodes a JSON frame like the market's, with `d` as it came, or in base64.
fn json(out: &mut Vec<u8>, update: &Update<'_>, prev: u64) {
    out.clear();
    encode::json_head(out, update.subject, update.seq, prev, update.ts_ns);
    match update.data {
        Data::Json(text) => out.extend_from_slice(text.as_bytes()),
        Data::Opaque(bytes) => {
            out.push(b'"');
            let at = out.len();
            out.resize(at + bytes.len().div_ceil(3) * 4, 0);
            // The slice has exactly the length of the base64 text.
            let room = out.get_mut(at..).unwrap_or_default();
            let written = STANDARD.encode_slice(bytes, room).unwrap_or(0);
            out.truncate(at + written);
            out.push(b'"');
        }
    }
    out.push(b'}');
}

/// Encodes the head of channel 0, then the bytes; flag bit 1 says that they are JSON.
fn binary(out: &mut Vec<u8>, update: &Update<'_>, sid: u32, prev: u64) {
    let (flags, bytes) = match update.data {
        Data::Json(text) => (FLAG_JSON, text.as_bytes()),
        Data::Opaque(bytes) => (0, bytes),
    };
    let head = Head {
        version: VERSION,
        channel: CHANNEL,
        flags: U16::new(flags),
        sid: U32::new(sid),
        seq: U64::new(update.seq),
        prev: U64::new(prev),
        ts_ns: U64::new(update.ts_ns.0),
    };
    out.clear();
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(bytes);
}

/// A subject as a JSON string.
pub(super) fn quoted(subject: &str) -> String {
    serde_json::Value::from(subject).to_string()
}

const CHANNEL: u8 = 0;
const FLAG_JSON: u16 = 2;

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes as _;

    use super::*;

    fn encoded(data: Data<'_>) -> (String, Vec<u8>) {
        let update = Update { seq: 7, subject: "/X/a\"b/y", ts_ns: UnixNs(9), data };
        let (mut text, mut bytes) = (b"old".to_vec(), b"old".to_vec());
        json(&mut text, &update, 5);
        binary(&mut bytes, &update, 3, 5);
        (String::from_utf8(text).unwrap(), bytes)
    }

    #[test]
    fn values_are_passed_on_as_they_are() {
        let (text, bytes) = encoded(Data::Json("{\"a\":[1, 2]}"));
        assert_eq!(text, r#"{"s":"/X/a\"b/y","q":7,"p":5,"t":"9","d":{"a":[1, 2]}}"#);
        let (head, data) = Head::ref_from_prefix(&bytes).unwrap();
        assert_eq!((head.version, head.channel, head.flags.get(), head.sid.get()), (1, 0, 2, 3));
        assert_eq!((head.seq.get(), head.prev.get(), head.ts_ns.get()), (7, 5, 9));
        assert_eq!(data, b"{\"a\":[1, 2]}");
    }

    #[test]
    fn opaque_bytes_are_base64_in_json() {
        for (bytes, expected) in [(&[][..], ""), (&[0], "AA=="), (&[0, 255], "AP8="), (&[0, 255, 127], "AP9/")] {
            let (text, frame) = encoded(Data::Opaque(bytes));
            assert_eq!(text, format!(r#"{{"s":"/X/a\"b/y","q":7,"p":5,"t":"9","d":"{expected}"}}"#));
            let (head, data) = Head::ref_from_prefix(&frame).unwrap();
            assert_eq!((head.channel, head.flags.get(), data), (0, 0, bytes));
        }
    }
}
