//! What publishing needs: the ring's writer, the encoder, and the handling of updates that the ring refuses.

use fanblade_feed::Unpublished;
use fanblade_market::{Encoder, Update};
use fanblade_ring::{RingError, SubjectId, UnixNs, Writer};

use super::complaints::{Complaints, REFUSED};

/// What publishing needs apart from the market. It is separate because the market is borrowed while its images are
/// published.
pub(super) struct Desk {
    pub(super) writer: Writer,
    pub(super) encoder: Encoder,
    /// Buffers for feeds that name their subjects.
    pub(super) json: Vec<u8>,
    pub(super) binary: Vec<u8>,
    pub(super) complaints: Complaints,
    /// Frames published so far from the current message.
    pub(super) frames: u32,
    /// Updates that the ring refused since the last report, by code.
    pub(super) unpublished: Vec<(&'static str, u64)>,
}

impl Desk {
    pub(super) fn new(writer: Writer) -> Desk {
        Desk {
            writer,
            encoder: Encoder::new(),
            json: Vec::new(),
            binary: Vec::new(),
            complaints: Complaints::default(),
            frames: 0,
            unpublished: Vec::new(),
        }
    }

    /// Publishes an image.
    pub(super) fn publish(&mut self, update: &Update<'_>) {
        let now_ns = UnixNs::now();
        let Err(error) = self.encoder.append(update, now_ns, &mut self.writer) else {
            self.frames += 1;
            return;
        };
        let mut name = String::new();
        update.subject(&mut name);
        // Either the frame was refused, or its subject, which then has no id.
        let is_unplaced = matches!(error, RingError::SubjectTableFull(_) | RingError::SubjectName(_));
        let id = if is_unplaced { None } else { self.encoder.subject(&name, &mut self.writer).ok() };
        self.note_refused(id, update.seq, &error, now_ns, || name);
    }

    /// Handles an update that the ring refused, itself or its subject. The missing value must not go unnoticed: the
    /// refusal is logged, counted, and noted in the ring, where workers see it and tell the subject's subscribers.
    pub(super) fn note_refused(
        &mut self,
        subject: Option<SubjectId>,
        seq: u64,
        error: &RingError,
        now_ns: UnixNs,
        name: impl FnOnce() -> String,
    ) -> Unpublished {
        self.complaints.note(REFUSED, now_ns, || format!("{}: {error}", name()));
        match subject {
            Some(subject) => self.writer.note_refused(subject, seq),
            None => self.writer.note_unplaced(seq),
        }
        let because = match error {
            RingError::LiveBytes { .. } => Unpublished::RingFull,
            RingError::SubjectTableFull(_) => Unpublished::TooManySubjects,
            RingError::FrameTooLong { .. } => Unpublished::TooLong,
            _ => Unpublished::Refused,
        };
        count(&mut self.unpublished, because.code(), 1);
        because
    }
}

/// Adds to the count of one kind. A linear search is enough: all kinds are named in the code, and few.
pub(super) fn count(counts: &mut Vec<(&'static str, u64)>, kind: &'static str, more: u64) {
    match counts.iter_mut().find(|(known, _)| *known == kind) {
        Some((_, count)) => *count += more,
        None => counts.push((kind, more)),
    }
}
