//! A session of a ring, in one word.

use crate::limits::SESSION_RECEIVES_MAX;

/// A session's state: flags, then its receives of this poll, and its slot's generation in the high half.
#[derive(Clone, Copy, Default)]
pub(super) struct Word(pub(super) u32);

/// The session is in use.
pub(super) const OPEN: u32 = 1 << 0;
/// Its receive has not completed finally.
pub(super) const RECEIVING: u32 = 1 << 1;
/// Its wait for room has not completed.
pub(super) const WAITING: u32 = 1 << 2;
/// Its half close has not completed.
pub(super) const SHUTTING: u32 = 1 << 3;
/// Its close has not completed.
pub(super) const CLOSING: u32 = 1 << 4;
/// The worker wants nothing to read.
pub(super) const PAUSED: u32 = 1 << 5;
/// [`Event::Closed`] has been reported.
pub(super) const ENDED: u32 = 1 << 6;

/// It has used up its share of this poll.
pub(super) const RESTING: u32 = 1 << 7;
/// Its socket is to be given away, or has been: nothing is asked of it any more.
pub(super) const LEAVING: u32 = 1 << 8;
/// Its descriptor is being made.
pub(super) const INSTALLING: u32 = 1 << 9;
/// Its socket has been given away.
pub(super) const DETACHED: u32 = 1 << 10;

pub(super) const FLAGS: u32 = 0x7ff;
/// One receive of this poll.
pub(super) const RECEIVE: u32 = 1 << 11;
pub(super) const RECEIVES: u32 = 0x1f * RECEIVE;
pub(super) const REQUESTS: u32 = RECEIVING | WAITING | SHUTTING | CLOSING | INSTALLING;
const _: () = assert!(SESSION_RECEIVES_MAX <= 0x1f && FLAGS & RECEIVES == 0 && (FLAGS | RECEIVES) == 0xffff);

impl Word {
    pub(super) fn has(self, flags: u32) -> bool {
        self.0 & flags == flags
    }

    pub(super) fn set(&mut self, flags: u32) {
        self.0 |= flags;
    }

    pub(super) fn clear(&mut self, flags: u32) {
        self.0 &= !flags;
    }

    /// Is the session in use, with its socket?
    pub(super) fn is_attached(self) -> bool {
        self.0 & (OPEN | LEAVING) == OPEN
    }

    /// May the session report events?
    pub(super) fn is_live(self) -> bool {
        self.0 & (OPEN | ENDED) == OPEN
    }

    pub(super) fn receives(self) -> u8 {
        ((self.0 & RECEIVES) / RECEIVE) as u8
    }

    pub(super) fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}
