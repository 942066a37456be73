//! What a worker counts things by: each number has a type, and none can be taken for another.
//!
//! Sessions have theirs from the engine; subjects, frames and bytes of a lane from the ring.

pub(crate) use fanblade_net::SessionId;
pub(crate) use fanblade_ring::{LanePosition, RingIndex, SubjectId};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);

        impl $name {
            /// Of a place in the table: its entries are counted in fewer bits.
            pub(crate) fn of(place: usize) -> Self {
                Self(u32::try_from(place).unwrap_or(u32::MAX))
            }

            /// The same number, to index a table with.
            pub(crate) fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A group's place in `Directory::groups`.
    GroupId;
    /// A filter's place in `Directory::filters`, counted in 30 bits.
    FilterId;
    /// The place of one session's own list in `Lists`, counted in 31 bits.
    ListId;
}
