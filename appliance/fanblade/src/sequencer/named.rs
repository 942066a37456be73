//! Updates of feeds that name their subjects themselves: no market, no books; the value is passed on as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanblade_feed::Data;
use fanblade_market::encode::binary::{Head, VERSION};
use fanblade_ring::Payloads;
use zerocopy::IntoBytes as _;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::complaints::REFUSED;
use super::{Desk, unix_ns};

/// A subject's new value.
pub(super) struct Update<'a> {
    pub(super) seq: u64,
    pub(super) subject: &'a str,
    pub(super) ts_ns: u64,
    pub(super) data: Data<'a>,
}

impl Desk {
    /// Publishes it; false if the ring refused.
    pub(super) fn publish_named(&mut self, update: &Update<'_>) -> bool {
        let now_ns = unix_ns();
        let id = match self.publisher.subject(update.subject, &mut self.writer) {
            Ok(id) => id,
            Err(error) => {
                self.complaints.note(REFUSED, now_ns, || format!("{}: {error}", update.subject));
                return false;
            }
        };
        let prev = self.writer.last_seq(id);
        json(&mut self.json, update, prev);
        binary(&mut self.binary, update, id.0, prev);
        let payloads: Payloads<'_> = [&self.json, &self.binary, &[], &[]];
        let frame = fanblade_ring::Update {
            subject: id,
            channel: CHANNEL,
            seq: update.seq,
            ts_feed_ns: update.ts_ns,
            ts_publish_ns: now_ns,
        };
        match self.writer.append(&frame, &payloads) {
            Ok(_) => true,
            Err(error) => {
                self.complaints.note(REFUSED, now_ns, || format!("{}: {error}", update.subject));
                false
            }
        }
    }
}

/// As the market's frames, with `d` as it came, or in base64.
fn json(out: &mut Vec<u8>, update: &Update<'_>, prev: u64) {
    out.clear();
    let subject = quoted(update.subject);
    let Update { seq, ts_ns, .. } = update;
    out.extend_from_slice(format!(r#"{{"s":{subject},"q":{seq},"p":{prev},"t":"{ts_ns}","d":"#).as_bytes());
    match update.data {
        Data::Json(text) => out.extend_from_slice(text.as_bytes()),
        Data::Opaque(bytes) => {
            out.push(b'"');
            let at = out.len();
            out.resize(at + bytes.len().div_ceil(3) * 4, 0);
            // It has exactly the room that base64 takes.
            let written = STANDARD.encode_slice(bytes, &mut out[at..]).unwrap_or(0);
            out.truncate(at + written);
            out.push(b'"');
        }
    }
    out.push(b'}');
}

/// The head of channel 0, then the bytes; flag bit 1 says that they are JSON.
fn binary(out: &mut Vec<u8>, update: &Update<'_>, sid: u32, prev: u64) {
    let (flags, bytes) = match update.data {
        Data::Json(text) => (FLAG_JSON, text.as_bytes()),
        Data::Opaque(bytes) => (0, bytes),
    };
    let head = Head {
        version: VERSION,
        channel: CHANNEL as u8,
        flags: U16::new(flags),
        sid: U32::new(sid),
        seq: U64::new(update.seq),
        prev: U64::new(prev),
        ts_ns: U64::new(update.ts_ns),
    };
    out.clear();
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(bytes);
}

/// A subject as JSON text.
pub(super) fn quoted(subject: &str) -> String {
    serde_json::Value::from(subject).to_string()
}

const CHANNEL: u16 = 0;
const FLAG_JSON: u16 = 2;
