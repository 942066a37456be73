//! What lanes have in flight, without a list for each: the ring of items, in passes.
//!
//! Each item names the lane's item before it, so that from a lane's newest item all that it has in flight is found. A
//! pass is what one flush sent. Passes are released in the order in which they began, when nothing of them is in flight
//! any more. They are looked at when they are as old as the shortest timeout, or when the ring is half full. What is
//! not acknowledged in time raises its lane; so the timeouts of all lanes are one walk along the ring, and no lane has
//! a timer. A lane that holds the ring up is raised, too, whatever its own timeout.

use std::collections::VecDeque;

use fanblade_abi::lane::send::Item;
use fanblade_abi::lane::{Lane, Reason, Sending, Seq};

use super::shared::Shared;

/// The ring of items, as `WORK` holds them.
#[derive(Debug)]
pub struct History {
    items: Shared<Item>,
    /// Items since the start; the next one's place is this, counted round.
    head: u32,
    /// The first item that is still needed.
    tail: u32,
    passes: VecDeque<Pass>,
    /// The first item that was not looked at yet.
    looked_at: u32,
    /// Passes that were looked at.
    passes_looked_at: usize,
    /// Items that were looked at and are needed still: they are looked at again.
    late: VecDeque<u32>,
    late_looked_at_ns: u64,
    /// Staged words of the passes so far.
    words_end: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pass {
    /// Items up to here.
    end: u32,
    /// Staged words up to here.
    words_end: u64,
    sent_ns: u64,
}

/// A piece of what a lane has in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The first word in the staged bytes.
    pub slot: u32,
    /// Bytes of the packet.
    pub len: u16,
    /// So many of its first bytes are acknowledged.
    pub skip: u16,
}

/// What a lane has in flight is not in the ring any more: it can only be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken;

/// A pass is looked at when it is this old, in nanoseconds: no lane has a shorter timeout.
pub const LOOK_NS: u64 = 200_000_000;

/// What was needed still is looked at again after this time, in nanoseconds.
const LATE_NS: u64 = 50_000_000;

/// The same where the ring is more than half full.
const LATE_PRESSED_NS: u64 = 5_000_000;

/// What is in flight for so long, in nanoseconds, raises its lane where the ring is more than half full: the other
/// lanes need the room, and a client can make its own timeout as long as it likes.
pub const IN_FLIGHT_PRESSED_NS: u64 = 1_000_000_000;

impl History {
    /// The number of items must be a power of two, so that their count may wrap.
    #[must_use]
    pub fn new(items: Shared<Item>) -> History {
        History::beginning_at(items, 0)
    }

    /// The same for a ring that was used before: its first item gets this place.
    #[must_use]
    pub fn beginning_at(items: Shared<Item>, place: u32) -> History {
        assert!(items.len().is_power_of_two() && u32::try_from(items.len()).is_ok(), "{} items", items.len());
        History {
            items,
            head: place,
            tail: place,
            passes: VecDeque::new(),
            looked_at: place,
            passes_looked_at: 0,
            late: VecDeque::new(),
            late_looked_at_ns: 0,
            words_end: 0,
        }
    }

    /// Adds an item, and returns its place, to be the next one's `previous`. `None`: the ring is full of what may be in
    /// flight.
    #[must_use = "an item that found no room is not sent"]
    pub fn push(&mut self, item: Item) -> Option<u32> {
        // The place that means "none" stays empty: the program finds no such lane.
        if self.head == Item::NONE && self.len() < self.items.len() {
            self.items.set(self.head as usize, Item { lane: u32::MAX, ..Item::default() });
            self.head = self.head.wrapping_add(1);
        }
        if self.len() == self.items.len() {
            return None;
        }
        let place = self.head;
        self.items.set(place as usize, item);
        self.head = place.wrapping_add(1);
        Some(place)
    }

