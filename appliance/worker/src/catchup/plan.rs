//! What one call of `serve` is about to send, and where each session stands once it is sent.
//!
//! A plan is made of pieces: frames in the ring, and notices. Each piece says where its session stands behind it, so
//! that a send which the kernel takes in part moves the session to the piece where it was cut.

use fanblade_net::Unsent;
use fanblade_ring::{Descriptor, Lane};
use fanblade_wire::frame::{self, Opcode};

use crate::behind::Behind;
use crate::ids::{LanePosition, RingIndex, SessionId, SubjectId};
use crate::limits::{PLAN_PIECES_MAX, UPDATE_PIECES_MAX};

/// What one call of `serve` is about to send: pieces of many sessions, one session after the other.
#[derive(Default)]
pub(crate) struct Plan {
    pub(super) sends: Vec<Planned>,
    pub(super) pieces: Vec<Piece>,
    /// Where the pieces begin of the session that is being planned for.
    pub(super) first: usize,
    /// The notices' frames, one after the other.
    pub(super) notices: Vec<u8>,
    /// Scratch: `(origin, ring index)` of the frames that a conflated session is owed.
    pub(super) owed: Vec<(RingIndex, RingIndex)>,
    /// Scratch: subjects of which this session's plan has a frame, if the session has lost a stretch. Sorted.
    pub(super) seen: Vec<SubjectId>,
    /// Scratch: ring indices where the updates that a session lacks may lie.
    pub(super) candidates: Vec<RingIndex>,
}

/// One session's send.
pub(super) struct Planned {
    pub(super) index: SessionId,
    /// Its pieces.
    pub(super) from: usize,
    pub(super) to: usize,
    /// Bytes of the session's own buffer that go first.
    pub(super) owed_len: usize,
    /// Bytes of the pieces.
    pub(super) pieces_len: usize,
    /// Where the session stands once all of it is sent; `None`: where its last piece says.
    pub(super) end: Option<Standing>,
    /// What the kernel did not take of it.
    pub(super) unsent: Option<Unsent>,
}

/// Where a session will stand once a plan is carried out.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) next: RingIndex,
    pub(super) after_seq: u64,
    pub(super) dropped: u64,
    pub(super) generation: u32,
}

/// One frame of a plan.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) source: Source,
    pub(super) len: u32,
    /// Its subject; [`NO_SUBJECT`] for a notice.
    pub(super) subject: SubjectId,
    /// Ring index of the first update that the session lacks once this piece is sent.
    pub(super) next: RingIndex,
    pub(super) after_seq: u64,
    /// What it adds to [`Behind::served`].
    pub(super) served: u64,
    /// What it adds to [`Behind::dropped`].
    pub(super) dropped: u64,
    /// The epoch's generation that the client knows after it.
    pub(super) generation: u32,
}

/// Where a piece's bytes lie.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// Place in `Plan::notices`.
    Notice { at: usize, is_gap: bool },
    /// Position in the session's lane, and the ring index of the descriptor.
    Ring { position: LanePosition, index: RingIndex },
}

impl Standing {
    /// Where the session stands now.
    pub(super) fn of(behind: &Behind) -> Self {
        Self { next: behind.next, after_seq: behind.after_seq, dropped: 0, generation: behind.generation }
    }
}

impl Plan {
    pub(super) fn clear(&mut self) {
        self.sends.clear();
        self.pieces.clear();
        self.notices.clear();
    }

    /// Is there room for all pieces of one more update in this session's send?
    pub(super) fn has_room(&self) -> bool {
        self.pieces.len() - self.first + UPDATE_PIECES_MAX <= PLAN_PIECES_MAX
    }

    /// `true` if this session's plan has no frame of `subject` yet.
    pub(super) fn see(&mut self, subject: SubjectId) -> bool {
        match self.seen.binary_search(&subject) {
            Ok(_) => false,
            Err(place) => {
                self.seen.insert(place, subject);
                true
            }
        }
    }

