//! A hashed timer wheel: one deadline per session, linked through the sessions themselves.
//!
//! The wheel owns no memory per session: each session lends it two words ([`Links`]). An entry whose deadline lies more
//! than one turn ahead is met early and put back, which costs one look a turn.

use crate::clock::WorkerMs;
use crate::ids::SessionId;

/// The words of a session that belong to the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    next: u32,
    previous: u32,
    /// [`WorkerMs::NEVER`] while the session is not in the wheel.
    pub(crate) deadline_ms: WorkerMs,
}

impl Links {
    pub(crate) const UNLINKED: Links = Links { next: NONE, previous: NONE, deadline_ms: WorkerMs::NEVER };
}

/// Where the wheel finds a session's links.
pub(crate) trait Linked {
    fn links(&mut self, index: SessionId) -> &mut Links;
}

/// The wheel.
pub(crate) struct Wheel {
    slots: Box<[u32; SLOTS]>,
    /// The next tick to be looked at.
    tick: u64,
}

impl Wheel {
    pub(crate) fn new() -> Self {
        Self { slots: Box::new([NONE; SLOTS]), tick: 0 }
    }

    /// Sets (or moves) the deadline of `index`.
    pub(crate) fn arm(&mut self, sessions: &mut impl Linked, index: SessionId, deadline_ms: WorkerMs) {
        self.disarm(sessions, index);
        let deadline_ms = deadline_ms.min(LAST);
        let slot = slot_of((deadline_ms.0 / TICK_MS).max(self.tick));
        let head = self.slots[slot];
        *sessions.links(index) = Links { next: head, previous: HEAD | slot_u32(slot), deadline_ms };
        if head != NONE {
            sessions.links(SessionId(head)).previous = index.0;
        }
        self.slots[slot] = index.0;
    }

    /// Takes `index` out, if it is in.
    pub(crate) fn disarm(&mut self, sessions: &mut impl Linked, index: SessionId) {
        let links = *sessions.links(index);
        if links.deadline_ms == WorkerMs::NEVER {
            return;
        }
        if links.previous & HEAD != 0 {
            self.slots[(links.previous & !HEAD) as usize] = links.next;
        } else {
            sessions.links(SessionId(links.previous)).next = links.next;
        }
        if links.next != NONE {
            sessions.links(SessionId(links.next)).previous = links.previous;
        }
        *sessions.links(index) = Links::UNLINKED;
    }

    /// Takes out every entry whose deadline has passed and adds it to `due`.
    pub(crate) fn expire(&mut self, sessions: &mut impl Linked, now_ms: WorkerMs, due: &mut Vec<SessionId>) {
        let now_tick = now_ms.0 / TICK_MS;
        // More than one turn behind: one turn meets every entry.
        let first = self.tick.max(now_tick.saturating_sub(SLOTS as u64));
        for tick in first..now_tick {
            let mut next = self.slots[slot_of(tick)];
            while next != NONE {
                let index = SessionId(next);
                let links = *sessions.links(index);
                if links.deadline_ms < WorkerMs((tick + 1) * TICK_MS).max(now_ms) {
                    self.disarm(sessions, index);
                    due.push(index);
                }
                next = links.next;
            }
        }
        self.tick = self.tick.max(now_tick);
    }

    /// Milliseconds until the next tick must be looked at.
    pub(crate) fn next_tick_in_ms(&self, now_ms: WorkerMs) -> u64 {
        ((self.tick + 1) * TICK_MS).saturating_sub(now_ms.0).clamp(1, TICK_MS)
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

fn slot_u32(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(0)
}

/// Resolution: deadlines are met up to this much late.
pub(crate) const TICK_MS: u64 = 50;
const SLOTS: usize = 1_024;
const NONE: u32 = u32::MAX;
const HEAD: u32 = 1 << 31;
/// The last deadline that can be set.
const LAST: WorkerMs = WorkerMs(u64::MAX - 1);

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<Links>);
    impl Linked for Table {
        fn links(&mut self, index: SessionId) -> &mut Links {
            &mut self.0[index.index()]
        }
    }

    #[test]
    fn deadlines_are_met_once_and_not_early() {
        let mut sessions = Table(vec![Links::UNLINKED; 1_000]);
        let mut wheel = Wheel::new();
        let deadline = |index: u32| 1 + u64::from(index.wrapping_mul(7_919) % 200_000);
        for index in 0..1_000 {
            wheel.arm(&mut sessions, SessionId(index), WorkerMs(5));
            wheel.arm(&mut sessions, SessionId(index), WorkerMs(deadline(index)));
        }
        for index in (0..1_000).step_by(3) {
            wheel.disarm(&mut sessions, SessionId(index));
        }
        let mut seen = vec![0; 1_000];
        let mut due = Vec::new();
        for now in (0..210_000u64).step_by(17) {
            wheel.expire(&mut sessions, WorkerMs(now), &mut due);
            for SessionId(index) in due.drain(..) {
                assert!(deadline(index) <= now, "{index} was early");
                assert!(now - deadline(index) <= 2 * TICK_MS, "{index} was {} ms late", now - deadline(index));
                seen[index as usize] += 1;
            }
        }
        for (index, count) in seen.iter().enumerate() {
            assert_eq!(*count, u32::from(index % 3 != 0), "{index}");
        }
    }

    #[test]
    fn a_long_pause_loses_none() {
        let mut sessions = Table(vec![Links::UNLINKED; 10]);
        let mut wheel = Wheel::new();
        for index in 0..10 {
            wheel.arm(&mut sessions, SessionId(index), WorkerMs(u64::from(1_000 * index)));
        }
        let mut due = Vec::new();
        wheel.expire(&mut sessions, WorkerMs(10_000_000), &mut due);
        due.sort_unstable();
        assert_eq!(due, (0..10).map(SessionId).collect::<Vec<_>>());
    }
}
