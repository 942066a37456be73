//! What sessions with lists of their own are owed and have not been sent yet, in one place for all of them.
//!
//! A group has a list of its frames; a hundred thousand lists would be a hundred thousand allocations. Here a delivery
//! is a node of eight bytes, linked to the next of its session, and the frame itself is described once. A session has a
//! slot while it is owed something, and finds it by `Session::member`.
//!
//! Slots whose frames may wait for more (`batching`) lie in sixteen turns, as groups do; the others are urgent.

use std::collections::VecDeque;

use fanblade_ring::{Descriptor, FrameRef, LANES, Lane};

use crate::batching::{TURNS, Window, turn};
use crate::clock::{RunningUs, UnixNs};
use crate::directory::{Moment, Owed};
use crate::ids::{RingIndex, SessionId};
use crate::limits::{DELIVERED_FRAMES_MAX, DELIVERIES_KEPT, DELIVERIES_MAX, PASS_FRAMES_MAX};
use crate::session::IDLE;

#[derive(Default)]
pub(crate) struct Arena {
    /// The frames that nodes refer to; the first has the number `frames_begin`.
    frames: VecDeque<Frame>,
    frames_begin: u64,
    nodes: Vec<Node>,
    /// The first free node, linked to the next; [`NONE`] if there is none.
    nodes_free: u32,
    nodes_used: usize,
    slots: Vec<Slot>,
    slots_free: Vec<u32>,
    /// Slots with a frame that does not wait.
    urgent: Vec<u32>,
    turns: [Turn; TURNS],
    /// Slots that are being sent to.
    due: Vec<u32>,
    /// Sessions whose slots have been taken back: see [`Self::take_idle`].
    idle: Vec<SessionId>,
}

/// Slots that wait.
struct Turn {
    slots: Vec<u32>,
    /// The earliest time at which one of them is due.
    due_us: RunningUs,
    /// The lowest number of a frame that one of them waits with.
    frames_begin: u64,
}

struct Frame {
    index: RingIndex,
    lanes: [FrameRef; LANES],
    /// Sequence number of the newest update before the pass that brought it.
    before_seq: u64,
    published_ns: UnixNs,
}

/// One frame for one session: `1 bit conflatable │ 31 bits of the frame's number`, and the next.
#[derive(Clone, Copy)]
struct Node {
    frame: u32,
    next: u32,
}

struct Slot {
    /// [`NOBODY`] once it has fallen behind or gone: then the slot is owed nothing, and taken back when it is met.
    session: SessionId,
    /// Its nodes; [`NONE`] if it is owed nothing.
    first: u32,
    last: u32,
    count: u32,
    bytes: u64,
    due_us: RunningUs,
    lane: Lane,
    /// It is in `Arena::urgent`.
    is_urgent: bool,
    /// It is in its turn's list.
    is_listed: bool,
    /// It is in `Arena::due`.
    is_due: bool,
    /// All that it is owed may wait for more.
    may_wait: bool,
    is_filled: bool,
}

/// A delivery, as [`Arena::add`] takes it.
#[derive(Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) session: SessionId,
    pub(crate) lane: Lane,
    /// As [`Arena::begin_frame`] has numbered it.
    pub(crate) frame: u64,
    /// Bytes in the session's lane.
    pub(crate) length: u32,
    pub(crate) conflatable: bool,
}

/// What a slot is owed, in figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) session: SessionId,
    pub(crate) lane: Lane,
    pub(crate) frames: u64,
    pub(crate) may_wait: bool,
    pub(crate) is_filled: bool,
}

