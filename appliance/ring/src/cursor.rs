//! Arithmetic of a ring whose positions only grow. It knows no memory: the writer keeps one [`Extent`] for the index
//! (of [`RingIndex`](crate::RingIndex), its lengths in descriptors) and one per lane (of
//! [`LanePosition`](crate::LanePosition), in bytes).

use crate::ids::Growing;

/// ```text
///          intact           oldest                      head
///   ─────────┼────────────────┼───────────────────────────┼──────────┐
///  overwrit- │ retired, whole │ kept                      │  free    │ intact + capacity at the least
///  ten       │ (the margin)   │                           │          │
/// ```
/// Invariant: `intact ≤ oldest ≤ head ≤ intact + capacity`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent<P> {
    capacity: u64,
    intact: P,
    oldest: P,
    head: P,
}

impl<P: Growing> Extent<P> {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, intact: P::default(), oldest: P::default(), head: P::default() }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(crate) fn head(&self) -> P {
        self.head
    }

    pub(crate) fn oldest(&self) -> P {
        self.oldest
    }

    pub(crate) fn intact(&self) -> P {
        self.intact
    }

    /// What can be appended before something that is kept would be overwritten.
    pub(crate) fn room(&self) -> u64 {
        self.capacity - self.head.since(self.oldest)
    }

    /// Would appending `len` overwrite something that is still whole?
    pub(crate) fn overwrites(&self, len: u64) -> bool {
        self.head.plus(len) > self.intact.plus(self.capacity)
    }

    /// Everything before `position` is retired.
    pub(crate) fn retire_to(&mut self, position: P) {
        debug_assert!(self.oldest <= position && position <= self.head);
        self.oldest = position;
    }

    /// Everything before `position` may be overwritten from now on.
    pub(crate) fn release_to(&mut self, position: P) {
        debug_assert!(self.intact <= position && position <= self.oldest);
        self.intact = position;
    }

    pub(crate) fn append(&mut self, len: u64) {
        debug_assert!(!self.overwrites(len));
        self.head = self.head.plus(len);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Extent;
    use crate::LanePosition;

    #[test]
    fn room_counts_from_the_kept_and_overwriting_from_the_whole() {
        let mut extent = Extent::new(16);
        assert_eq!(extent.room(), 16);
        assert!(!extent.overwrites(16));
        assert!(extent.overwrites(17));
        extent.append(10);
        assert_eq!((extent.head(), extent.room()), (LanePosition(10), 6));
        extent.retire_to(LanePosition(4));
        assert_eq!(extent.room(), 10);
        // Retired is not yet released: six bytes are free, the seventh hits what a reader may still be using.
        assert!(!extent.overwrites(6));
        assert!(extent.overwrites(7));
        extent.release_to(LanePosition(4));
        assert!(!extent.overwrites(10));
        extent.append(10);
        assert_eq!((extent.oldest(), extent.head(), extent.room()), (LanePosition(4), LanePosition(20), 0));
    }

    #[test]
    fn positions_do_not_wrap_with_the_memory() {
        let mut extent = Extent::new(8);
        for round in 1..1000_u64 {
            extent.append(5);
            extent.retire_to(LanePosition(round * 5));
            extent.release_to(LanePosition(round * 5));
            assert_eq!(extent.room(), 8);
        }
        assert_eq!(extent.head(), LanePosition(4995));
        assert_eq!(extent.capacity(), 8);
    }
}