    /// Items that are still needed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.wrapping_sub(self.tail) as usize
    }

    /// Is there no item?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// The place of the next item.
    #[must_use]
    pub fn head(&self) -> u32 {
        self.head
    }

    /// The item at a place.
    #[must_use]
    pub fn item(&self, place: u32) -> Item {
        self.items.get(place as usize)
    }

    /// What a model of the sending program has made of an item.
    pub fn set_outcome(&mut self, place: u32, outcome: u16) {
        self.items.set(place as usize, Item { outcome, ..self.item(place) });
    }

    /// Ends a pass: all items since the last one have been sent at `sent_ns`, and all bytes staged since then lie
    /// before `words_end`.
    pub fn end_pass(&mut self, words_end: u64, sent_ns: u64) {
        let has_items = self.passes.back().map_or(self.tail, |pass| pass.end) != self.head;
        if has_items || words_end != self.words_end {
            self.passes.push_back(Pass { end: self.head, words_end, sent_ns });
            self.words_end = words_end;
        }
    }

    /// Is the ring so full that lanes may have to wait for its room?
    fn is_pressed(&self) -> bool {
        self.len() > self.items.len() / 2
    }

    /// Looks at what is old enough. Lanes that have waited longer than their timeout are given to `raise`, as often as
    /// they are looked at: until [`Self::release`], all that they have in flight can be found.
    pub fn look(&mut self, now_ns: u64, lanes: &Shared<Lane>, raise: &mut dyn FnMut(u32, Reason)) {
        let is_pressed = self.is_pressed();
        let pause_ns = if is_pressed { LATE_PRESSED_NS } else { LATE_NS };
        if now_ns.saturating_sub(self.late_looked_at_ns) >= pause_ns {
            self.late_looked_at_ns = now_ns;
            for _ in 0..self.late.len() {
                let Some(place) = self.late.pop_front() else { break };
                if self.is_needed(place, now_ns, lanes, raise) {
                    self.late.push_back(place);
                }
            }
        }
        while let Some(pass) = self.passes.get(self.passes_looked_at)
            && (is_pressed || now_ns.saturating_sub(pass.sent_ns) >= LOOK_NS)
        {
            let end = pass.end;
            while self.looked_at != end {
                let place = self.looked_at;
                self.looked_at = place.wrapping_add(1);
                if self.is_needed(place, now_ns, lanes, raise) {
                    self.late.push_back(place);
                }
            }
            self.passes_looked_at += 1;
        }
    }

    /// Is an item in flight, on a lane that is not raised yet?
    fn is_needed(&self, place: u32, now_ns: u64, lanes: &Shared<Lane>, raise: &mut dyn FnMut(u32, Reason)) -> bool {
        let item = self.item(place);
        if item.outcome != Item::SENT || item.len == 0 {
            return false;
        }
        let lane = lanes.get(item.lane as usize);
        let is_its_lane = lane.sending.has(Sending::USED) && lane.sending.generation == item.generation;
        if !is_its_lane || !item.seq.plus(u32::from(item.len)).is_after(lane.receiving.snd_una) {
            return false;
        }
        let sent_ns = self.sent_ns(place);
        let waits_since_ns = sent_ns.max(lane.receiving.advanced_ns);
        let is_due = now_ns.saturating_sub(waits_since_ns) >= u64::from(lane.receiving.timeout_ms()) * 1_000_000;
        if is_due || (self.is_pressed() && now_ns.saturating_sub(sent_ns) >= IN_FLIGHT_PRESSED_NS) {
            raise(item.lane, Reason::Timeout);
        }
        true
    }

    fn sent_ns(&self, place: u32) -> u64 {
        let at = self.passes.partition_point(|pass| pass.end.wrapping_sub(self.tail) <= place.wrapping_sub(self.tail));
        self.passes.get(at).map_or(0, |pass| pass.sent_ns)
    }

    /// Releases the passes of which nothing is needed any more. Returns how far the staged words are free then.
    pub fn release(&mut self) -> Option<u64> {
        let from = self.tail;
        let since = |place: u32| place.wrapping_sub(from);
        // Late items stay in the order in which they were sent.
        let free = since(self.late.front().copied().unwrap_or(self.looked_at));
        let mut words_end = None;
        while let Some(pass) = self.passes.pop_front_if(|pass| since(pass.end) <= free) {
            (self.tail, words_end) = (pass.end, Some(pass.words_end));
            self.passes_looked_at -= 1;
        }
        words_end
    }

    /// What a lane has in flight, oldest first: from its newest item back to `snd_una`.
    ///
    /// # Errors
    /// [`Overtaken`]: part of it has left the ring.
    pub fn in_flight(&self, newest: u32, snd_una: Seq, snd_nxt: Seq) -> Result<Vec<InFlight>, Overtaken> {
        let (mut pieces, mut end, mut place) = (Vec::new(), snd_nxt, newest);
        while end != snd_una {
            if place == Item::NONE || place.wrapping_sub(self.tail) >= self.head.wrapping_sub(self.tail) {
                return Err(Overtaken);
            }
            let item = self.item(place);
            place = item.previous;
            if item.outcome != Item::SENT || item.len == 0 {
                continue;
            }
            if item.seq.plus(u32::from(item.len)) != end {
                return Err(Overtaken);
            }
            let acknowledged = snd_una.since(item.seq);
            let skip = if item.seq.is_before(snd_una) { acknowledged } else { 0 };
            let skip = u16::try_from(skip).map_err(|_| Overtaken)?;
            pieces.push(InFlight { slot: item.slot, len: item.len, skip });
            end = if skip > 0 { snd_una } else { item.seq };
        }
        pieces.reverse();
        Ok(pieces)
    }
}