/// The first frame that a slot is owed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(crate) index: RingIndex,
    pub(crate) before_seq: u64,
    pub(crate) published_ns: UnixNs,
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self { nodes_free: NONE, ..Self::default() }
    }

    /// Is anybody owed something?
    pub(crate) fn is_waited_for(&self) -> bool {
        self.nodes_used > 0
    }

    /// The earliest turn.
    pub(crate) fn due_us(&self) -> RunningUs {
        if !self.urgent.is_empty() || self.is_full() {
            return RunningUs::default();
        }
        self.turns.iter().map(|turn| turn.due_us).min().unwrap_or(RunningUs::NEVER)
    }

    /// Is there as much as one pass holds? Then the pass reads no further, and everything is due.
    pub(crate) fn is_full(&self) -> bool {
        self.nodes_used >= DELIVERIES_MAX || self.frames.len() >= DELIVERED_FRAMES_MAX
    }

    /// Takes in a frame that some session here is owed. Returns its number.
    pub(crate) fn begin_frame(&mut self, frame: &Descriptor, before_seq: u64) -> u64 {
        let Descriptor { index, lanes, .. } = *frame;
        let published_ns = frame.ts_publish_ns;
        self.frames.push_back(Frame { index, lanes, before_seq, published_ns });
        self.frames_begin + self.frames.len() as u64 - 1
    }

    /// A session is owed the frame that was begun last. A second filter that leads to the frame adds nothing, but its
    /// mode counts if it is the stronger. Returns the session's `member` from now on, and whether the session is owed
    /// as much as one send takes.
    pub(crate) fn add(&mut self, member: u32, it: Delivery, window: Window, moment: &Moment) -> (u32, bool) {
        let number = if member == IDLE { self.begin_slot(it.session, it.lane) } else { member };
        let slot = &mut self.slots[number as usize];
        debug_assert!(slot.session == it.session, "a session in another's slot");
        let word = u32::try_from(it.frame & NUMBER_MASK).unwrap_or(0) | if it.conflatable { CONFLATABLE } else { 0 };
        if slot.first == NONE {
            (slot.count, slot.bytes, slot.due_us) = (0, 0, RunningUs::NEVER);
            (slot.may_wait, slot.is_filled) = (true, false);
        } else {
            let last = &mut self.nodes[slot.last as usize];
            if (last.frame ^ word) & !CONFLATABLE == 0 {
                last.frame &= word;
                return (number, false);
            }
        }
        let node = Node { frame: word, next: NONE };
        let place = if self.nodes_free == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
        } else {
            let place = self.nodes_free;
            self.nodes_free = std::mem::replace(&mut self.nodes[place as usize], node).next;
            place
        };
        self.nodes_used += 1;
        if slot.first == NONE {
            slot.first = place;
        } else {
            self.nodes[slot.last as usize].next = place;
        }
        slot.last = place;
        slot.count += 1;
        slot.bytes += u64::from(it.length);
        slot.may_wait &= window.is_open();
        slot.is_filled |= window.is_filled_by(slot.bytes);
        let is_whole_send = slot.count as usize >= PASS_FRAMES_MAX;
        let is_due = is_whole_send || slot.is_filled;
        slot.due_us = if is_due { moment.now_us } else { slot.due_us.min(window.end_us(moment.now_us, it.session.0)) };
        self.list(number, it.frame, moment.now_us);
        (number, is_whole_send)
    }

    /// Puts a slot where it will be met when it is due.
    fn list(&mut self, number: u32, frame: u64, now_us: RunningUs) {
        let slot = &mut self.slots[number as usize];
        if slot.due_us <= now_us {
            if !std::mem::replace(&mut slot.is_urgent, true) {
                self.urgent.push(number);
            }
        } else if !slot.is_urgent {
            let turn = &mut self.turns[turn(slot.session.0)];
            turn.due_us = turn.due_us.min(slot.due_us);
            turn.frames_begin = turn.frames_begin.min(frame);
            if !std::mem::replace(&mut slot.is_listed, true) {
                turn.slots.push(number);
            }
        }
    }

    /// Gathers the slots whose turn it is; with `all`, every one that is owed something.
    pub(crate) fn take_due(&mut self, now_us: RunningUs, all: bool) {
        let all = all || self.is_full();
        let mut urgent = std::mem::take(&mut self.urgent);
        let needed = urgent.len();
        for number in urgent.drain(..) {
            self.slots[number as usize].is_urgent = false;
            self.is_due_now(number);
        }
        self.urgent = emptied(urgent, needed);
        for place in 0..TURNS {
            if !all && self.turns[place].due_us > now_us {
                continue;
            }
            let mut waiting = std::mem::take(&mut self.turns[place].slots);
            let (mut due_us, mut frames_begin) = (RunningUs::NEVER, u64::MAX);
            waiting.retain(|&number| {
                let slot = &mut self.slots[number as usize];
                if !all && slot.first != NONE && !slot.is_due && slot.due_us > now_us {
                    due_us = due_us.min(slot.due_us);
                    frames_begin =
                        frames_begin.min(self.frames_begin + self.offset(self.slots[number as usize].first) as u64);
                    return true;
                }
                slot.is_listed = false;
                self.is_due_now(number);
                false
            });
            self.turns[place] = Turn { slots: waiting, due_us, frames_begin };
        }
    }

    fn is_due_now(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        if slot.is_due {
            return;
        }
        if slot.first == NONE {
            if !slot.is_urgent && !slot.is_listed {
                self.end_slot(number);
            }
            return;
        }
        slot.is_due = true;
        self.due.push(number);
    }

    /// How many slots are being sent to.
    pub(crate) fn due_count(&self) -> usize {
        self.due.len()
    }

    /// The slot at this place among those that are being sent to; `None` if its session has left it.
    pub(crate) fn due_slot(&self, place: usize) -> Option<(u32, Load)> {
        let number = *self.due.get(place)?;
        let slot = &self.slots[number as usize];
        let Slot { session, lane, may_wait, is_filled, .. } = *slot;
        (slot.first != NONE).then_some((number, Load { session, lane, frames: slot.count.into(), may_wait, is_filled }))
    }

    /// The frames that a slot is owed, in order.
    pub(crate) fn owed(&self, slot: u32) -> impl Iterator<Item = Owed> {
        let Slot { first, lane, .. } = self.slots[slot as usize];
        let mut at = first;
        std::iter::from_fn(move || {
            let node = *self.nodes.get(at as usize)?;
            let frame = &self.frames[self.offset(at)];
            at = node.next;
            let FrameRef { position, length, .. } = frame.lanes[lane as usize];
            Some(Owed { index: frame.index, position, length, conflatable: node.frame & CONFLATABLE != 0 })
        })
    }

    /// The first of them.
    pub(crate) fn first(&self, slot: u32) -> Option<First> {
        let first = self.slots.get(slot as usize)?.first;
        let Frame { index, before_seq, published_ns, .. } =
            *self.frames.get(self.nodes.get(first as usize).map(|_| self.offset(first))?)?;
        Some(First { index, before_seq, published_ns })
    }

    /// The session has fallen behind or gone: its slot is owed nothing.
    pub(crate) fn leave(&mut self, number: u32) {
        self.free_nodes(number);
        let slot = &mut self.slots[number as usize];
        slot.session = NOBODY;
        if !slot.is_urgent && !slot.is_listed && !slot.is_due {
            self.end_slot(number);
        }
    }

    /// Everything that was due has been sent, or is no longer owed.
    pub(crate) fn settle(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        let needed = due.len();
        for number in due.drain(..) {
            self.free_nodes(number);
            let slot = &mut self.slots[number as usize];
            slot.is_due = false;
            if !slot.is_urgent && !slot.is_listed {
                self.end_slot(number);
            }
        }
        self.due = emptied(due, needed);
        if self.nodes_used == 0 {
            self.forget_frames();
            return;
        }
        // Sessions that are still owed something wait for a turn.
        let begin = self.turns.iter().map(|turn| turn.frames_begin).min().unwrap_or(0);
        while self.frames_begin < begin && self.frames.pop_front().is_some() {
            self.frames_begin += 1;
        }
    }

    /// The next session whose slot has been taken back: it is owed nothing, and its `member` is [`IDLE`] again.
    pub(crate) fn take_idle(&mut self) -> Option<SessionId> {
        self.idle.pop()
    }

    /// Takes back what came from ring index `index` on.
    pub(crate) fn forget_from(&mut self, index: RingIndex) {
        for number in 0..self.slots.len() {
            let (mut kept, mut last, mut at) = (0, NONE, self.slots[number].first);
            while at != NONE && self.frames[self.offset(at)].index < index {
                (kept, last, at) = (kept + 1, at, self.nodes[at as usize].next);
            }
            if at == NONE {
                continue;
            }
            let slot = &mut self.slots[number];
            self.nodes[slot.last as usize].next = std::mem::replace(&mut self.nodes_free, at);
            self.nodes_used -= (slot.count - kept) as usize;
            (slot.count, slot.last) = (kept, last);
            match self.nodes.get_mut(last as usize) {
                Some(node) => node.next = NONE,
                None => slot.first = NONE,
            }
        }
    }

    /// No session has a slot any more: forgets everything.
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.slots.iter().all(|slot| slot.session == NOBODY), "a session is in a slot still");
        self.slots.clear();
        self.slots_free.clear();
        self.urgent.clear();
        self.due.clear();
        self.idle.clear();
        self.turns = Default::default();
        self.nodes_used = 0;
        self.forget_frames();
    }

    fn begin_slot(&mut self, session: SessionId, lane: Lane) -> u32 {
        let slot = Slot {
            session,
            first: NONE,
            last: NONE,
            count: 0,
            bytes: 0,
            due_us: RunningUs::NEVER,
            lane,
            is_urgent: false,
            is_listed: false,
            is_due: false,
            may_wait: true,
            is_filled: false,
        };
        if let Some(number) = self.slots_free.pop() {
            self.slots[number as usize] = slot;
            return number;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
    }

    fn end_slot(&mut self, number: u32) {
        let session = std::mem::replace(&mut self.slots[number as usize].session, NOBODY);
        if session != NOBODY {
            self.idle.push(session);
        }
        self.slots_free.push(number);
        if self.slots_free.len() == self.slots.len() {
            let needed = self.slots.len();
            self.slots = emptied(std::mem::take(&mut self.slots), needed);
            self.slots_free = emptied(std::mem::take(&mut self.slots_free), needed);
            self.idle.shrink_to(needed.max(DELIVERIES_KEPT) * 2);
        }
    }

    fn free_nodes(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        let first = std::mem::replace(&mut slot.first, NONE);
        if first != NONE {
            self.nodes[slot.last as usize].next = std::mem::replace(&mut self.nodes_free, first);
            self.nodes_used -= slot.count as usize;
            (slot.last, slot.count) = (NONE, 0);
        }
    }

    fn forget_frames(&mut self) {
        self.frames_begin += self.frames.len() as u64;
        self.frames.clear();
        let needed = self.nodes.len();
        self.nodes = emptied(std::mem::take(&mut self.nodes), needed);
        self.nodes_free = NONE;
    }

    /// Place in `frames` of what a node names. There are fewer frames than numbers in 31 bits.
    fn offset(&self, node: u32) -> usize {
        let number = self.nodes[node as usize].frame & !CONFLATABLE;
        let begin = u32::try_from(self.frames_begin & NUMBER_MASK).unwrap_or(0);
        (number.wrapping_sub(begin) & !CONFLATABLE) as usize
    }
}

/// The list without its items. It keeps its memory from one pass to the next; that of a burst goes as soon as a pass
/// has needed much less.
fn emptied<T>(mut list: Vec<T>, needed: usize) -> Vec<T> {
    list.clear();
    let kept = needed.max(DELIVERIES_KEPT) * 2;
    if list.capacity() > kept * 2 {
        list.shrink_to(kept);
    }
    list
}

impl Default for Turn {
    fn default() -> Self {
        Self { slots: Vec::new(), due_us: RunningUs::NEVER, frames_begin: u64::MAX }
    }
}

const NONE: u32 = u32::MAX;
/// No session has this number.
const NOBODY: SessionId = SessionId(u32::MAX);
const CONFLATABLE: u32 = 1 << 31;
const NUMBER_MASK: u64 = 0x7fff_ffff;

#[cfg(test)]
mod tests;