    /// Adds the frame of an update, if there is one in this lane.
    pub(super) fn frame(
        &mut self,
        descriptor: &Descriptor,
        index: RingIndex,
        lane: Lane,
        after: &Standing,
        served: u64,
    ) {
        let frame = descriptor.lanes[lane as usize];
        if frame.length > 0 {
            self.pieces.push(Piece {
                source: Source::Ring { position: frame.position, index },
                len: frame.length,
                subject: descriptor.subject,
                next: after.next,
                after_seq: after.after_seq,
                served,
                dropped: after.dropped,
                generation: after.generation,
            });
        }
    }

    /// Adds a notice that takes account of `served` frames.
    pub(super) fn notice(&mut self, text: &str, after: &Standing, served: u64) {
        self.notice_of(text, after, served, false);
    }

    /// Frames that the session wanted are lost.
    pub(super) fn gap_notice(&mut self, text: &str, after: &Standing) {
        self.notice_of(text, after, 0, true);
    }

    fn notice_of(&mut self, text: &str, after: &Standing, served: u64, is_gap: bool) {
        let at = self.notices.len();
        frame::write_frame(&mut self.notices, Opcode::Text, text.as_bytes());
        self.pieces.push(Piece {
            source: Source::Notice { at, is_gap },
            len: u32::try_from(self.notices.len() - at).unwrap_or(0),
            subject: NO_SUBJECT,
            next: after.next,
            after_seq: after.after_seq,
            served,
            dropped: after.dropped,
            generation: after.generation,
        });
    }
}
impl Planned {
    /// Only the first `kept` of its `pieces` are sent; the others are still owed.
    pub(super) fn cut(&mut self, kept: usize, pieces: &[Piece]) {
        self.to = self.from + kept;
        self.pieces_len = pieces[..kept].iter().map(|piece| piece.len as usize).sum();
        self.end = None;
    }
}

impl Behind {
    /// The kernel took `sent` bytes of `pieces`: moves on behind those that went whole. Returns the piece that was cut
    /// in two, and how many of its bytes went; that piece counts as given, since its rest is copied.
    pub(super) fn advance(&mut self, pieces: &[Piece], mut sent: usize) -> Option<(Piece, usize)> {
        for piece in pieces {
            if sent == 0 {
                return None;
            }
            (self.next, self.after_seq) = (piece.next, piece.after_seq);
            self.served = self.served.wrapping_add(piece.served);
            self.dropped += piece.dropped;
            self.generation = piece.generation;
            if piece.subject != NO_SUBJECT {
                for lost in &mut self.lost {
                    lost.settle(piece.subject);
                }
            }
            if sent < piece.len as usize {
                return Some((*piece, sent));
            }
            sent -= piece.len as usize;
        }
        None
    }
}
/// Marks a piece that is no frame of a subject.
const NO_SUBJECT: SubjectId = SubjectId(u32::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_a_send_is_owed_still() {
        let piece = |number: u64| Piece {
            source: Source::Ring { position: LanePosition(0), index: RingIndex(number) },
            len: 10,
            subject: SubjectId(7),
            next: RingIndex(number + 1),
            after_seq: number,
            served: 1,
            dropped: 0,
            generation: 1,
        };
        let pieces: Vec<Piece> = (0..5).map(piece).collect();
        let end = Standing { next: RingIndex(9), after_seq: 8, dropped: 3, generation: 1 };
        let mut planned =
            Planned { index: SessionId(0), from: 0, to: 5, owed_len: 4, pieces_len: 50, end: Some(end), unsent: None };
        planned.cut(3, &pieces);
        assert_eq!((planned.to, planned.pieces_len), (3, 30));
        // All that was sent is taken: the session stands behind the third piece, not where the whole plan would end.
        let mut behind = Behind::default();
        assert!(behind.advance(&pieces[planned.from..planned.to], planned.pieces_len).is_none());
        assert!(planned.end.is_none(), "it is not at the end of its plan");
        assert_eq!((behind.next, behind.after_seq, behind.served, behind.dropped), (RingIndex(3), 2, 3, 0));
    }
}
