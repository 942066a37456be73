//! What is counted in a ring, each in a type of its own: subjects, frames, bytes of a lane.

use std::fmt;

/// A subject's place in the table; the same for all readers, for as long as the ring lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId(pub u32);

impl SubjectId {
    /// The same number, to index a table with.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A count that only grows. The writer keeps the index and each lane by one (`cursor::Extent`).
pub(crate) trait Growing: Copy + Default + Ord + fmt::Debug {
    fn plus(self, count: u64) -> Self;
    fn since(self, earlier: Self) -> u64;
}

macro_rules! growing {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// So many further on.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0 + count)
            }

            /// How many lie between `earlier` and this; 0 if that is later.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }

            /// Where it lies in a ring of `len` places, a power of two.
            pub(crate) fn place(self, len: usize) -> usize {
                place(self.0, len)
            }
        }

        impl Growing for $name {
            fn plus(self, count: u64) -> Self {
                self.plus(count)
            }

            fn since(self, earlier: Self) -> u64 {
                self.since(earlier)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

growing! {
    /// The number of a frame in the ring's index, in the order of publishing; the ring's first frame has 0. Refreshed
    /// copies have numbers of their own.
    RingIndex;
    /// The number of a byte in a lane; the lane's first byte has 0.
    LanePosition;
}

impl RingIndex {
    /// Stands for no ring index; greater than all.
    pub const NONE: RingIndex = RingIndex(u64::MAX);

    /// That of the next frame.
    #[must_use]
    pub const fn next(self) -> RingIndex {
        self.plus(1)
    }

    /// That of the frame before; `None` for the ring's first.
    #[must_use]
    pub fn previous(self) -> Option<RingIndex> {
        self.0.checked_sub(1).map(RingIndex)
    }

    /// So many frames before; the ring's first if there are not so many.
    #[must_use]
    pub const fn back(self, frames: u64) -> RingIndex {
        RingIndex(self.0.saturating_sub(frames))
    }

    /// This and all that follow, before `end`.
    pub fn until(self, end: RingIndex) -> impl DoubleEndedIterator<Item = RingIndex> {
        (self.0..end.0).map(RingIndex)
    }

    /// As shared memory has it where 0 stands for no frame.
    pub(crate) fn stamp(self) -> u64 {
        self.0.wrapping_add(1)
    }

    /// Of what [`stamp`](Self::stamp) made.
    pub(crate) fn of_stamp(stamp: u64) -> Option<RingIndex> {
        RingIndex(stamp).previous()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what the mask leaves is less than `len`")]
fn place(count: u64, len: usize) -> usize {
    debug_assert!(len.is_power_of_two());
    (count & (len as u64 - 1)) as usize
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::RingIndex;

    #[test]
    fn an_index_has_neighbours_except_at_the_begin_and_a_stamp_in_any_case() {
        let first = RingIndex::default();
        assert_eq!((first.previous(), first.next().previous(), first.back(7)), (None, Some(first), first));
        assert_eq!((RingIndex(3).since(RingIndex(5)), RingIndex(5).since(RingIndex(3))), (0, 2));
        assert!(RingIndex(3).until(RingIndex(6)).eq([3, 4, 5].map(RingIndex)));
        assert_eq!((RingIndex::of_stamp(first.stamp()), RingIndex::of_stamp(0)), (Some(first), None));
        assert_eq!(RingIndex::NONE.stamp(), 0, "whatever a caller asks for");
    }
}
