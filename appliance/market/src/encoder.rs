//! From images to frames: the last step before the workers.

use fanblade_ring::limits::SUBJECT_LEN_MAX;
use fanblade_ring::{NewFrame, Payloads, RingError, RingIndex, SubjectId, UnixNs, Writer};

use crate::encode::{binary, json};
use crate::image::Update;
use crate::subjects::Subjects;

/// Encodes images and puts them into a ring, each once per encoding.
#[derive(Debug)]
pub struct Encoder {
    subjects: Subjects,
    json: Box<[u8]>,
    binary: Box<[u8]>,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// Makes an encoder that knows no subject, for a ring that has none.
    pub fn new() -> Encoder {
        Encoder {
            subjects: Subjects::default(),
            json: vec![0; JSON_LEN_MAX].into(),
            binary: vec![0; binary::LEN_MAX].into(),
        }
    }

    /// Appends one image as a frame of its subject, which the first image makes. `writer` is always the same; the
    /// caller has it wake the workers. Returns the frame's ring index.
    ///
    /// # Errors
    /// The ring takes no more subjects, or not this frame. Nothing is changed then.
    pub fn append(&mut self, update: &Update<'_>, now_ns: UnixNs, writer: &mut Writer) -> Result<RingIndex, RingError> {
        let (subject, payloads) = self.encode(update, writer)?;
        let frame = NewFrame {
            subject,
            channel: update.channel as u16,
            seq: update.seq,
            ts_feed_ns: update.ts_ns,
            ts_publish_ns: now_ns,
        };
        writer.append(&frame, &payloads)
    }

    /// The image's subject and its payloads, as [`append`](Self::append) takes them.
    ///
    /// # Errors
    /// The ring takes no more subjects, or the image is longer than any that is known: part of a frame is none.
    pub fn encode(&mut self, update: &Update<'_>, writer: &mut Writer) -> Result<(SubjectId, Payloads<'_>), RingError> {
        let subject = self.subjects.find(update, writer)?;
        let Update { seq, ts_ns, image, .. } = update;
        let prev = writer.last_seq(subject.id);
        let len = json::write_behind(&mut self.json, &subject.opening, *seq, prev, *ts_ns, image);
        let json = whole(&self.json, len, "json")?;
        let len = binary::write_into(&mut self.binary, subject.id.0, *seq, prev, *ts_ns, image);
        let binary = whole(&self.binary, len, "binary")?;
        // The encodings that workers serve so far; the other lanes are not made.
        Ok((subject.id, [json, binary, &[], &[]]))
    }

    /// The subject of this name, for what is published without a market; it is made if it does not exist.
    ///
    /// # Errors
    /// The ring takes no more subjects, or not this name.
    pub fn subject(&mut self, name: &str, writer: &mut Writer) -> Result<SubjectId, RingError> {
        self.subjects.named(name, writer)
    }

    /// Instruments are numbered anew; names keep their subjects.
    pub fn forget_instruments(&mut self) {
        self.subjects.forget_instruments();
    }

    /// How many subjects there are.
    pub fn subjects_len(&self) -> usize {
        self.subjects.len()
    }
}

/// The first `len` bytes of what was written; the writers go on counting where there is no room any more.
fn whole<'a>(written: &'a [u8], len: usize, lane: &'static str) -> Result<&'a [u8], RingError> {
    written.get(..len).ok_or(RingError::FrameTooLong { lane, len, max: written.len() })
}

/// With the longest subject that a ring takes, all of it escaped.
const JSON_LEN_MAX: usize = json::LEN_MAX + 2 * SUBJECT_LEN_MAX + 32;

#[cfg(test)]
mod tests {
    use fanblade_ring::RingConfig;

    use super::*;
    use crate::image::{Channel, Image, InstrumentId, Status, TradingState};

    #[test]
    fn what_is_longer_than_its_room_is_refused_instead_of_published_as_nothing() {
        let config =
            RingConfig { index_len: 1 << 10, lane_len: [1 << 16, 1 << 16, 0, 0], subjects_max: 8, checksums: false };
        let mut writer = Writer::create(&config, "test-1").unwrap();
        let status = Status { state: TradingState::Trading, reason: *b"    " };
        let update = Update {
            seq: 1,
            instrument: InstrumentId(1),
            venue: "X",
            symbol: "A",
            channel: Channel::Status,
            ts_ns: UnixNs(0),
            image: Image::Status(status),
        };
        let mut encoder = Encoder::new();
        let whole = encoder.encode(&update, &mut writer).unwrap().1;
        assert!(whole[0].ends_with(b"}}") && !whole[1].is_empty());
        let json_len = whole[0].len();
        encoder.json = vec![0; json_len - 1].into();
        let error = encoder.append(&update, UnixNs(0), &mut writer).unwrap_err();
        assert!(matches!(error, RingError::FrameTooLong { lane: "json", len, max } if len == max + 1), "{error}");
        assert_eq!(writer.stats().published, 0);
        encoder.json = vec![0; json_len].into();
        encoder.append(&update, UnixNs(0), &mut writer).unwrap();
    }
}
